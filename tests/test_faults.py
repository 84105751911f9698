"""The campaign of faults: its cheapest kinds run, it sees what is broken, and docs/reliability.md is what its record makes."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import faults  # noqa: E402
import reliability  # noqa: E402
import same_bits  # noqa: E402
from fault_kinds import KINDS, hostile_binaries, hostile_pickles, hostile_texts, kind  # noqa: E402
from fault_kinds.damage import damaged  # noqa: E402
from fault_kinds.hostile import judged  # noqa: E402
from fault_kinds.kind import Broken, CampaignRecord, Kind, KindRecord, Outcome, Scene, Trial  # noqa: E402
from fault_kinds.mutations import mutated  # noqa: E402
from fault_kinds.serving import Told  # noqa: E402
from fault_kinds.studies import differing, problem  # noqa: E402

from distill_prune.store.store import Store  # noqa: E402

SEED = ("--seed", "3")


def test_the_cheapest_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"damage": 3, "hostile": 20}
    monkeypatch.setattr(faults, "kind", lambda name: replace(kind(name), short=counts[name]))
    record = tmp_path / "faults.json"
    faults.main(["--only", *counts, "--json", str(record), "--scratch", str(tmp_path / "scratch"), *SEED])
    found = json.loads(record.read_text())["kinds"]
    assert {name: found[name]["trials"] for name in found} == counts and not any(k["broken"] for k in found.values())
    assert "hostile" in capsys.readouterr().out
    made = record.read_bytes()
    faults.main(["--only", *counts, "--json", str(record), "--scratch", str(tmp_path / "again"), "--resume", *SEED])
    assert record.read_bytes() == made and not (tmp_path / "again" / "damage").exists()


def one_in_three(number: int) -> Kind:
    """A kind of nine trials, of which every third is broken."""

    def trial(folder: Path, draws: random.Random) -> Outcome:
        if int(folder.name) % 3 == number:
            (folder / "seen").write_text(str(draws.random()))
            raise Broken("it does not hold")
        if int(folder.name) == 7:
            raise KeyError("a mistake of the trial")
        return Outcome("held", {"MiB": float(folder.name)})

    @contextlib.contextmanager
    def begin(_: Scene) -> Iterator[Trial]:
        yield trial

    return Kind("It holds.", long=90, short=9, begin=begin)


def test_what_is_broken_is_counted_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(faults, "kind", lambda name: one_in_three(2))
    record, scratch = tmp_path / "f.json", tmp_path / "scratch"
    with pytest.raises(SystemExit, match=r"broken: drivers 4; kept in"):
        faults.main(["--only", "drivers", "--json", str(record), "--scratch", str(scratch)])
    found = json.loads(record.read_text())["kinds"]["drivers"]
    assert found["trials"] == 9 and found["outcomes"] == {"held": 5} and found["figures"] == {"MiB": 6.0}
    assert [b["trial"] for b in found["broken"]] == [2, 5, 7, 8] and "the trial itself failed" in found["broken"][2]["reason"]
    assert sorted(p.name for p in (scratch / "drivers").iterdir()) == ["2", "5", "7", "8", "shared"]
    assert "python bench/faults.py --only drivers --trial 5 --seed 0" in capsys.readouterr().err
    drawn = (scratch / "drivers" / "5" / "seen").read_text()
    with pytest.raises(SystemExit, match="broken: drivers 1"):
        faults.main(["--only", "drivers", "--trial", "5", "--scratch", str(tmp_path / "alone")])
    assert (tmp_path / "alone" / "drivers" / "5" / "seen").read_text() == drawn


def test_a_kind_that_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(faults, "kind", lambda name: replace(one_in_three(2), cannot=lambda: "no disks here"))
    faults.main(["--only", "full", "--scratch", str(tmp_path)])
    assert "not run: no disks here" in capsys.readouterr().out


def test_a_time_that_is_over_begins_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(faults, "kind", lambda name: one_in_three(2))
    faults.main(["--only", "gc", "--minutes", "0", "--scratch", str(tmp_path)])
    assert "0 of 9" in capsys.readouterr().out


def test_stores_are_compared_bit_by_bit(store: Store) -> None:
    expected = same_bits.files(store.root)
    assert not differing(store.root, expected) and not problem(store.root, expected)
    tensors = next(store.root.glob("distill/*/tensors.safetensors"))
    tiny.flip(tensors)
    assert differing(store.root, expected) == {str(tensors.relative_to(store.root))}
    assert "1 files differ" in problem(store.root, expected)
    tensors.unlink()
    assert "1 files are missing" in problem(store.root, expected)
    manifest = tensors.with_name("manifest.json")
    for odd in (b"[]", b"{}", b"{", b"\xff"):
        manifest.write_bytes(odd)
        assert differing(store.root, expected) == {str(manifest.relative_to(store.root))}


@pytest.mark.parametrize(
    ("told", "err", "seen"),
    [
        ({}, "error: a\n", ""),
        ({"code": 0}, "", ""),
        ({"code": 2}, "Traceback (most recent call last)\n", "Traceback"),
        ({"code": 1}, "error: a\n", "exit code 1 where the input is wrong"),
        ({"code": 2}, "a\n", "0 messages"),
        ({"code": 2}, "error: a\nerror: b\n", "2 messages"),
        ({"code": -9}, "", "exit code -9"),
        ({"mib": 1025.0}, "error: a\n", "1025 MiB"),
        ({"seconds": 10.1}, "error: a\n", "10.1 s"),
    ],
)
def test_answers_are_judged(told: dict[str, float], err: str, seen: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    (tmp_path / "err").write_text(err)
    answer = Told(code=2, seconds=0.1, mib=400.0) | told  # type: ignore[operator]
    if not seen:
        assert judged("npz", ["data"], answer, tmp_path).figures == {"seconds": 0.1, "MiB": 400.0}
        (tmp_path / "executed").touch()
        seen = "the input was executed"
    with pytest.raises(Broken, match=seen):
        judged("npz", ["data"], answer, tmp_path)


def test_hostile_input_follows_from_its_seed(tmp_path: Path) -> None:
    tables = "sentence\tlabel\ngood\t1\nbad\t0\n"
    for seed in range(20):
        one, other = random.Random(seed), random.Random(seed)
        for draws in (one, other):
            draws.random()
        assert hostile_pickles.saved(b"good", tmp_path, one) == hostile_pickles.saved(b"good", tmp_path, other)
        assert hostile_texts.pipeline("seeds: [0]\n", tmp_path, one) == hostile_texts.pipeline("seeds: [0]\n", tmp_path, other)
        assert hostile_texts.table(tables, one) == hostile_texts.table(tables, other)
        assert hostile_binaries.png(8, 8, one) == hostile_binaries.png(8, 8, other)
        assert mutated(b"some bytes", one) == mutated(b"some bytes", other)
        assert damaged(b"some bytes", "bit", one) == damaged(b"some bytes", "bit", other) != b"some bytes"


def test_a_hostile_pickle_would_be_executed(tmp_path: Path) -> None:
    import pickle

    mark, executed = tmp_path / "executed", 0
    for seed in range(200):
        content = hostile_pickles.program(mark, random.Random(seed))
        if b"posix\nsystem" in content:
            with contextlib.suppress(Exception):
                pickle.loads(content)
            executed += mark.exists()
            mark.unlink(missing_ok=True)
    assert executed


def test_counts_of_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: KindRecord = {
        "promise": "It holds.",
        "asked": 2000,
        "trials": 1500,
        "outcomes": {"refused": 1400, "accepted": 99},
        "figures": {"MiB": 412.3},
        "broken": [{"trial": 7, "reason": "it does not hold"}],
        "seconds": 90.0,
        "core_seconds": 120.0,
        "not_run": "",
    }
    machine: dict[str, str | float] = {"processor": "P", "cores": 2, "torch": "2", "date": "2026-01-02T03:04"}
    record: CampaignRecord = {"commit": "c0", "form": "long", "seed": 3, "machine": machine, "kinds": {"hostile": held}}
    record["kinds"]["full"] = {**held, "not_run": "no disks here"}
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(reliability, "RECORD", path)
    section = reliability.section()
    assert "The long form with seed 3, on P, 2 cores, torch 2, commit c0, 2026-01-02." in section
    assert "| hostile | 1,500 of 2,000 | 1 | 1.5 | 2.0 | MiB: 412 | refused: 1,400; accepted: 99 |" in section
    assert "| full | none |  |  |  |  | not run: no disks here |" in section


def test_the_page_is_what_the_record_makes() -> None:
    text = reliability.PAGE.read_text(encoding="utf-8")
    assert text == reliability.page(text), "run python bench/reliability.py"
    for name in KINDS:
        counts = f"| `{name}` | {kind(name).long:,} / {kind(name).short:,} |"
        assert counts in text, counts
    assert set(re.findall(r"\| `(\w+)` \| [\d,]+ /", text)) == set(KINDS)


def test_a_record_names_no_place_of_a_machine(tmp_path: Path) -> None:
    folder = tmp_path / "hostile" / "7"
    reason = f'npz: {folder}/a.npz: exit code 70\n  File "{sys.prefix}/lib/x.py", line 1\nValueError: {tmp_path}/study/b'
    assert faults.seen(reason, folder) == "npz: a.npz: exit code 70 ... ValueError: study/b"
    assert faults.seen("it does not hold", folder) == "it does not hold"
