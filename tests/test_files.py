"""Pipeline files: what YAML would let pass in silence, and where files are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from distill_prune.errors import ConfigError
from distill_prune.plan.config import load
from distill_prune.plan.files import find_pipeline, override, read_raw
from distill_prune.plan.graph import build
from distill_prune.plan.plain import parse_yaml
from distill_prune.store.store import Store


def test_an_alias_does_not_carry_an_override_to_other_places() -> None:
    raw = parse_yaml("a: &r {lr: 1}\nb: *r\n")
    override(raw, ["a.lr=5"])
    assert raw == {"a": {"lr": 5}, "b": {"lr": 1}}


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("seeds: [0]\nseeds: [1]\n")
    with pytest.raises(ConfigError, match=r"(?s)is not YAML.*'seeds' is written twice"):
        load(str(tmp_path / "twice.yaml"))


def test_a_long_file_is_refused_and_never_read_in_part(tmp_path: Path) -> None:
    """Its characters may be few where they take several bytes each."""
    (tmp_path / "long.yaml").write_text("title: a\n" + "# \u00e9\n" * 300_000 + "seeds: [1]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)is not YAML.*more than 1,048,576 bytes"):
        read_raw(tmp_path / "long.yaml")


def test_a_file_anywhere_may_extend_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: digits.yaml\nseeds: [7]\n")
    name, found = load(str(tmp_path / "mine.yaml"))
    assert (name, found.seeds, found.prune.levels) == ("mine", (7,), 10)


def test_a_mistyped_path_is_not_taken_for_a_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_pipeline("digits.yaml") == find_pipeline("digits") == find_pipeline("pipelines/digits.yaml")
    with pytest.raises(ConfigError, match=r"there is no pipeline file '/nowhere/digits\.yaml'"):
        find_pipeline("/nowhere/digits.yaml")


def test_an_arm_to_compare_with_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'versus' in tiny.yaml: no arm.*got: +reel.*did you mean 'real'"):
        tiny.pipeline("versus=reel")


def test_a_control_is_evaluated_at_the_rate_of_the_learned_set(store: Store) -> None:
    graph = build(tiny.pipeline(), store)
    nodes = {name: graph.nodes[key] for name, key in graph.evaluations.items()}
    assert nodes["subset"].inputs["rate_of"] == graph.sets["synthetic"] and "rate_of" not in nodes["synthetic"].inputs
    rates = {name: store.numbers("compare", node.key)["recipe"]["lr"] for name, node in nodes.items()}
    assert rates["subset"] == rates["synthetic"] == store.numbers("distill", graph.sets["synthetic"])["lr"]


def test_a_stored_control_is_no_treatment_and_a_set_of_other_data_is_said_to_be(store: Store) -> None:
    graph = build(tiny.pipeline(), store)
    mixed = f"{{name: stored, ref: {graph.sets['subset']}, other_data: true}}"
    other = build(tiny.pipeline("data.split_seed=1", f"distill.subset={mixed}"), store)
    arms = {a["name"]: a for a in other.nodes[other.summary].job.roles["arms"]}  # type: ignore[attr-defined]
    assert not arms["subset"]["learned"] and arms["synthetic"]["learned"]
    assert arms["subset"]["other_data"] and not arms["synthetic"]["other_data"]
    assert "subset" not in other.evaluations


BASE = "prune: {levels: 10, rate: 0.2}\nlevels: [2, 10]\nlanes: 8\ncompile: true\ndata: {name: digits, rows: 5}\n"


@pytest.mark.parametrize(
    ("over", "kept"),
    [
        ("prune: {levels: 1}", {"lanes", "compile"}),
        ("prune: {levels: 10, rate: 0.1}", {"levels", "lanes", "compile"}),
        ("prune: {levels: 3}\nlevels: [3]", {"levels", "lanes", "compile"}),
        ("data: {name: tsv}", {"levels"}),
        ("data: {rows: 4}", {"levels", "lanes", "compile"}),
        ("data: {name: tsv}\nlanes: 4", {"levels", "lanes"}),
    ],
)
def test_what_was_chosen_for_another_value_does_not_stay(over: str, kept: set[str], tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "over.yaml").write_text(f"extends: base.yaml\n{over}\n")
    assert {"levels", "lanes", "compile"} & set(read_raw(tmp_path / "over.yaml")) == kept
    laid = parse_yaml(BASE)
    assert isinstance(laid, dict)
    values = parse_yaml(over)
    assert isinstance(values, dict)
    words = [f"{a}.{b}={c}" for a, below in values.items() if isinstance(below, dict) for b, c in below.items()]
    words += [f"{a}={c}" for a, c in values.items() if not isinstance(c, dict)]
    override(laid, words[::-1])
    assert {"levels", "lanes", "compile"} & set(laid) == kept
