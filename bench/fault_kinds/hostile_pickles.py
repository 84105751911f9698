"""Pickles made of operations, plain and as torch.save wraps them: calls, deep nesting, bombs, sizes that are not there."""

from __future__ import annotations

import pickle
import random
import struct
from pathlib import Path

from fault_kinds.mutations import mutated, zipped

SHELL = (
    ("posix", "system"),
    ("os", "system"),
    ("os", "popen"),
    ("subprocess", "getoutput"),
    ("nt", "system"),
    ("pty", "spawn"),
)
CODE = (
    ("builtins", "exec"),
    ("builtins", "eval"),
    ("timeit", "timeit"),
    ("torch.jit", "CompilationUnit"),
    ("code", "interact"),
)
FILES = (("builtins", "open"), ("os", "mkdir"), ("os", "mkfifo"), ("pathlib", "Path"), ("io", "FileIO"), ("numpy", "save"))
GREAT = (
    *(("builtins", "bytearray"), ("builtins", "bytes"), ("builtins", "range"), ("torch", "FloatStorage"), ("torch", "empty")),
    *(("torch", "ByteStorage"), ("torch", "FloatTensor"), ("numpy", "zeros"), ("torch", "Size"), ("collections", "deque")),
)
ODD = (
    *(("torch", "load"), ("torch.hub", "load"), ("torch.storage", "_load_from_bytes"), ("torch._utils", "_rebuild_tensor_v2")),
    *(("builtins", "getattr"), ("builtins", "__import__"), ("numpy.core.multiarray", "scalar"), ("numpy", "dtype")),
    *(("torch._utils", "_rebuild_parameter"), ("collections", "OrderedDict"), ("torch._tensor", "_rebuild_from_type_v2")),
    *(
        ("torch.nn.modules.linear", "Linear"),
        ("distill_prune.cli", "main"),
        ("operator", "attrgetter"),
        ("", ""),
        ("x\\y", "z"),
    ),
)
OPERATIONS = (
    *(
        b"(",
        b".",
        b"0",
        b"1",
        b"2",
        b"N",
        b"]",
        b"}",
        b")",
        b"\x8f",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"l",
        b"d",
        b"R",
        b"b",
        b"o",
    ),
    *(
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x88",
        b"\x89",
        b"\x81",
        b"\x93",
        b"\x94",
        b"K\x07",
        b"M\xff\xff",
        b"J\0\0\0\x80",
        b"Q",
        b"h\0",
    ),
    *(
        b"I1\n",
        b"L9L\n",
        b"F1e999\n",
        b"S'x'\n",
        b"Vx\n",
        b"q\0",
        b"j\xff\xff\xff\xff",
        b"\x8a\x01\x01",
        b"G\x7f\xf0\0\0\0\0\0\0",
    ),
)


def _text(word: str) -> bytes:
    content = word.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _call(module: str, name: str, arguments: bytes, draws: random.Random) -> bytes:
    """A call of a function of a module with arguments on the stack, by one of the ways that pickles have."""
    named = b"c" + f"{module}\n{name}\n".encode()
    match draws.randrange(5):
        case 0:
            return named + b"(" + arguments + b"tR"
        case 1:
            return b"(" + arguments + b"i" + f"{module}\n{name}\n".encode()
        case 2:
            return b"(" + named + arguments + b"o"
        case 3:
            return _text(module) + _text(name) + b"\x93(" + arguments + b"tR"
        case _:
            return named + b"(" + arguments + b"t\x81"


def _great(draws: random.Random) -> bytes:
    count = draws.choice((6 * 10**9, 10**10, 2**31 - 1, 2**40, 2**63 - 1))
    return b"\x8a\x08" + struct.pack("<q", count)


def _storage(count: int, kind: str = "FloatStorage") -> bytes:
    """The persistent name of a storage."""
    size = b"\x8a\x08" + struct.pack("<q", count)
    return b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text("0") + _text("cpu") + size + b"tQ"


def _tensor(draws: random.Random) -> bytes:
    """A tensor of a size and strides that its storage does not have, or that repeat one number without end."""
    sizes = draws.choice(([10**6, 10**6], [2**40], [2**62, 4], [-1], [10**4] * 8, [3, 3], []))
    strides = [draws.choice((0, 0, 1, -1, 2**40)) for _ in sizes]

    def several(numbers: list[int]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in numbers) + b"t"

    offset = b"\x8a\x08" + struct.pack("<q", draws.choice((0, 0, 1, 2**40, -8)))
    kept = _storage(draws.choice((1, 1, 4, 10**12)), draws.choice(("FloatStorage", "LongStorage", "UntypedStorage")))
    rest = several(sizes) + several(strides) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + kept + offset + rest + b"tR"


def program(mark: Path, draws: random.Random) -> bytes:
    """A hostile pickle. One that is executed makes the file `mark`."""
    match draws.randrange(9):
        case 0:
            body = _call(*draws.choice(SHELL), _text(f"touch {mark}"), draws)
        case 1:
            body = _call(*draws.choice(CODE), _text(f"open({str(mark)!r}, 'w')"), draws)
        case 2:
            body = _call(*draws.choice(FILES), _text(str(mark)) + (_text("w") if draws.random() < 0.5 else b""), draws)
        case 3:
            body = _call(*draws.choice(GREAT), _great(draws), draws)
        case 4:
            body = _call(*draws.choice(ODD), draws.choice((_text(str(mark)), _great(draws), b"", b"N", b"]")), draws)
        case 5:
            depth = draws.choice((500, 1000, 5000, 100_000))
            body = draws.choice((b"]" * depth + b"a" * (depth - 1), b"(" * depth + b"t" * depth, b"N" + b"\x85" * depth))
        case 6:
            count = draws.choice((20, 40, 200))  # a list that holds the one before it twice
            twice = (b"](" + b"h" + bytes([i - 1]) + b"h" + bytes([i - 1]) + b"eq" + bytes([i]) for i in range(1, count))
            body = b"]q\0" + b"".join(twice)
        case 7:
            body = draws.choice((_tensor(draws), b"}" + _text("w") + _tensor(draws) + b"s", b"](" + _tensor(draws) * 3 + b"e"))
        case _:
            body = b"".join(draws.choice(OPERATIONS) for _ in range(draws.choice((5, 30, 200))))
    if draws.random() < 0.3:
        body = draws.choice((b"}" + _text("model") + body + b"s", b"](" + body + b"e", body + b"}" + _text("x") + b"Nsb"))
    return b"\x80\x02" + body + b"."


def wrapped(content: bytes, draws: random.Random) -> bytes:
    """A pickle as torch.save writes one today, as it wrote one before, or alone."""
    match draws.randrange(4):
        case 0:
            return content
        case 1:
            head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
            return head + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2) + content
        case _:
            files = {"archive/data.pkl": content, "archive/version": b"3\n", "archive/byteorder": b"little"}
            return zipped({**files, "archive/data/0": bytes(draws.choice((0, 4, 16)))})


def saved(good: bytes, mark: Path, draws: random.Random) -> bytes:
    """A hostile file in the place of a good file of torch.save."""
    if draws.random() < 0.4:
        return mutated(good, draws)
    content = program(mark, draws)
    return wrapped(mutated(content, draws) if draws.random() < 0.1 else content, draws)
