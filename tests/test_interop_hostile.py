"""Hostile and damaged foreign files of sets: refused in words of ours, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_interop_sets import LR, NAMES, NAN, NORMALIZE, PIXELS, POINTER, X, Y, network, read, saved
from safetensors.torch import save_file

from distill_prune import checkpoints
from distill_prune.checkpoints import pickles
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.errors import ConfigError, DataError, DistillPruneError
from distill_prune.interop import Origin
from distill_prune.limits import VARIABLE


class Attack:
    """Makes a file where it is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def readers(path: Path) -> list[tuple[str, dict[str, Any], Path]]:
    """Every format that reads files of torch.save, with its file of images at `path`."""
    folder = path.parent
    for name in ("images_best.pt", "labels_best.pt", "lr_best.pt", "images.pt", "data.pt", "replay_buffer_0.pt"):
        (folder / name).write_bytes(path.read_bytes())
    return [
        ("mtt", LR, folder),
        ("datm", {"space": "normalize"}, folder),
        ("dc", {}, path),
        ("idc", {"factor": 1}, folder),
        ("ddranking", {"space": "normalize"}, folder),
        ("mtt-experts", {}, folder),
    ]


def test_hostile_pickles_are_not_executed(tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "in" / "a.pt"
    for value in (Attack(mark), {"data": [[X, Y]], "accs_all_exps": Attack(mark)}, [X, Attack(mark)]):
        saved(path, value)
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=r"(?s)is refused, not executed.*a pickle that calls posix.mkdir"):
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
        path.write_bytes(pickle.dumps(value))
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=r"a\.pt|best|images|data|replay"):
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
    assert not mark.exists()
    torch.load(saved(path, Attack(mark)), weights_only=False)
    assert mark.exists(), "the attack works where it is executed"


def test_inert_names_execute_nothing(tmp_path: Path) -> None:
    """`numpy.dtype` and `scalar` are read over, and not called."""
    path = saved(tmp_path / "a.pt", [np.float64(3), X])
    found: Any = checkpoints.load(path, inert=("numpy.dtype", "numpy._core.multiarray.scalar"))
    assert not isinstance(found[0], np.generic | float) and torch.equal(found[1], X)
    with pytest.raises(DataError, match="calls numpy"):  # the names were inert for that file alone
        checkpoints.load(path)


