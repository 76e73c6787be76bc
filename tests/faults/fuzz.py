"""Feed damaged and hostile files to the readers of foreign weights.

    python tests/faults/fuzz.py --cases 10000

Every case is a small file of one format, changed by a generator of its own seed: bits and numbers
in its bytes, or the parts that it is made of (headers, shapes, offsets, opcodes), put together anew
with valid checksums. Reading it must give an array or one line, in a process that neither ends, nor
hangs, nor takes more memory than the file may ask for, nor runs what the file says.
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from dysonflow.errors import ConfigError
from dysonflow.readers import arrays
from dysonflow.readers.checkpoints import open_checkpoint
from dysonflow.readers.layers import Rules, choose, read_layers

FORMATS = ("npz", "safetensors", "pt")
BATCH = 500
"""Cases that one process reads."""
HANGING = 600
"""Seconds after which a case is taken to hang, on the slowest machine."""
LARGEST = 200 * 2**20
"""Bytes that a process may grow by: every file is smaller than 200 kB."""
ROOM = 2**34
"""Bytes of addresses that a process may ask for, so that a failure harms no one else."""
HUGE = [0, 1, 2, 3, 7, 8, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**12]
HUGE += [2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63)]
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.mkdir", "os.remove", "subprocess.Popen")
"""What no reader does, by the name of its audit event."""
WEIGHTS = np.arange(24.0).reshape(2, 3, 2, 2)


# --- whole files ----------------------------------------------------------------------------------


def a_zip(members, how=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def torch_file(content, new=True):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


def sound(suffix):
    """Whole files of a format."""
    if suffix == "npz":
        members = [("w.npy", npy(WEIGHTS)), ("v.npy", npy(WEIGHTS.astype("f4")))]
        return [a_zip(members), a_zip(members, zipfile.ZIP_DEFLATED)]
    if suffix == "safetensors":
        return [safetensors.numpy.save({"w": WEIGHTS, "v": WEIGHTS.astype("f4")}, {"a": "b"})]
    tensors = {"w": torch.from_numpy(WEIGHTS), "v": torch.zeros(2, 2), "n": [1, (2.5, None)]}
    return [torch_file(tensors), torch_file(tensors, new=False)]


# --- changes of bytes -----------------------------------------------------------------------------


def flip(raw, draw):
    for _ in range(draw.choice([1, 1, 2, 8])):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)


def set_number(raw, draw):
    width = draw.choice([2, 4, 8])
    place = draw.randrange(max(len(raw) - width, 1))
    value = draw.choice(HUGE) % 2 ** (8 * width)
    raw[place : place + width] = value.to_bytes(width, draw.choice(["little", "big"]))


def cut(raw, draw):
    first, last = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
    del raw[first:last]


def truncate(raw, draw):
    del raw[draw.randrange(len(raw)) :]


def repeat(raw, draw):
    first, last = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
    raw[first:first] = raw[first:last]


def insert(raw, draw):
    place = draw.randrange(len(raw) + 1)
    raw[place:place] = draw.choice([b"\0" * 9, b"PK\3\4", b"\x80\2", b"[" * 99, draw.randbytes(9)])


def changed(raw, draw, times=(0, 1, 1, 2, 4)):
    """Bytes with some changes."""
    raw = bytearray(raw)
    for _ in range(draw.choice(times)):
        if raw:
            draw.choice([flip, flip, set_number, cut, truncate, repeat, insert])(raw, draw)
    return bytes(raw)


# --- changes of parts -----------------------------------------------------------------------------


def numbers(draw):
    return [draw.choice(HUGE) for _ in range(draw.choice([0, 1, 2, 4, 4, 4, 5, 40]))]


def hostile_npz(draw):
    kinds = [
        "<f8",
        "<f8",
        ">f4",
        "<f2",
        "|O",
        "<U9",
        "|V8",
        "<M8[s]",
        "<c16",
        "<f80",
        "",
        "[" * 200,
    ]
    shape = draw.choice([(2, 3, 2, 2), tuple(numbers(draw)), numbers(draw), "(((", None, 2**70])
    header = {"descr": draw.choice(kinds), "fortran_order": draw.choice([False, True, 3])}
    text = repr(header | {"shape": shape})
    text = draw.choice([text, text, text, changed(text.encode(), draw).decode("latin-1")])
    text = draw.choice(
        [text, text, "(" * 5000, "{" + "1:" * 4000, "-" * 9000 + "1", "[" * 190 + text]
    )
    raw = text.encode("latin-1") + b" " * draw.choice([0, 7, 99]) + b"\n"
    length = draw.choice([len(raw)] * 5 + [0, 65535])
    version = draw.choice([1, 1, 1, 2, 3, 9])
    start = (
        struct.pack("<H", length)
        if version == 1
        else struct.pack("<I", draw.choice([length, 2**32 - 1]))
    )
    values = draw.choice([WEIGHTS.tobytes(), b"", bytes(draw.choice([9, 192]))])
    if draw.random() < 0.02:
        values = bytes(60_000_000)
    content = b"\x93NUMPY" + bytes([version, 0]) + start + raw + values
    how = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    if len(values) > 1000:
        how = draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    name = draw.choice(["w.npy", "w.npy", "w", "w\n\x1b[2J.npy", "w" * 60000, "../w.npy"])
    file = a_zip([(name, content), *([("w", b"x")] * draw.choice([0, 0, 1]))], how)
    return changed(file, draw, (0, 0, 1))


def hostile_safetensors(draw):
    def tensor():
        return {
            "dtype": draw.choice(["F64", "F64", "F32", "BF16", "F8_E4M3", "I64", "F128", 7]),
            "shape": draw.choice([[2, 3, 2, 2], numbers(draw)]),
            "data_offsets": draw.choice([[0, 192], [192, 384], [100, 50], numbers(draw), []]),
        }

    index = {name: tensor() for name in draw.choice([["w"], ["w", "v"], ["w\n\u2028", "v"], []])}
    if draw.random() < 0.3:
        index["__metadata__"] = draw.choice([{"a": "b"}, {"a": 1}, [], {"a": "b" * 9000}])
    text = json.dumps(index)
    text = draw.choice(
        [text, text, "[" * 50000, text.replace("}", ""), '{"w":' * 20000, text + "  "]
    )
    raw = changed(text.encode(), draw, (0, 0, 0, 1))
    length = draw.choice([len(raw)] * 6 + HUGE) % 2**64
    return length.to_bytes(8, "little") + raw + WEIGHTS.tobytes() * draw.choice([0, 1, 2])


NAMES = ["collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "torch\nDoubleStorage"]
NAMES += ["torch._utils\n_rebuild_parameter", "torch\nTensor", "torch\nSize", "builtins\nbytearray"]
NAMES += ["__builtin__\nbytearray", "builtins\nset", "_codecs\nencode", "torch\nUntypedStorage"]
NAMES += ["torch._utils\n_rebuild_sparse_tensor", "torch._utils\n_rebuild_meta_tensor_no_storage"]
NAMES += ["torch\nfloat64", "torch.nn.parameter\nParameter", "torch._tensor\n_rebuild_from_type_v2"]
NAMES += [
    "os\nmkdir",
    "builtins\neval",
    "posix\nsystem",
    "torch\nload",
    "torch._utils\n_rebuild_qtensor",
]


def opcode(draw):
    """One opcode of a pickle with its argument."""
    number = draw.choice(HUGE)
    simple = b"()]}t\x85\x86\x87lda.eus0RbQ\x81\x94NqU2\x88\x89o"
    return draw.choice(
        [
            bytes([draw.choice(simple)]),
            bytes([draw.choice(simple)]),
            b"c" + draw.choice(NAMES).encode() + b"\n",
            b"J" + struct.pack("<i", number % 2**31),
            b"\x8a\x08" + struct.pack("<Q", number % 2**64),
            b"X" + struct.pack("<I", draw.choice([1, number % 2**32])) + b"w",
            b"X\x07\x00\x00\x00storage",
            b"h" + bytes([draw.randrange(4)]),
            b"q" + bytes([draw.randrange(4)]),
            b"K" + bytes([number % 256]),
        ]
    )


def packed(value):
    """Opcodes that make a value of whole numbers, texts, tuples, or a global by its name."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(packed, value)) + b"t"
    if isinstance(value, bytes):
        return b"c" + value + b"\n"
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    return b"\x8a\x09" + int(value).to_bytes(9, "little", signed=True)


