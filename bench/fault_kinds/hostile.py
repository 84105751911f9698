"""Hostile input of every kind that the command reads: refused in one message, never executed, within bounds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from fault_kinds import hostile_binaries, hostile_pickles, hostile_texts
from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.served import Servers, servers
from fault_kinds.serving import MIB, SECONDS, Told
from fault_kinds.studies import Study, artifacts

NETWORK = ("model.name=convnet", "model.depth=2", "model.width=4", "model.norm=instance")
SPACE = "space=normalize"
SETS = {"mtt": ("lr=0.01", SPACE), "datm": (SPACE,), "dc": (), "idc": ("factor=1",), "ddranking": (SPACE,)}
TICKETS = ("torch-prune", "openlth", "state-dict")
COMMANDS = (
    *(
        ("ls",),
        ("ls", "--json"),
        ("verify",),
        ("verify", "--repair"),
        ("gc", "--dry-run"),
        ("plan", "FILE"),
        ("report", "FILE"),
    ),
    *(("show", "KEY"), ("tag", "KEY", "name"), ("rm", "KEY", "--dry-run", "--with-dependents")),
    *(
        ("diff", "TICKET", "OTHER"),
        ("export", "TICKET", "--to", "torch-prune", "x.pt"),
        ("export", "SET", "--to", "npz", "x.npz"),
    ),
    *(("pack", "SET", "-o", "x.tar"), ("pack", "FILE", "-o", "x.tar"), ("gc", "--keep", "FILE", "--dry-run"), ("ls", "prune")),
)


@dataclass(frozen=True)
class Good:
    """Good files, which hostile ones are made from: the tiny study with its store, exports by format, an archive, images."""

    study: Study
    store: Path
    exports: Path
    images: dict[str, bytes]
    text: Path

    @property
    def data(self) -> str:
        return next(path.parent.name for path in artifacts(self.store) if path.parent.parent.name == "data")

    def copy(self, folder: Path, *, only_data: bool = False) -> Path:
        """A copy of the store, whose files are the same ones: to be replaced, not to be written to."""
        store = folder / "store"
        for part in ("data",) if only_data else ("",):
            shutil.copytree(self.store / part, store / part, copy_function=os.link)
        return store

    def keys(self, stage: str) -> list[str]:
        return sorted(path.name for path in (self.store / stage).iterdir())


def _import(form: str, path: Path, options: Sequence[str], good: Good, folder: Path) -> list[str]:
    store = good.copy(folder, only_data=True)
    sets = [word for option in (*options, f"dataset={good.data}") for word in ("--set", option)]
    return ["import", form, str(path), *sets, "--store", str(store)]


def _yaml(good: Good, folder: Path, draws: random.Random) -> list[str]:
    path = folder / "hostile.yaml"
    text = good.study.file.read_text(encoding="utf-8")
    path.write_bytes(hostile_texts.pipeline(text, folder / "executed", draws))
    for name in ("extends.yaml", "faults.yaml"):
        (folder / name).write_text(f"extends: {path.name}\n", encoding="utf-8")
    return ["plan", str(path), "--store", str(folder / "store")]


def _pickle(good: Good, folder: Path, draws: random.Random) -> list[str]:
    form = draws.choice((*SETS, *TICKETS, "mtt-experts"))
    copy = folder / "given"
    shutil.copytree(good.exports / form, copy)
    path = draws.choice(sorted(p for p in copy.rglob("*") if p.suffix in (".pt", ".pth")))
    path.write_bytes(hostile_pickles.saved(path.read_bytes(), folder / "executed", draws))
    single = form in ("dc", "idc", "torch-prune", "state-dict")
    return _import(form, path if single else copy, SETS.get(form, NETWORK), good, folder)


def _npz(good: Good, folder: Path, draws: random.Random) -> list[str]:
    path = folder / "hostile.npz"
    if draws.random() < 0.3:
        path.write_bytes(hostile_binaries.npz((good.exports / "npz" / "set.npz").read_bytes(), folder / "executed", draws))
        return _import("npz", path, (SPACE,), good, folder)
    path.write_bytes(hostile_binaries.npz((good.study.folder / "digits.npz").read_bytes(), folder / "executed", draws))
    return _data(good, folder, f"data.path={path}")


def _data(good: Good, folder: Path, *sets: str) -> list[str]:
    words = [word for assignment in sets for word in ("--set", assignment)]
    return ["data", str(good.study.file), *words, "--store", str(folder / "store"), "--executor", "serial"]


def _image(good: Good, folder: Path, draws: random.Random) -> list[str]:
    hostile_binaries.images(good.images, folder / "images", draws)
    size = draws.choice(((), ("data.size=8",)))
    return _data(good, folder, f"data={{name: folder, path: {folder / 'images'}, channels: 1}}", *size)


def _safetensors(good: Good, folder: Path, draws: random.Random) -> list[str]:
    path = folder / "hostile.safetensors"
    path.write_bytes(hostile_binaries.safetensors((good.exports / "safetensors" / "x.safetensors").read_bytes(), draws))
    return _import("safetensors", path, NETWORK, good, folder)


def _archive(good: Good, folder: Path, draws: random.Random) -> list[str]:
    path = folder / "hostile.tar"
    path.write_bytes(hostile_binaries.archive((good.exports / "study.tar").read_bytes(), folder / "escaped", draws))
    return ["unpack", str(path), "--store", str(folder / "store")]


def _store(good: Good, folder: Path, draws: random.Random) -> list[str]:
    store = good.copy(folder)
    chosen = draws.choice((*sorted(artifacts(store)), *sorted(store.glob("[!.]*/*/numbers.json"))))
    path = draws.choice((chosen, chosen, chosen, store / "tags.json", store / "fingerprints.json"))
    content = hostile_texts.changed(path.read_bytes(), draws)
    path.unlink()
    path.write_bytes(content)
    key = path.parent.name if path == chosen else draws.choice(good.keys("compare"))
    names = {
        "KEY": key[:12],
        "FILE": str(good.study.file),
        "TICKET": key[:12] if "prune" in path.parts else "ticket",
        "OTHER": good.keys("prune")[0],
        "SET": key[:12] if "distill" in path.parts else "set",
    }
    return [*(names.get(word, word) for word in draws.choice(COMMANDS)), "--store", str(store)]


def _table(good: Good, folder: Path, draws: random.Random) -> list[str]:
    place = folder / "table"
    shutil.copytree(good.text, place)
    ending, content = hostile_texts.table((place / "train.tsv").read_text(encoding="utf-8"), draws)
    (place / "train.tsv").unlink()
    (place / f"train.{ending}").write_bytes(content)
    words = [f"data={{name: tsv, path: {place}, tokenizer: {place}}}", *_WITHOUT_IMAGES]
    return _data(good, folder, *words)


_WITHOUT_IMAGES = ("distill.synthetic=false", "arms.synthetic=false", "compare.evaluation=null")
FAMILIES: dict[str, Callable[[Good, Path, random.Random], list[str]]] = {
    "yaml": _yaml,
    "pickle": _pickle,
    "npz": _npz,
    "image": _image,
    "safetensors": _safetensors,
    "archive": _archive,
    "store": _store,
    "table": _table,
}


def judged(family: str, words: Sequence[str], told: Told, folder: Path) -> Outcome:
    """The outcome of one input.

    Raises:
        Broken: it was executed, left its place, took too long or too much, ended in a traceback, or without one message.
    """
    out, err = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
    what, said = f"{family}: {' '.join(words[:3])}", f"exit code {told['code']}: {err.strip()[-600:]}"
    if (folder / "executed").exists():
        raise Broken(f"{what}: the input was executed")
    if (folder / "escaped").exists() or (folder.parent / "escaped").exists():
        raise Broken(f"{what}: a file was written outside of the store")
    if told["mib"] > MIB:
        raise Broken(f"{what}: {told['mib']:.0f} MiB; {said}")
    if told["seconds"] > SECONDS:
        raise Broken(f"{what}: {told['seconds']:.1f} s; {said}")
    if "Traceback" in out + err or told["code"] not in (0, 1, 2):
        raise Broken(f"{what}: {said}")
    refused = told["code"] != 0 and words[0] != "verify"
    messages = len(re.findall(r"(?m)^error:", err))
    if refused and messages != 1 and "Usage:" not in err:
        raise Broken(f"{what}: {messages} messages; {said}")
    if told["code"] == 1 and family != "store":
        raise Broken(f"{what}: exit code 1 where the input is wrong; {said}")
    figures = {"seconds": told["seconds"], "MiB": told["mib"]}
    return Outcome(f"{family}: {'accepted' if told['code'] == 0 else 'refused'}", figures)


def _trial(running: Servers, good: Good, folder: Path, draws: random.Random) -> Outcome:
    family = draws.choice(sorted(FAMILIES))
    words = FAMILIES[family](good, folder, draws)
    (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    return judged(family, words, running.ask(words, folder), folder)


def _pictures() -> dict[str, bytes]:
    """A good image of 8 by 8 pixels in every format, by its ending."""
    pictures = {}
    for ending, form in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP")):
        target = io.BytesIO()
        Image.linear_gradient("L").resize((8, 8)).save(target, form)
        pictures[ending] = target.getvalue()
    return pictures


def _sentences(folder: Path) -> Path:
    """A table of sentences beside the vocabulary that they need."""
    folder.mkdir()
    words = ("good", "bad", "film", "plot", "very", "the")
    (folder / "vocab.txt").write_text(
        "\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words)) + "\n", encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), encoding="utf-8")
    for part in ("train", "dev"):
        lines = [f"the {words[i % 2]} {words[2 + i % 3]}\t{i % 2}" for i in range(40)]
        (folder / f"{part}.tsv").write_text("\n".join(("sentence\tlabel", *lines)) + "\n", encoding="utf-8")
    return folder


def _prepared(scene: Scene, running: Servers) -> Good:
    """Good files of every kind, made by the command itself."""
    store, exports = scene.folder / "store", scene.folder / "exports"
    shutil.copytree(scene.study.undisturbed(), store)
    exports.mkdir()
    good = Good(scene.study, store, exports, _pictures(), _sentences(scene.folder / "table"))
    ticket, of_set, experts = good.keys("prune")[-1], good.keys("distill")[0], good.keys("experts")[0]
    commands = [
        ["tag", ticket, "ticket"],
        ["tag", of_set, "set"],
        ["pack", str(scene.study.file), "-o", str(exports / "study.tar")],
    ]
    names = {
        "npz": "set.npz",
        "dc": "x.pt",
        "idc": "x.pt",
        "torch-prune": "x.pt",
        "state-dict": "x.pt",
        "safetensors": "x.safetensors",
    }
    for form in (*(s for s in SETS if s not in ("datm", "idc")), "npz", *TICKETS, "safetensors", "mtt-experts"):
        ref = of_set if form in SETS or form == "npz" else experts if form == "mtt-experts" else ticket
        place = exports / form
        if form in names:
            place.mkdir(parents=True)
        commands.append(["export", ref, "--to", form, str(place / names[form] if form in names else place)])
    for words in commands:
        told = running.ask([*words, "--store", str(store)], scene.folder)
        if told["code"] != 0:
            raise SystemExit(f"{' '.join(words)}: {(scene.folder / 'err').read_text(encoding='utf-8')}")
    _by_hand(exports)
    return good


def _by_hand(exports: Path) -> None:
    """Good files of the formats that cannot hold the tiny study's set: soft labels, and pixels."""
    images, labels = (torch.load(exports / "mtt" / f"{name}_best.pt", weights_only=True) for name in ("images", "labels"))
    for form in ("datm", "idc"):
        (exports / form).mkdir()
    logits = torch.nn.functional.one_hot(labels).float()
    for name, tensor in (("images", images), ("labels", logits), ("lr", torch.tensor(0.01))):
        torch.save(tensor, exports / "datm" / f"{name}_best.pt")
    torch.save([images.sigmoid(), labels], exports / "idc" / "x.pt")


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    with servers(scene.jobs) as running:
        yield partial(_trial, running, _prepared(scene, running))


HOSTILE = Kind(
    "Of hostile pipelines, pickles, npz, images, safetensors, archives, tables and files of a store none is executed, none "
    "ends in a traceback, and none takes more than 10 s or 1 GB.",
    long=10_000,
    short=150,
    begin=_begin,
)