def test_damaged_files(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.pt", X).read_bytes()
    path = tmp_path / "in" / "a.pt"
    path.parent.mkdir()
    damaged = {
        r"is empty": b"",
        r"is a pointer of Git LFS.*git lfs pull": POINTER,
        r"cannot be read as a file of torch.save, or is only a part of one": good[: len(good) // 2],
        r"cannot be read as a file of torch.save.*a reference to what is not there": b"hello",
        r"cannot be read as a file of torch.save": b"PK\x03\x04" + bytes(50),
    }
    for match, content in damaged.items():
        path.write_bytes(content)
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=f"(?s){match}") as caught:
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
            assert len(str(caught.value)) < 600


def test_every_cut_and_flip_is_an_error_of_ours(tmp_path: Path) -> None:
    """A damaged file is refused, or read as something: never another kind of failure."""
    path = saved(tmp_path / "data.pt", [PIXELS.images, Y])
    good = path.read_bytes()
    refused = 0
    for place in range(0, len(good), 37):
        for content in (good[:place], good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]):
            path.write_bytes(content)
            try:
                read("idc", path, factor=1)
            except DistillPruneError:
                refused += 1
    assert refused > len(good) / 37


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=X.numpy(), labels=Y.numpy())
    good = path.read_bytes()
    for content, match in (
        (good[: len(good) // 2], "or only a part of one"),
        (POINTER, "is a pointer of Git LFS"),
        (b"", "is empty"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=match):
            read("npz", path, space="normalize")
    np.savez(path, images=np.array([Attack(tmp_path / "executed")], dtype=object), labels=Y.numpy()[:1])
    with pytest.raises(DataError, match=r"(?s)is refused.*pickled Python objects"):
        read("npz", path, space="normalize")
    np.savez(path, images=NAN.numpy(), labels=Y.numpy())
    with pytest.raises(DataError, match=r"(?s)not finite.*first in row 3"):
        read("npz", path, space="normalize")
    np.savez(path, images=X.numpy(), labels=Y.numpy())
    with pytest.raises(ConfigError, match="does not say which input space"):
        read("npz", path)
    assert not (tmp_path / "executed").exists()


# what is declared


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ%stQ"
"""A reference to the numbers `0`; how many they are is left to be filled in."""


def rebuilt(count: int, shape: bytes, strides: bytes = b"K\x01\x85", offset: int = 0) -> bytes:
    """A pickle of one tensor on `count` numbers."""
    storage = STORAGE.replace(b"%s", struct.pack("<i", count))
    call = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(%sK%c%s%s\x89ccollections\nOrderedDict\n)RtR."
    return call % (storage, offset, shape, strides)


def forged(path: Path, content: bytes, numbers: bytes = bytes(16), method: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    """A file as torch.save writes it, with a pickle of somebody's."""
    inside = {"data.pkl": content, "byteorder": b"little", "data/0": numbers, "version": b"3\n", **more}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, member in inside.items():
            archive.writestr(f"a/{name}", member)
    return path


def test_the_forger_can_write_what_is_read(tmp_path: Path) -> None:
    path = forged(tmp_path / "a.pt", rebuilt(4, b"K\x04\x85"), np.arange(4, dtype=np.float32).tobytes())
    assert torch.equal(checkpoints.load(path), torch.arange(4.0))  # type: ignore[arg-type]


TUPLES, LISTS = b"\x80\x02)" + b"\x85" * 10**6 + b".", b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."
BOMBS = {
    "a pickle that calls builtins.bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xbc\xa0\x65\x01\x85R.",
    "a pickle that calls torch.FloatStorage": b"\x80\x02ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R.",
    "a pickle that calls torch.FloatTensor": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "a pickle that calls _codecs.encode": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
    "'0' claims more numbers than the file holds: 2147483647 in 16 bytes": rebuilt(2**31 - 1, b"J\xff\xff\xff\x7f\x85"),
    "a tensor that claims more numbers than the file holds: 5 of 4": rebuilt(4, b"K\x05\x85"),
    "a tensor that claims more numbers than the file holds: 7 of 4": rebuilt(4, b"K\x03\x85", b"K\x03\x85"),
    "a tensor that claims more numbers than the file holds: 6 of 4": rebuilt(4, b"K\x04\x85", offset=2),
    "a tensor without a shape and strides of one length": rebuilt(4, b"J\xff\xff\xff\xff\x85"),
    "an integer of more digits than any size has": b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".",
    "values that stand in each other deeper than 64 times": TUPLES,
    "an entry of what holds none": rebuilt(4, b"K\x04\x85")[:-1] + b"(K\x01K\x02tb.",
    "the instruction MEMOIZE": b"\x80\x04]\x94.",
    "a reference to what is not there": b"\x80\x02h\x05.",
    "an instruction without its operands": b"\x80\x02\x85.",
    "a reference to something else than the numbers": b"\x80\x02K\x01Q.",
}


@pytest.mark.parametrize("got", BOMBS)
def test_pickles_that_would_make_much_of_little(tmp_path: Path, got: str) -> None:
    with pytest.raises(DataError) as caught:
        checkpoints.load(forged(tmp_path / "a.pt", BOMBS[got]))
    assert "a.pt' " in str(caught.value) and f"got:      {got}" in str(caught.value)


def test_long_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forged(tmp_path / "a.pt", b"\x80\x02" + b"]" * 1000 + b".")
    checkpoints.load(path)
    monkeypatch.setattr(pickles, "OPCODES", 1000)
    with pytest.raises(DataError, match="more than 1,000 instructions"):
        checkpoints.load(path)


def test_lists_that_stand_in_each_other(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="deeper than 64 times"):
        checkpoints.load(forged(tmp_path / "a.pt", LISTS))


def test_zip_files_that_torch_does_not_write(tmp_path: Path) -> None:
    good, path = rebuilt(4, b"K\x04\x85"), tmp_path / "a.pt"
    with pytest.raises(DataError, match=r"'a/data.pkl' is compressed, which torch.save does not do"):
        checkpoints.load(forged(path, good, bytes(10**6), zipfile.ZIP_DEFLATED))
    with pytest.raises(DataError, match=r"without data.pkl"):
        with zipfile.ZipFile(forged(path, good), "a") as archive:
            archive.writestr("b/data.pkl", good)
        checkpoints.load(path)
    assert checkpoints.load(forged(path, good)) is not None
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 46):  # all members are the first one, with the length of all
        if content[place : place + 4] == b"PK\1\2":
            content[place + 20 : place + 28] = struct.pack("<2L", 300, 300)
    path.write_bytes(content)
    with pytest.raises(DataError, match="members that lie in each other"):
        checkpoints.load(path)


def test_files_of_old_versions(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": X, "b": X[0]}, path, _use_new_zipfile_serialization=False)
    found: Any = checkpoints.load(path)
    assert torch.equal(found["a"], X) and torch.equal(found["b"], X[0])
    good = path.read_bytes()
    count = b"M" + struct.pack("<H", X.numel())
    assert good.count(count) == 2
    path.write_bytes(good.replace(count, b"J" + struct.pack("<i", 2**31 - 1)))
    with pytest.raises(DataError, match="it claims more numbers than the file holds: 8589934588 bytes"):
        checkpoints.load(path)
    path.write_bytes(good.replace(pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(3, 2)))
    with pytest.raises(DataError, match=r"no mark of torch.save at the beginning"):
        checkpoints.load(path)


def test_large_files_need_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.pt", torch.zeros(100, 1000))
    save_file({"a": torch.zeros(100, 1000)}, tmp_path / "a.safetensors")
    monkeypatch.setenv(VARIABLE, "700KB")
    for read_it, needs in ((checkpoints.load, "1.6MB"), (read_tensors, "800.1KB")):
        file = path if read_it is checkpoints.load else tmp_path / "a.safetensors"
        with pytest.raises(DataError, match=rf"(?s)'{file}' takes too much memory to read.*--max-size {needs}"):
            read_it(file)
        monkeypatch.setenv(VARIABLE, needs)
        read_it(file)
        monkeypatch.setenv(VARIABLE, "700KB")


def test_numbers_that_are_referred_to_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has them once, and what is made of it has them each time."""
    monkeypatch.setenv(VARIABLE, "4MB")
    one = torch.zeros(100_000)
    with pytest.raises(DataError, match=r"a.pt' takes too much memory to read"):
        read_tensors(saved(tmp_path / "a.pt", {str(i): one for i in range(20)}))
    checkpoint = list(network().module.parameters())
    buffer = saved(tmp_path / "replay_buffer_0.pt", [[checkpoint] * 20_000])
    assert buffer.stat().st_size < 200_000
    with pytest.raises(DataError, match=r"(?s)takes too much memory.*20000 checkpoints of expert 0"):
        read("mtt-experts", buffer, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()))


def test_headers_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    for content in (
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", len(header)) + header + bytes(4),
        struct.pack("<Q", 10**6) + b"[" * 10**6,
        struct.pack("<Q", len(header)) + header.replace(b"[0,4]", b"[0,8]") + bytes(8),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a.safetensors' cannot be read as a safetensors file"):
            read_tensors(path)


# checkpoints


def test_a_checkpoint_s_only_state_dict_is_taken(tmp_path: Path) -> None:
    state, path = OrderedDict(a=X, b=Y), tmp_path / "a.pt"
    optimizer = {"state": {0: {"momentum_buffer": X}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    whole = {"net": state, "optimizer": optimizer, "scheduler": {"milestones": Counter([3, 4])}, "seen": {3}, "args": None}
    for content in (state, {"epoch": 3, "state_dict": state}, whole):
        found = read_tensors(saved(path, content))
        assert list(found) == ["a", "b"] and torch.equal(found["a"], X)
    with pytest.raises(DataError, match=r"(?s)a.pt' holds more than one state dict.*got: +model, ema\n.*\(path\)\['model'\]"):
        read_tensors(saved(path, {"model": state, "ema": state, "epoch": 3}))
    for content in ({"a": X, "state_dict": state}, {"epoch": 3}, {"epoch": 3, "state_dict": {"a": X, "b": 3}}):
        with pytest.raises(DataError, match=r"(?s)'(state_dict|epoch)' of '.*a.pt'.*a tensor"):
            read_tensors(saved(path, content))


# all kinds, altered at random


def test_altered_files_are_refused_or_read(tmp_path: Path) -> None:
    """A few hundred alterations of every kind of file, in a process whose memory is looked at."""
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), str(tmp_path), "0", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    told = json.loads(done.stdout)
    assert told["failures"] == [] and done.stderr == ""
    assert sum(told["counts"].values()) == 60 * 10 and told["peak"] < 10**9
    assert all(told["counts"][f"{name} refused"] > 10 for name in ("plain.npz", "state.pt", "old.pt", "a.png", "a.tsv.gz"))