def a_tensor(draw):
    """Opcodes of a tensor: of any shape, offset and steps, or of no numbers at all."""
    kind = draw.choice([b"torch\nDoubleStorage", b"torch\nHalfStorage", b"torch\nUntypedStorage"])
    count = draw.choice([24, 24, *HUGE])
    storage = packed(("storage", kind, draw.choice(["0", "1", "../0"]), "cpu", count)) + b"Q"
    shape = draw.choice([(2, 3, 2, 2), tuple(numbers(draw))])
    steps = draw.choice([(12, 4, 2, 1), (0, 0, 0, 0), tuple(numbers(draw))])
    offset = packed(draw.choice([0, 0, *HUGE]))
    rest = packed(shape) + packed(steps) + b"\x89" + packed(b"collections\nOrderedDict") + b")R"
    if draw.random() < 0.15:
        made = packed(
            draw.choice([b"torch\nTensor", b"torch\nDoubleStorage", b"builtins\nbytearray"])
        )
        return made + packed((draw.choice(HUGE),)) + b"R"
    return packed(b"torch._utils\n_rebuild_tensor_v2") + b"(" + storage + offset + rest + b"tR"


def nested(draw):
    """Opcodes of lists of lists: many times the same one, within itself, or very deep."""
    kind = draw.choice(["shared", "circle", "deep"])
    if kind == "circle":
        return b"]q\0h\0a"
    if kind == "deep":
        depth = draw.choice([2000, 20000])
        return b"]" * depth + b"a" * (depth - 1)
    # Each of the entries of the dictionary holds the one before it nine times.
    entries = [b"](" + (b"h" + bytes([k])) * 9 + b"eq" + bytes([k + 1]) for k in range(40)]
    return b"]q\0" + b"".join(b"s" + packed(f"l{k}") + one for k, one in enumerate(entries))


