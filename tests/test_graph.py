"""Keys: what changes them, what does not, and what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny

from distill_prune.errors import ConfigError, StoreError
from distill_prune.plan.config import load, parse
from distill_prune.plan.graph import build
from distill_prune.plan.jobs import CompareJob
from distill_prune.plan.nodes import Graph
from distill_prune.run.run import needed
from distill_prune.settings import Later, Settings, canonical, digest
from distill_prune.store.store import STAGES, Store

GOLDEN = {
    "data": "fa60c6837a0d578b",
    "expert 0": "bd3bd872b6980dd2",
    "set synthetic": "ef70665203b153aa",
    "set subset": "0e0dc6900b2022c1",
    "dense seed 0": "f85f4f154174bc6c",
    "real seed 0 level 1": "dd8de2f5416d872f",
    "synthetic seed 0 level 2": "42fe016f97dbf085",
    "random seed 0 level 2": "657a6932d5daa315",
    "dense seed 0 copy 1": "dd42b14bb9d0caf7",
    "connectivity of dense seed 0": "14d096b22a404f3c",
    "evaluation of set subset": "ff7cadaf3563a551",
    "summary": "5dabf2b95627f4ce",
}
"""Keys of the tiny pipeline: stores of users hold artifacts under them. A changed one needs a VERSION and a reason.

The summary's has changed once, with a setting: a claim needs p <= 0.05 besides its interval. Version 2 of `distill` and
`compare` takes inner steps and products with the Hessian in closed form, which rounds otherwise."""


def keys(graph: Graph, *stages: str) -> set[str]:
    return {k for k, n in graph.nodes.items() if n.stage in stages}


def of(*assignments: str, store: Store | None = None) -> Graph:
    return build(tiny.pipeline(*assignments), store or Store("/nonexistent"))


def test_golden_keys() -> None:
    graph = of()
    assert {label: tiny.node_of(graph, label).key[:16] for label in GOLDEN} == GOLDEN


def test_golden_keys_of_the_shipped_digits() -> None:
    graph = build(load("digits.yaml")[1], Store("/nonexistent"))
    found = [graph.data[:16], graph.chains["real", 0][0][:16]]
    assert found == ["fa60c6837a0d578b", "b418a446e4be4e13"]


def test_the_bound_of_claims_is_a_setting_of_the_summary_alone() -> None:
    """The file's `claim_p` reaches the summary; left out it is the 0.05 of the golden key above."""
    before, after = of(), of("claim_p=0.01")
    assert set(before.nodes) - {before.summary} == set(after.nodes) - {after.summary}
    assert of("claim_p=0.05").summary == before.summary != after.summary
    job = after.nodes[after.summary].job
    assert isinstance(job, CompareJob) and canonical(job.analysis)["claim_p"] == 0.01
    for wrong in (0, 1.5):
        with pytest.raises(ConfigError, match=r"'claim_p' in tiny\.yaml"):
            tiny.pipeline(f"claim_p={wrong}")


def test_every_key_has_inputs_before_it() -> None:
    seen: set[str] = set()
    for key, node in of().nodes.items():
        assert set(node.inputs.values()) <= seen
        seen.add(key)


@pytest.mark.parametrize(
    "assignment",
    [
        "title=other",
        "question=why",
        "device=cuda:1",
        "data.validation=0.1",
        "threads=1",
        "versus=real",
        "model.norm=instance",
    ],
)
def test_what_does_not_decide_bits_is_not_in_a_key(assignment: str) -> None:
    assert set(of(assignment).nodes) == set(of().nodes)


def test_a_label_is_in_the_key_of_the_words_alone() -> None:
    """The summary's answer names arms by their labels; nothing else does."""
    before, after = of(), of("arms.real.label=the real thing")
    assert set(before.nodes) - {before.summary} == set(after.nodes) - {after.summary}
    assert before.summary != after.summary


@pytest.mark.parametrize(
    ("assignment", "first"),
    [
        ("threads=2", "data"),
        ("data.split_seed=1", "data"),
        ("data.transform=zca", "data"),
        ("data.validation=0.2", "data"),
        ("experts.count=3", "experts"),
        ("distill_seed=1", "distill"),
        ("distill.synthetic.ipc=2", "distill"),
        ("prune.rate=0.4", "prune"),
        ("prune.recipe.lr=0.2", "prune"),
        ("retrain.copies=3", "retrain"),
        ("compare.curvature.rows=16", "compare"),
    ],
)
def test_what_decides_bits_is_in_the_key(assignment: str, first: str) -> None:
    """New keys from the first stage that looks at the setting, and in every stage behind it."""
    before, after = of(), of(assignment)
    at = STAGES.index(first)
    for stage in STAGES[:at]:
        assert keys(before, stage) == keys(after, stage)
    assert all(keys(after, stage) - keys(before, stage) for stage in (STAGES[at], "compare"))


def test_the_shipped_digits_keep_every_ticket_when_retraining_changes(tmp_path: Path) -> None:
    before, after = (build(load("digits.yaml", sets)[1], Store(tmp_path)) for sets in ((), ("retrain.recipe.lr=0.3",)))
    for stage in ("data", "experts", "distill", "prune"):
        assert keys(before, stage) == keys(after, stage)
    assert not keys(before, "retrain") & keys(after, "retrain")


