"""What NVRTC makes of the kernel, run on this processor: its PTX, translated to C++ line by line.

PTX is the last text on the way from the source to a GPU; after it only NVIDIA's assembler and the
card have a say. Every instruction becomes a statement that does what its manual says (PTX ISA), so
that numbers can be compared to the bit; what is not known here is refused. The threads of a block
run one after the other, and what another thread left in shared memory is rubbish to the next.
"""

import re
from pathlib import Path

from dysonflow.simulation.kernel import gpu, nvrtc

TYPES = {
    "pred": "bool",
    "b16": "uint16_t",
    "u16": "uint16_t",
    "s16": "int16_t",
    "b32": "uint32_t",
    "u32": "uint32_t",
    "s32": "int32_t",
    "b64": "uint64_t",
    "u64": "uint64_t",
    "s64": "int64_t",
    "f32": "float",
    "f64": "double",
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
NEGATED = {"neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}
"""Comparisons of floats that hold where one is NaN, and those whose opposite they are."""
SIMPLE = {
    "add": "{1} + {2}",
    "sub": "{1} - {2}",
    "and": "{1} & {2}",
    "or": "{1} | {2}",
    "xor": "{1} ^ {2}",
    "mul.lo": "{1} * {2}",
    "mad.lo": "{1} * {2} + {3}",
    "add.rn": "{1} + {2}",
    "sub.rn": "{1} - {2}",
    "mul.rn": "{1} * {2}",
    "div.rn": "{1} / {2}",
    "rcp.rn": "1 / {1}",
    "fma.rn": "fused({1}, {2}, {3})",
    "sqrt.rn": "root({1})",
    "neg": "-{1}",
    "abs": "magnitude({1})",
    "min": "least({1}, {2})",
    "max": "largest({1}, {2})",
    "selp": "{3} ? {1} : {2}",
}
SPECIAL = {"%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "32u", "%nctaid.x": "nctaid"}
HEAD = Path(__file__).with_suffix(".hpp").read_text(encoding="utf-8")
COUNTERS = """
// What is executed, and the accesses to memory as long as there is room for them: place, size, and
// whether it is written.
extern "C" {{
uint64_t executed[{count}];
uint64_t instructions = {count};
char opcodes[] = "{opcodes}";
uint64_t* accesses = nullptr;
uint64_t room = 0, accessed = 0;
}}
static void seen(uint64_t place, uint64_t size, uint64_t written) {{
    if (accessed >= room) return;
    uint64_t* to = accesses + 3 * accessed++;
    to[0] = place, to[1] = size, to[2] = written;
}}
"""
LAUNCHER = """
extern "C" void working_memory(uint64_t job, uint64_t elements) {
    thread_of_working_memory(0, 0, 1, job, elements);
}

extern "C" void advance(uint64_t job, uint64_t scratch, uint64_t elements, uint64_t stop,
                        uint64_t outcomes, int threads) {
    const uint32_t blocks = threads / 32;
    for (uint32_t block = 0; block < blocks; ++block)
        for (uint32_t thread = 0; thread < 32; ++thread) {
            spoil_shared_memory();
            thread_of_advance(thread, block, blocks, job, scratch, elements, stop, outcomes);
        }
}
"""


class PtxError(Exception):
    """PTX that is not understood here."""


def made(variant, architecture: str = "sm_90") -> str:
    """What NVRTC makes of a variant, with the options that a GPU's code is made with."""
    from cuda.bindings import nvrtc as api

    def checked(answer):
        status, *found = answer
        if status != api.nvrtcResult.NVRTC_SUCCESS:
            raise PtxError(f"NVRTC: {status.name}")
        return found[0] if found else None

    source = nvrtc.source(variant, gpu.layout()).encode()
    program = checked(api.nvrtcCreateProgram(source, b"kernel.cpp", 0, [], []))
    options = nvrtc.options(variant, architecture).as_bytes("nvrtc", "ptx")
    checked(api.nvrtcCompileProgram(program, len(options), options))
    text = b" " * checked(api.nvrtcGetPTXSize(program))
    checked(api.nvrtcGetPTX(program, text))
    checked(api.nvrtcDestroyProgram(program))
    return text.rstrip(b"\0").decode()


def translated(ptx: str, counted: bool = False) -> str:
    """C++ that does what `working_memory` and `advance` do.

    Parameters
    ----------
    ptx : str
        As NVRTC gives it.
    counted : bool
        Whether to count what is executed, and to note what is read and written (COUNTERS).

    Returns
    -------
    str
        Source with both functions, `advance` with the number of threads as a further argument, a
        multiple of 32.

    Raises
    ------
    PtxError
        If there is an instruction, a type or a space that is not known here.
    """
    shared: list[str] = []
    opcodes: list[str] = []
    out = [HEAD]
    for name, parameters, body in re.findall(
        r"\.visible \.entry (\w+)\((.*?)\)[^{]*\n\{(.*?)\n\}", ptx, re.DOTALL
    ):
        names = re.findall(r"\.param \.u64 (\w+)", parameters)
        given = ", ".join(f"uint64_t {one}" for one in names)
        out.append(
            f"static void thread_of_{name}"
            f"(uint32_t tid, uint32_t ctaid, uint32_t nctaid, {given}) {{"
        )
        declared, statements = [], []
        for line in body.splitlines():
            line = line.strip()
            if not line or line.startswith((".pragma", "//")):
                continue
            if line.startswith(".reg"):
                declared.append(_registers(line))
            elif found := re.fullmatch(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];", line):
                align, array, size = found.groups()
                shared.append(array)
                out.insert(1, f"alignas({align}) static uint8_t {array}[{size}];")
            elif line.endswith(":"):
                statements.append(f"{_plain(line[:-1])}:;")
            else:
                opcode, statement = _statement(line, shared, counted)
                if counted:
                    statement = f"++executed[{len(opcodes)}]; {statement}"
                opcodes.append(opcode)
                statements.append(statement)
        out += [*declared, *statements, "}"]
    spoilt = "".join(f"memset({one}, 0xff, sizeof {one}); " for one in shared)
    if counted:
        out.insert(1, COUNTERS.format(count=len(opcodes), opcodes="\\n".join(opcodes)))
    out += [f"static void spoil_shared_memory() {{ {spoilt}}}", LAUNCHER]
    return "\n".join(out)


def _registers(line: str) -> str:
    found = re.fullmatch(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", line)
    if not found or found[1] not in TYPES:
        raise PtxError(line)
    kind, prefix, count = found.groups()
    return f"{TYPES[kind]} " + ", ".join(f"{prefix}{i}" for i in range(int(count))) + ";"


def _plain(name: str) -> str:
    """A register or a label as a name of C++."""
    return name.replace("%", "").replace("$", "")


def _operand(text: str, kind: str, shared: list[str]) -> str:
    """A value of a type: a register, a number or an address of shared memory."""
    own = TYPES[kind]
    if text in SPECIAL:
        return f"({own}){SPECIAL[text]}"
    if text in shared:
        return f"({own}){text}"
    if text.startswith("0d"):
        return f"bits<double>((uint64_t)0x{text[2:]}u)"
    if text.startswith("0f"):
        return f"bits<float>(0x{text[2:]}u)"
    if re.fullmatch(r"-?\d+", text):
        return f"({own})({text}LL)" if text != str(-(2**63)) else f"({own})(1ULL << 63)"
    if re.fullmatch(r"%\w+", text):
        return f"({own}){_plain(text)}"
    raise PtxError(f"operand {text}")


def _statement(line: str, shared: list[str], counted: bool) -> tuple[str, str]:
    """Opcode of an instruction, and what does the same."""
    found = re.fullmatch(r"(?:@(!?)%(\w+)\s+)?([a-z][\w.]*)\s*(.*);", line)
    if not found:
        raise PtxError(line)
    negated, predicate, opcode, rest = found.groups()
    said = _unconditional(opcode, rest, shared, line)
    if counted and opcode.startswith(("ld.", "st.")) and not re.search("param|shared", opcode):
        place = _address(re.search(r"\[.*?\]", rest)[0], shared)
        size = f"{1 + ('.v2.' in opcode)} * sizeof({TYPES[opcode.split('.')[-1]]})"
        said = f"seen({place}, {size}, {int(opcode.startswith('st'))}); {said}"
    if predicate:
        said = f"if ({negated or ''}{predicate}) {{ {said} }}"
    return opcode, said


def _unconditional(opcode: str, rest: str, shared: list[str], line: str) -> str:
    operands = [one.strip() for one in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
    name, *parts = opcode.split(".")
    kind = parts[-1] if parts else ""

    def value(text: str, of: str = kind) -> str:
        return _operand(text, of, shared)

    def put(text: str) -> str:
        return f"{_plain(operands[0])} = {text};"

    if opcode == "ret":
        return "return;"
    if opcode in ("bra", "bra.uni"):
        return f"goto {_plain(operands[0])};"
    if name in ("ld", "st"):
        return _access(opcode, operands, shared, line)
    if name == "cvta":
        return put(value(operands[1]))
    if name == "mov":
        return _move(kind, operands, value, line)
    if name == "cvt":
        return put(_converted(parts, operands[1], value, line))
    if name == "setp" and len(parts) == 2:
        relation = parts[0]
        if kind[0] == "f" and relation == "ne":
            # Not of numbers of which one is NaN.
            return put(
                f"{value(operands[1])} < {value(operands[2])} || "
                f"{value(operands[1])} > {value(operands[2])}"
            )
        if relation in NEGATED:
            relation = COMPARISONS[NEGATED[relation]]
            return put(f"!({value(operands[1])} {relation} {value(operands[2])})")
        if relation not in COMPARISONS:
            raise PtxError(line)
        return put(f"{value(operands[1])} {COMPARISONS[relation]} {value(operands[2])}")
    if opcode.startswith("mul.wide."):
        wide = TYPES[kind.replace("32", "64").replace("16", "32")]
        return put(f"({wide}){value(operands[1])} * ({wide}){value(operands[2])}")
    if name == "not":
        sign = "!" if kind == "pred" else "~"
        return put(f"{sign}{value(operands[1])}")
    if name in ("shl", "shr"):
        kinds = {"shl": "left", "shr": "right" if kind[0] == "s" else "right_unsigned"}
        by = value(operands[2], "u32")
        return put(f"{kinds[name]}<{TYPES[kind]}>({value(operands[1])}, {by})")
    if opcode == "shf.l.wrap.b32":
        return put(f"funnel({', '.join(map(value, operands[1:]))})")
    if name == "bfi":
        at, length = (value(one, "u32") for one in operands[3:])
        whole = f"insert<{TYPES[kind]}>"
        return put(f"{whole}({value(operands[1])}, {value(operands[2])}, {at}, {length})")
    if opcode == "atom.global.min.s64":
        address = _address(operands[1], shared)
        less = f"least({value(operands[2])}, load<int64_t>({address}))"
        return f"{put(f'load<int64_t>({address})')} store<int64_t>({address}, {less});"
    pattern = SIMPLE.get(opcode.removesuffix(f".{kind}"))
    if pattern is None or kind not in TYPES or (name == "max" and kind[0] == "f"):
        raise PtxError(line)
    values = [value(one) for one in operands]
    if name == "selp":
        values[3] = _plain(operands[3])
    return put(pattern.format(*values))


def _address(text: str, shared: list[str]) -> str:
    found = re.fullmatch(r"\[([%\w$]+)(?:\+(-?\d+))?\]", text)
    if not found:
        raise PtxError(f"address {text}")
    return f"{_operand(found[1], 'u64', shared)} + ({found[2] or 0}LL)"


def _access(opcode: str, operands: list[str], shared: list[str], line: str) -> str:
    """A load or a store, of one element or of two."""
    name, *parts = opcode.split(".")
    kind = parts.pop()
    pair = "v2" in parts
    space = [one for one in parts if one not in ("volatile", "nc", "v2")]
    if kind not in TYPES or space not in ([], ["global"], ["shared"], ["param"]):
        raise PtxError(line)
    own, (what, where) = TYPES[kind], operands if name == "ld" else operands[::-1]
    if space == ["param"]:
        return f"{_plain(what)} = {where.strip('[]')};"
    elements = re.findall(r"[^{},\s]+", what)
    if len(elements) != 1 + pair:
        raise PtxError(line)
    address = _address(where, shared)
    said = []
    for i, element in enumerate(elements):
        place = f"{address} + {i} * sizeof({own})"
        if name == "ld":
            said.append(f"{_plain(element)} = load<{own}>({place});")
        else:
            said.append(f"store<{own}>({place}, {_operand(element, kind, shared)});")
    return " ".join(said)


def _move(kind: str, operands: list[str], value, line: str) -> str:
    """A copy, or the same bits as another type, or as two halves."""
    to, source = operands
    halves = [re.findall(r"%\w+", one) for one in (to, source) if one.startswith("{")]
    if halves:
        (low, high), half = map(_plain, *halves), {"b64": "b32", "b32": "b16"}[kind]
        bits_of_half, whole, word = int(half[1:]), TYPES[kind], TYPES[half]
        if to.startswith("{"):
            source = value(source)
            return f"{low} = ({word}){source}; {high} = ({word})({source} >> {bits_of_half});"
        return f"{_plain(to)} = ({whole}){low} | ({whole}){high} << {bits_of_half};"
    if kind[0] == "b":
        # The types of both registers are in their names.
        float_of = {"f": ("float", "uint32_t"), "fd": ("double", "uint64_t")}
        target, origin = (re.fullmatch(r"%([a-z]+)\d+", one) for one in (to, source))
        if target and target[1] in float_of and not source.startswith("0"):
            real, word = float_of[target[1]]
            return f"{_plain(to)} = bits<{real}>(({word}){_plain(source)});"
        if origin and origin[1] in float_of:
            real, word = float_of[origin[1]]
            return f"{_plain(to)} = bits<{word}>({_plain(source)});"
    return f"{_plain(to)} = {value(source)};"


def _converted(parts: list[str], source: str, value, line: str) -> str:
    """Between integers, and from an integer or a float to a float, rounded to the nearest."""
    to, origin = parts[-2:]
    rounding = parts[:-2]
    if to[0] != "f" and origin[0] == "f":
        raise PtxError(line)
    if rounding not in ([], ["rn"]):
        raise PtxError(line)
    return f"({TYPES[to]}){value(source, origin)}"
