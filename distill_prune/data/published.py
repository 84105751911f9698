"""Published data sets: their official files, held to their published checksums, read by torchvision.

Files lie where torchvision keeps them below a root folder. Each one is compared with its checksum before anything reads
it (CIFAR's are pickles), and torchvision is shown a temporary folder that holds the checked files and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.data.source import Loaded, Remembered, Source
from distill_prune.data.split import chosen
from distill_prune.errors import DataError, system_error
from distill_prune.limits import Budget
from distill_prune.outside import opened
from distill_prune.settings import digest
from distill_prune.vision import torchvision

_WAIT_SECONDS = 30.0
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)
"""Errors of a download that another folder on the network does not help against."""


def _root() -> str:
    return os.environ.get("DISTILL_PRUNE_DATA") or "data"


class PublishedSource(Source):
    """`path` is torchvision's root folder: $DISTILL_PRUNE_DATA, else `data`. `download` fetches files that are not there.

    `rows` and `test_rows` take a stratified part of the official train and test images.
    """

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path", "download"})

    path: str = Field(default_factory=_root, description="torchvision's root folder; default: $DISTILL_PRUNE_DATA, else data")
    download: bool = Field(True, description="fetch files that are not there")
    rows: int | None = Field(None, ge=1, description="how many training images, stratified by class; null: all")
    test_rows: int | None = Field(None, ge=1, description="how many test images, stratified by class; null: all")


@dataclass(frozen=True)
class Published:
    """What is known of a published data set without having it.

    `reader` is torchvision's class, `parts` its arguments for the train and the test part, `labels` where it keeps them.
    `shape` is that of an image (C, H, W), `sizes` are the numbers of images in the train and the test part.
    `files` are the published files {path below the root: md5}, found in each of the folders `urls`, which are tried in
    turn; `unpacked`, in the same form, is what archives hold where that may lie there in their place.
    """

    title: str
    reader: str
    shape: tuple[int, int, int]
    sizes: tuple[int, int]
    files: Mapping[str, str]
    urls: tuple[str, ...]
    classes: tuple[str, ...]
    unpacked: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})
    labels: str = "targets"

    def fingerprint(self, settings: PublishedSource, remembered: Remembered | None = None) -> str:
        """The set's name and published checksums, known without its files."""
        return f"torchvision-{self.reader}-{digest(self.files)}"

    def load(self, settings: PublishedSource) -> Loaded:
        """The chosen rows of the official train part, then those of the official test part; uint8 pixels.

        Raises:
            DataError: a file is absent and is not downloaded, or is not the published one.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._lay_out(Path(settings.path).expanduser(), Path(folder), settings.download)
            pixels, labels = zip(*(self._read(folder, part) for part in self.parts), strict=True)
        rows = self._chosen(settings, labels)
        x, y = (torch.cat([t[part] for t, part in zip(both, rows, strict=True)]) for both in (pixels, labels))
        return Loaded(x, y, torch.arange(len(y)) >= len(rows[0]), self.classes, 255.0, self.title)

    def look(self, settings: PublishedSource) -> Loaded:
        """The same as far as it is known without the files: pixels on the device "meta", classes equally often.

        Raises:
            DataError: a part has fewer rows than asked for.
        """
        labels = [torch.arange(size) % len(self.classes) for size in self.sizes]
        train, test = self._chosen(settings, labels)
        y = torch.cat([labels[0][train], labels[1][test]])
        pixels = torch.empty(len(y), *self.shape, dtype=torch.uint8, device="meta")
        return Loaded(pixels, y, torch.arange(len(y)) >= len(train), self.classes, 255.0, self.title)

    def _chosen(self, settings: PublishedSource, labels: Sequence[Tensor]) -> list[Tensor]:
        """The rows of the train and the test part that are used."""
        pools, asked = [torch.arange(len(y)) for y in labels], (settings.rows, settings.test_rows)
        return chosen(pools, labels, asked, self.classes, settings.split_seed, of=self.title)

    def _lay_out(self, root: Path, folder: Path, download: bool) -> None:
        """Check what is there, fetch what is not, and lay it out in `folder`, unpacked."""
        there = [name for name in (*self.unpacked, *self.files) if (root / name).is_file()]
        for name in there:
            self._check(root, name)
        needed = self.unpacked if self.unpacked and set(self.unpacked) <= set(there) else self.files
        absent = [name for name in needed if name not in there]
        if absent and not download:
            raise self._absent(root, absent)
        for name in absent:
            self._fetch(root, name, absent)
        for name in needed:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".gz":
                torchvision().datasets.utils.extract_archive(str(root / name), str(target.parent))
            else:
                target.symlink_to((root / name).resolve())

    def _check(self, root: Path, name: str) -> None:
        path, expected = root / name, {**self.files, **self.unpacked}[name]
        try:
            with opened(path) as file:
                Budget(path).check(path.stat().st_size, "the file itself")
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as problem:
            raise system_error(f"cannot read '{path}'", problem, kind=DataError) from problem
        if md5 != expected:
            raise DataError(
                f"'{path}' is not the published file of {self.title}",
                got=f"md5 {md5}",
                expected=f"md5 {expected}",
                fix=f"remove it, or put the published one there: {self.urls[0]}",
            )

    def _fetch(self, root: Path, name: str, absent: list[str]) -> None:
        """Download a file from the first folder that gives it; it appears under its name whole and checked, or not at all."""
        target, problems = root / name, []
        utils = torchvision().datasets.utils
        for url in self.urls:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as aside, _patience():
                    utils.download_url(url + target.name, aside, target.name, self.files[name])
                    (Path(aside) / target.name).replace(target)
                return
            except (OSError, RuntimeError, HTTPException) as problem:
                if isinstance(problem, OSError) and problem.errno in _OF_THE_DISK:
                    what = f"'{target}' cannot be written"
                    raise system_error(what, problem, "another folder for the data", DataError) from problem
                problems.append(f"{url + target.name}: {problem}")
        raise self._absent(root, [n for n in absent if not (root / n).is_file()], "; ".join(problems))

    def _absent(self, root: Path, names: list[str], problem: str = "") -> DataError:
        files, lacking = _named(root, names), [n for n in self.unpacked if not (root / n).is_file()]
        unpacked = f", or {_named(root, list(self.unpacked))}" if self.unpacked else ""
        also = f", and no {_named(root, lacking)}" if 0 < len(lacking) < len(self.unpacked) else ""
        return DataError(
            f"{self.title} could not be downloaded" if problem else f"{self.title} is not there, and download is off",
            got=problem or f"no {files}{also}",
            expected=f"{files}{unpacked}",
            fix=f"put {files}, from {' or '.join(self.urls)}" + ("" if problem else "; or set download: true"),
        )

    def _read(self, folder: str, part: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The pixels (N, C, H, W) uint8 and labels (N,) int64 of a part."""
        try:
            dataset = getattr(torchvision().datasets, self.reader)(folder, **part)
        except RuntimeError as problem:
            raise DataError(
                f"the installed torchvision does not take the published files of {self.title}",
                got=problem,
                fix="another version of torchvision",
            ) from problem
        pixels = torch.as_tensor(dataset.data)
        if pixels.dim() == 3:
            pixels = pixels.unsqueeze(1)
        elif pixels.shape[-1] == 3:
            pixels = pixels.permute(0, 3, 1, 2)
        return pixels.contiguous(), torch.as_tensor(getattr(dataset, self.labels)).long()


def _named(root: Path, names: list[str]) -> str:
    """Files of one folder and where it is."""
    return f"{', '.join(Path(name).name for name in names)} in '{(root / names[0]).parent.resolve()}'"


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """A limit on how long a silent network is waited for: torchvision sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_WAIT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
