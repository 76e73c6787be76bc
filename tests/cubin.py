"""What the machine code for a GPU says of itself."""

import struct


def resources(code: bytes) -> tuple[int, int]:
    """Registers of a thread and bytes of shared memory of a block of `advance`, by its ELF file.

    `.nv.info` has an entry of four bytes of head (the second one 0x2f for registers) with the
    number of a symbol and the registers of that function.
    """
    (table,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, table + i * size) for i in range(count)]

    def text(start: int) -> str:
        return code[start : code.index(b"\0", start)].decode()

    sections = {text(headers[names][4] + one[0]): one for one in headers}
    symbols, strings = sections[".symtab"][4], sections[".strtab"][4]
    at, end = sections[".nv.info"][4], sum(sections[".nv.info"][4:6])
    registers = 0
    while at < end:
        kind, what, length = struct.unpack_from("<BBH", code, at)
        if kind == 4 and what == 0x2F:
            symbol, number = struct.unpack_from("<II", code, at + 4)
            (name,) = struct.unpack_from("<I", code, symbols + 24 * symbol)
            if text(strings + name) == "advance":
                registers = number
        at += 4 + (length if kind == 4 else 0)
    shared = sections.get(".nv.shared.advance")
    return registers, shared[5] if shared else 0