def hostile_pt(draw):
    body = draw.choice(
        [
            lambda: b"}" + packed("w") + a_tensor(draw) + b"s",
            lambda: (
                b"}" + packed(draw.choice(["w", "w\n\x1b[2J", "w" * 50000])) + a_tensor(draw) + b"s"
            ),
            lambda: b"}" + packed("w") + nested(draw) + b"s",
            lambda: b"".join(opcode(draw) for _ in range(draw.randrange(40))),
        ]
    )()
    content = changed(b"\x80\2" + body + b".", draw, (0, 0, 0, 1))
    if draw.random() < 0.2:
        # The older layout: a magic number, a version and the machine's type come first.
        start = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}q\0."
        keys = b"\x80\2]q\0X\1\0\0\0" + b"0a."
        return (
            start
            + content
            + keys
            + struct.pack("<q", draw.choice([24, *HUGE[:14]]))
            + WEIGHTS.tobytes()
        )
    data = draw.choice([WEIGHTS.tobytes(), b"", bytes(draw.choice([9, 192]))])
    if draw.random() < 0.02:
        data = bytes(20_000_000)
    how = zipfile.ZIP_DEFLATED if len(data) > 1000 else zipfile.ZIP_STORED
    members = [("a/data.pkl", content), ("a/byteorder", b"little"), ("a/data/0", data)]
    members += [("a/version", b"3\n"), ("a/.data/serialization_id", b"0")]
    members += [("a/constants.pkl", b"\x80\2)."), ("a/code/a.py", b"")] * draw.choice([0, 0, 0, 1])
    return changed(a_zip(members, how), draw, (0, 0, 1))


HOSTILE = {"npz": hostile_npz, "safetensors": hostile_safetensors, "pt": hostile_pt}


def case(suffix, seed, number):
    """The bytes of a case."""
    draw = random.Random(f"{suffix} {seed} {number}")
    if draw.random() < 0.5:
        return changed(draw.choice(sound(suffix)), draw, (1, 1, 2, 4))
    return HOSTILE[suffix](draw)