def test_a_retrain_setting_leaves_the_search_alone() -> None:
    before, after = (
        of("arms.real=null", "arms.real.recipe=prune"),
        of("arms.real=null", "arms.real.recipe=prune", "retrain.recipe.lr=0.2"),
    )
    assert keys(before, "data", "experts", "distill", "prune") == keys(after, "data", "experts", "distill", "prune")
    assert not keys(before, "retrain") & keys(after, "retrain")
    stay = {tiny.node_of(before, f"overlap of {a} and real seed 0 level 2").key for a in ("synthetic", "subset", "random")}
    stay |= set(before.evaluations.values())
    assert keys(before, "compare") & keys(after, "compare") == stay


def test_an_expert_setting_changes_what_was_learned_from_experts_alone() -> None:
    before, after = of(), of("experts.recipe.lr=0.2")
    assert before.sets["subset"] == after.sets["subset"] and before.sets["synthetic"] != after.sets["synthetic"]
    for arm in ("real", "subset", "random"):
        assert before.chains[arm, 0] == after.chains[arm, 0]
    assert before.chains["synthetic", 0][0] == after.chains["synthetic", 0][0]
    assert not {k for n, k in before.chains["synthetic", 0].items() if n} & set(after.chains["synthetic", 0].values())


def test_level_0_is_shared_by_the_arms_of_a_seed() -> None:
    for assignment in ("threads=1", "prune.rewind.k=2it"):
        graph = of("seeds=[0, 1]", assignment)
        dense = {seed: {chain[0] for (_, s), chain in graph.chains.items() if s == seed} for seed in (0, 1)}
        assert len(dense[0]) == len(dense[1]) == 1 and dense[0] != dense[1]
        copies = {u.copies for u in graph.units if (u.seed, u.level) == (0, 0)}
        assert len(copies) == 1
    graph = of("prune.rewind={on: source, k: 2it}")
    assert len({chain[0] for chain in graph.chains.values()}) == 3  # real and random: the data; each set its own


def test_random_tickets_do_not_depend_on_images() -> None:
    with pytest.raises(
        ConfigError, match=r"'arms.random' in tiny.yaml: the criterion 'random' trains on nothing(?s:.*)leave out images"
    ):
        of("arms.random.images=subset")
    assert of("prune.recipe.lr=3").chains["random", 0] == of().chains["random", 0]


def test_chains_of_the_same_source_are_the_same() -> None:
    graph = of("arms.again={images: synthetic, label: the same}")
    assert graph.chains["again", 0] == graph.chains["synthetic", 0]


def test_the_path_of_data_is_not_in_a_key(tmp_path: Path) -> None:
    import numpy as np

    for place in (tmp_path, tmp_path / "elsewhere"):
        place.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (60, 8, 8), np.uint8), y=np.arange(60) % 3)
    shutil.copy(tmp_path / "a.npz", tmp_path / "elsewhere" / "b.npz")
    store = Store(tmp_path / "store", create=True)
    first = of(f"data={{name: npz, path: {tmp_path}/a.npz}}", store=store)
    assert (store.root / "fingerprints.json").exists()
    moved = of(f"data={{name: npz, path: {tmp_path}/elsewhere/b.npz, title: moved}}", store=store)
    assert set(first.nodes) == set(moved.nodes)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (60, 8, 8), np.uint8), y=np.arange(60) % 3)
    assert first.data != of(f"data={{name: npz, path: {tmp_path}/a.npz}}", store=store).data


def test_a_field_added_later_leaves_keys() -> None:
    class Old(Settings):
        name: str = "x"

    class New(Old):
        added: int = Later(3, ge=0)

    assert digest(New()) == digest(Old()) and digest({"inside": [New()]}) == digest({"inside": [Old()]})
    assert digest(New(added=4)) != digest(Old()) and canonical(New(added=4)) == {"name": "x", "added": 4}


# stored sets


def stored(store: Store, ref: str, *assignments: str) -> Graph:
    return of(f"distill.synthetic={{name: stored, ref: {ref}}}", *assignments, store=store)


def test_a_stored_set_by_name_key_and_beginning_of_key(store: Store, graph: Graph) -> None:
    key = graph.sets["synthetic"]
    store.tag(key, "mine")
    for ref in ("mine", key, f"'{key[:12]}'"):
        found = stored(store, ref)
        assert found.sets == graph.sets and found.chains == graph.chains
        assert keys(found, "experts") == set() and needed(found, store, "retrain")[1] == set()


def test_a_stored_set_of_other_data_is_refused(store: Store, graph: Graph) -> None:
    key = graph.sets["synthetic"]
    with pytest.raises(ConfigError, match=r"(?s)distill.synthetic: the set '.*' was made from other data.*other_data: true"):
        stored(store, key, "data.split_seed=1")
    meant = of(f"distill.synthetic={{name: stored, ref: {key}, other_data: true}}", "data.split_seed=1", store=store)
    assert meant.sets["synthetic"] == key and meant.data != graph.data


def test_a_stored_set_that_is_not_there_or_no_set(store: Store, graph: Graph) -> None:
    with pytest.raises(StoreError, match="no artifact in this store matches 'nothing'"):
        stored(store, "nothing")
    with pytest.raises(StoreError, match=r"(?s)distill.synthetic: '.*' is not a synthetic set.*got: +data/"):
        stored(store, graph.data)


def test_settings_are_read_back_from_manifests(store: Store, graph: Graph) -> None:
    """What a key was made from stands in its manifest, so that a stranger can compute it again."""
    for key, node in graph.nodes.items():
        manifest = store.manifest(node.stage, key)
        assert digest({n: manifest.document()[n] for n in ("stage", "version", "settings", "inputs")}) == key


def test_arms_are_parsed_with_nothing_said(empty: Store) -> None:
    values = tiny.raw()
    values["arms"] = {"real": None}
    assert build(parse(values, "tiny.yaml"), empty).chains.keys() == {("real", 0)}
