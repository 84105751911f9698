"""Hostile files of numbers and images: npz, PNG and other images, safetensors, tar archives."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fault_kinds.mutations import bomb, inside, mutated, zipped

SHAPES = (
    *("()", "(0,)", "(-1, 3)", "(1000000000000,)", "(9223372036854775808,)", "(3, -9223372036854775808)", "(4, 8, 8, 1, 1, 1)"),
    *("'x'", "None", "(True,)", "(2.5,)", "(" * 200 + ")" * 200, "(4, 8, 8, 1)", "(1000000, 1000000, 0)", "(99999, 99999, 3)"),
)
TYPES = (
    *("'|O'", "'<f8'", "'|u1'", "'|V9'", "'<U1000000000'", "'>i2'", "'<c16'", "'<M8[ns]'", "[('a', '<i4')]", "'|b1'", "'<f2'"),
    *(
        "__import__('os').system('touch MARK')",
        "''",
        "'<i8'",
        "'x'",
        "None",
        "[]",
        "{'names': ['a'], 'formats': ['O']}",
        "'<S0'",
    ),
)
LABELS = (
    *(np.arange(40) % 4, np.arange(40), np.full(40, 10**12), -np.ones(40, int), np.full(40, np.nan), np.zeros(40, bool)),
    *(
        np.array(["a", "b"] * 20),
        np.zeros((40, 2)),
        np.zeros(0, int),
        np.array(0),
        np.array([{}] * 40),
        np.full(40, 2**63, np.uint64),
    ),
)


def npy(shape: str, kind: str, content: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """A file of one array whose head says what it likes."""
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(head) % 65536)
    return b"\x93NUMPY" + bytes(version) + size + head + content


def npz(good: bytes, mark: Path, draws: random.Random) -> bytes:
    """A hostile file in the place of a good npz file of images and labels."""
    match draws.randrange(6):
        case 0:
            return mutated(good, draws)
        case 1:
            return inside(good, lambda content: mutated(content, draws), draws)
        case 2:
            kind = draws.choice(TYPES).replace("MARK", str(mark))
            array = npy(
                draws.choice(SHAPES),
                kind,
                bytes(draws.choice((0, 1, 256, 4096))),
                draws.choice(((1, 0), (2, 0), (3, 0), (9, 9))),
            )
            return inside(good, lambda _: array, draws)
        case 3:
            rows, side = draws.choice((40, 0, 1)), draws.choice((8, 1, 0, 3))
            images = np.zeros(
                (rows, side, side, draws.choice((1, 3, 2))), draws.choice((np.uint8, np.float32, np.float64, np.int64))
            )
            target = io.BytesIO()
            np.savez(
                target,
                x=images,
                y=draws.choice(LABELS),
                classes=draws.choice((["a"] * 4, [["a"]], [1, 2], ["\x1b[2J", "", "b"])),
            )
            return target.getvalue()
        case 4:
            return zipped({"x.npy": npy("(4, 8, 8, 1)", "'|u1'", bytes(256)), "../y.npy": b"", str(mark): b"x", "y.npy": b""})
        case _:
            zeros = draws.choice((2**22, 2**28, 3 * 2**29))
            return bomb(npy(f"({zeros // 64}, 8, 8, 1)", "'|u1'", b""), zeros)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, draws: random.Random) -> bytes:
    """A PNG of these sizes, nearly all of it zeros that are packed, with odd depths, colours and chunks."""
    depth, colour = draws.choice(((8, 0), (8, 2), (16, 6), (1, 0), (8, 3), (9, 9)))
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 6: 4}.get(colour, 1) + 7) // 8
    pixels = zlib.compress(bytes(min(max(0, row * height), 2**24)), 9)
    extra = b"".join(
        _chunk(draws.choice((b"tEXt", b"zTXt", b"iCCP", b"PLTE", b"acTL", b"tRNS")), draws.randbytes(20))
        for _ in range(draws.randrange(3))
    )
    if draws.random() < 0.2:
        extra += _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24), 9))
    head = struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth, colour, 0, 0, draws.choice((0, 0, 1)))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def images(good: Mapping[str, bytes], folder: Path, draws: random.Random) -> None:
    """A folder of classes with good images, and hostile files and names among them."""
    classes = draws.sample(
        ("a", "b", "caf\u00e9", "cafe\u0301", "a b", "\U0001f600", "0", "x" * 200, ".", "-rf", "$(x)", "<b>"), 3
    )
    for index, name in enumerate(c for c in classes if c != "."):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            (folder / name / f"{index}{number}.png").write_bytes(good[".png"])
    place = folder / next(c for c in classes if c != ".")
    suffix = draws.choice(sorted(good))
    odd = place / f"odd{suffix}"
    match draws.randrange(7):
        case 0 | 1:
            odd.write_bytes(mutated(good[suffix], draws))
        case 2 | 3:
            great = draws.choice(((13_000, 13_000), (2**31 - 1, 1), (1, 2**31 - 1), (0, 0), (8, 8), (60_000, 4), (-1, -1)))
            odd.with_suffix(".png").write_bytes(png(*great, draws))
        case 4:
            draws.choice((os.mkfifo, os.mkdir, lambda p: Path(p).symlink_to(p), lambda p: Path(p).symlink_to("/dev/zero")))(odd)
        case 5:
            odd.write_bytes(
                draws.choice((b"", b"\0" * 100, b"GIF89a" + bytes(20), b"BM" + b"\xff" * 60, b"RIFF\xff\xff\xff\xffWEBPVP8 "))
            )
        case _:
            Path(os.fsdecode(os.fsencode(place) + b"/\xff\xfe.png")).write_bytes(good[".png"])


def safetensors(good: bytes, draws: random.Random) -> bytes:
    """A hostile file in the place of a good safetensors file."""
    length = int.from_bytes(good[:8], "little")
    head, rest = json.loads(good[8 : 8 + length]), good[8 + length :]
    names = sorted(n for n in head if n != "__metadata__")
    name = draws.choice(names)
    match draws.randrange(9):
        case 0 | 1:
            return mutated(good, draws)
        case 2:
            return draws.choice((0, 1, 2**40, 2**63, 2**64 - 1, length + 1, length - 1)).to_bytes(8, "little") + good[8:]
        case 3:
            head[name]["shape"] = draws.choice(([2**62, 4], [-1], [], [0], [1e3], ["x"], None, [10**6, 10**6], {}))
        case 4:
            head[name]["data_offsets"] = draws.choice(
                ([0, 2**63], [-4, 0], [4, 0], [0, 0], [1], "x", [0, len(rest) + 4], [0.5, 1])
            )
        case 5:
            head[name]["dtype"] = draws.choice(("F64", "BOOL", "F8_E4M3", "I8", "x", None, 3, "U64", "BF16"))
        case 6:
            head["__metadata__"] = draws.choice(
                ({"a": 1}, {"format": "\x1b[2J"}, [], None, {"x" * 10**5: "y" * 10**6}, {"\ud800": ""})
            )
        case 7:
            head = draws.choice(
                ({}, [], None, {"": head[name]}, dict.fromkeys(names, head[name]), {f"x{i}": head[name] for i in range(5000)})
            )
        case _:
            values = np.frombuffer(rest, np.uint32).copy() if len(rest) % 4 == 0 else np.zeros(1, np.uint32)
            values[draws.randrange(len(values)) :] = draws.choice((0x7FC00000, 0x7F800000, 0, 0xFFFFFFFF))
            rest = values.tobytes()
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + rest


def _member(name: str, draws: random.Random, outside: Path) -> tuple[tarfile.TarInfo, bytes]:
    """A member that wants to lie elsewhere, or to be something else than a file."""
    info = tarfile.TarInfo(
        draws.choice((name, f"../{outside.name}", f"../../{outside.name}", str(outside), "", ".", "a/" * 2000, "x\0y"))
    )
    info.type = draws.choice(
        (*tarfile.REGULAR_TYPES, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    )
    info.linkname = draws.choice(("/etc/passwd", f"../../{outside.name}", str(outside), name))
    content = draws.randbytes(draws.choice((0, 10, 600)))
    info.size = len(content) if info.isreg() else 0
    info.mode = draws.choice((0o644, 0o7777, 0))
    return info, content


def archive(good: bytes, outside: Path, draws: random.Random) -> bytes:
    """A hostile archive in the place of a good one. `outside` is a file that must not be made."""
    if draws.random() < 0.3:
        return mutated(good, draws)
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        for info in tar:
            file = tar.extractfile(info)
            entries.append((info, file.read() if file else b""))
    for _ in range(draws.choice((1, 1, 3))):
        place = draws.randrange(len(entries))
        info, content = entries[place]
        match draws.randrange(6):
            case 0:
                entries.insert(place, _member(info.name, draws, outside))
            case 1:
                entries[place] = _member(info.name, draws, outside)
            case 2:
                entries[place] = info, mutated(content, draws)
            case 3:
                entries.insert(place, entries[draws.randrange(len(entries))])
            case 4 if len(entries) > 1:
                del entries[place]
            case _:
                entries[0] = entries[0][0], _index(entries[0][1], outside, draws)
    target = io.BytesIO()
    form = draws.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=target, mode="w:gz" if draws.random() < 0.1 else "w", format=form) as tar:
        for info, content in entries:
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def _index(content: bytes, outside: Path, draws: random.Random) -> bytes:
    """The index of an archive with a value that it should not have."""
    odd: object = draws.choice(
        (None, [], {}, -1, 2**70, 1e999, "", f"../../{outside.name}", str(outside), "\x1b[2J", "\ud800", [[]] * 9)
    )
    try:
        index = json.loads(content)
        entry = draws.choice((index, index["artifacts"][0], index["artifacts"][0]["files"], index["files"]))
        entry[draws.choice([*entry, "more"])] = odd
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return mutated(content, draws)
    return json.dumps(index).encode()