# --- reading them ---------------------------------------------------------------------------------


def outcome(path):
    """What comes of reading an array of a file, and then of it as a whole network."""
    found = [outcome_of(read_array, path), outcome_of(read_network, path)]
    return next((text for text in found if text not in ("read", "refused")), found[0])


def read_network(path):
    """Read all layers of a file."""
    checkpoint = open_checkpoint(str(path))
    layers, _ = choose(checkpoint, Rules())
    for layer, matrix in read_layers(checkpoint, layers, "float64"):
        if matrix.shape != (layer.rows, layer.columns) or matrix.dtype != np.float64:
            return f"{matrix.shape} {matrix.dtype} is not {layer}"
    return "read"


def outcome_of(how, path):
    """What comes of reading: `read` or `refused`; anything else is a problem in words."""
    try:
        return how(path)
    except ConfigError as error:
        line = str(error)
        if not line.isprintable() or len(line) > 3000 or str(path) not in line:
            return f"not one line: {line[:300]!r}"
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def read_array(path):
    """Read the array `w` of a file."""
    header = arrays.header(path, "w")
    values = arrays.read(path, "w")
    if values.shape != header.shape or values.dtype != header.dtype:
        return f"{values.shape} {values.dtype} is not {header}"
    return "read"


def growth(before):
    """Bytes by which this process has grown at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def read_cases(suffix, seed, first, stop, folder, tell):
    """Read some cases; tells the number of each case before it is read, and what came of it."""
    used = []
    sys.addaudithook(lambda event, _: used.append(event) if event in FORBIDDEN else None)
    path = Path(folder) / f"a.{suffix}"
    # What the imports take counts for nothing.
    for raw in sound(suffix):
        path.write_bytes(raw)
        outcome(path)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]
    taken = int(pages) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, hard))
    before = growth(0)
    for number in range(first, stop):
        path.write_bytes(case(suffix, seed, number))
        # Making the file may take more than reading it may.
        made = growth(before)
        tell(f"{number} begun")
        signal.alarm(HANGING)
        used.clear()
        text = outcome(path)
        signal.alarm(0)
        if used:
            text = f"ran {used}"
        if growth(before) > max(made, 0) + LARGEST:
            text = f"grew by {growth(before) >> 20} MiB"
            before += growth(before)
        tell(f"{number} {text}")


def in_a_process(suffix, seed, first, stop, folder):
    """As `read_cases`, in a process of its own; outcomes by number, and where it stopped."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # What the libraries warn of is not what is tested.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

            def tell(text):
                os.write(send, text.replace("\n", " ").encode("utf-8", "replace") + b"\n")

            read_cases(suffix, seed, first, stop, folder, tell)
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    found, last = {}, first - 1
    with open(receive, encoding="utf-8") as stream:
        for line in stream:
            number, text = line.rstrip("\n").split(" ", 1)
            last = int(number)
            found[last] = text
    _, status = os.waitpid(child, 0)
    if status:
        found[last] = f"the process ended with {os.waitstatus_to_exitcode(status)}"
    return found, last + 1


def campaign(suffix, cases, seed=1):
    """Read cases of one format; counts of outcomes, and problems."""
    counts, problems, first = Counter(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        while first < cases:
            found, first = in_a_process(suffix, seed, first, min(first + BATCH, cases), folder)
            for number, text in found.items():
                is_fine = text in ("read", "refused")
                counts[text if is_fine else "problem"] += 1
                if not is_fine:
                    problems.append(f"{suffix} {seed} {number}: {text}")
    return counts, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS)
    arguments = parser.parse_args()
    failed = False
    for suffix in arguments.format:
        began = time.monotonic()
        counts, problems = campaign(suffix, arguments.cases, arguments.seed)
        print(f"{suffix}: {dict(sorted(counts.items()))}, {time.monotonic() - began:.0f} s")
        print(*problems, sep="\n", end="\n" * bool(problems), flush=True)
        failed = failed or bool(problems)
    return failed


if __name__ == "__main__":
    sys.exit(main())
