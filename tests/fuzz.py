"""Damaged and altered files from outside, many and seeded, in a process of their own: `python fuzz.py FOLDER SEED ROUNDS`.

Prints, as JSON, how many of each kind were refused and read, whatever else was raised, and the peak of memory.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from distill_prune.checkpoints import load, state_dicts
from distill_prune.data import image_file, npz_file, tsv_file
from distill_prune.errors import DistillPruneError
from distill_prune.limits import Budget


def _archive(path: Path) -> object:
    archive = npz_file.Archive.read(path)
    return archive.pixels(torch.arange(len(archive.labels)))


def _image(path: Path) -> object:
    return image_file.decode([path], None, 3, Budget(path))


def _kinds(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """A valid file of each kind, and what reads it."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (4, 5, 5, 3), dtype=np.uint8), np.arange(4)
    state = {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3), "steps": torch.tensor(3)}
    np.savez(folder / "plain.npz", x=x, y=y)
    np.savez_compressed(folder / "packed.npz", x=x, y=y, classes=np.array(list("abcd")))
    torch.save(state, folder / "state.pt")
    torch.save({"epoch": 3, "state_dict": state}, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "state.safetensors")
    for name in ("a.png", "a.webp", "a.jpg", "a.bmp"):
        Image.fromarray(x[0]).save(folder / name)
    (folder / "a.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\nso it is\t1\n" * 9))
    tensors, archives = state_dicts.read_tensors, ("plain.npz", "packed.npz")
    return {
        **{name: (folder / name, _archive) for name in archives},
        **{name: (folder / name, _image) for name in ("a.png", "a.webp", "a.jpg", "a.bmp")},
        **{name: (folder / name, tensors) for name in ("old.pt", "state.safetensors")},
        "state.pt": (folder / "state.pt", lambda path: (load(path), tensors(path))),
        "a.tsv.gz": (folder / "a.tsv.gz", tsv_file.text_of),
    }


def _altered(good: bytes, draw: random.Random) -> bytes:
    """The file with one to three places flipped, overwritten by large numbers, cut out or doubled."""
    content = bytearray(good)
    for _ in range(draw.randint(1, 3)):
        at, length = draw.randrange(len(content) or 1), draw.choice((1, 2, 4, 8, 40))
        match draw.randrange(6):
            case 0:
                content[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                content[at : at + length] = b"\xff" * length
            case 2:
                content[at : at + length] = bytes(length)
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case _:
                del content[at:]
    return bytes(content)


def main(folder: Path, seed: int, rounds: int) -> None:
    draw, counts, failures = random.Random(seed), Counter[str](), list[str]()
    for name, (path, read) in _kinds(folder).items():
        read(path)
        good = path.read_bytes()
        for number in range(rounds):
            path.write_bytes(_altered(good, draw))
            try:
                read(path)
                counts[f"{name} read"] += 1
            except DistillPruneError as error:
                counts[f"{name} refused"] += 1
                if error.exit_code != 2 or path.name not in str(error) or len(str(error)) > 1000:
                    failures.append(f"{name}, alteration {number}: {error}")
            except BaseException:
                failures.append(f"{name}, alteration {number}: {traceback.format_exc()}")
    # of this program alone: getrusage would tell of what the process was before, too
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps({"counts": counts, "failures": failures, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
