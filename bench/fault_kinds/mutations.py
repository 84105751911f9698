"""Mutations of any bytes, and of the members of a zip file."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable
from functools import cache

EXTREME = (
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\0\0\0\0",
    b"\xff" * 8,
    b"\0\0\0\0\0\0\0\x80",
    b"\0\xff",
    b"\n",
)


def mutated(content: bytes, draws: random.Random) -> bytes:
    """A few bytes changed, cut out, put in, doubled or overwritten."""
    data = bytearray(content)
    for _ in range(draws.choice((1, 1, 2, 4, 16, 64))):
        place, length = draws.randrange(len(data) + 1), draws.choice((1, 2, 8, 64, 512))
        match draws.randrange(7):
            case 0 if place < len(data):
                data[place] ^= 1 << draws.randrange(8)
            case 1 if place < len(data):
                data[place] = draws.randrange(256)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = draws.randbytes(length)
            case 4:
                data[place:place] = data[place : place + length]
            case 5:
                extreme = draws.choice(EXTREME)
                data[place : place + len(extreme)] = extreme
            case _ if draws.random() < 0.1:
                del data[place:]
    return bytes(data)


def members(content: bytes) -> dict[str, bytes]:
    """What a zip file holds."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(contents: dict[str, bytes], *, pressed: bool = False) -> bytes:
    """A zip file with these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if pressed else zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target.getvalue()


def inside(content: bytes, change: Callable[[bytes], bytes], draws: random.Random) -> bytes:
    """A zip file, one member of which is changed."""
    contents = members(content)
    name = draws.choice(sorted(contents))
    contents[name] = change(contents[name])
    return zipped(contents, pressed=draws.random() < 0.3)


@cache
def bomb(head: bytes, zeros: int) -> bytes:
    """A zip file whose one member is `head` and then a great many zeros, at a thousandth of their size."""
    target, piece = io.BytesIO(), bytes(2**20)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        member.write(head)
        for _ in range(zeros // len(piece)):
            member.write(piece)
    return target.getvalue()


@cache
def packed_zeros(count: int) -> bytes:
    """The same as a gzip file without a head."""
    target, piece = io.BytesIO(), bytes(2**20)
    with gzip.GzipFile(fileobj=target, mode="wb", mtime=0) as file:
        for _ in range(count // len(piece)):
            file.write(piece)
    return target.getvalue()
