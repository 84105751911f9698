"""A whole study of text: it runs to its report, and its keys do not know where files lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_bert
import tiny_text
import torch
from reference_report import only, vector
from safetensors.torch import load_file
from tiny import Cli, Watch, node_of
from tiny_text import Study, copied, equal, pipeline, ticket

from distill_prune.artifacts import Weights
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.report import figures
from distill_prune.rng import Streams
from distill_prune.run.reader import Reader
from distill_prune.run.run import run
from distill_prune.run.worker import conditions
from distill_prune.store.store import Store
from distill_prune.training import train

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")


@pytest.fixture
def study(text_study: Study) -> Study:
    return text_study


file = pytest.fixture(tiny_text.file)


def missing(graph: Graph, store: Store) -> list[str]:
    return sorted(n.stage for n in graph.nodes.values() if not store.exists(n.stage, n.key))


# -- what it made


def test_arms_have_the_asked_sparsity_and_begin_at_the_pre_trained_weights(study: Study) -> None:
    _, graph, at = study
    held = load_file(at["model"] / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    for arm in graph.pipeline.arms:
        found = ticket(study, arm)
        assert found.mask.remaining == 4096 - 2 * 819 and found.level == 2
        assert torch.equal(found.state[name], held[name])
        rewound = arm not in ("standard", "reinitialised")
        same = all(torch.equal(found.state[n][k], held[n][k]) for n, k in found.mask.kept.items())
        assert same == rewound
    assert ticket(study, "real").mask.inside(ticket(study, "real", 1).mask)


def test_masks_of_controls(study: Study) -> None:
    def kept(arm: str) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = ticket(study, arm).mask.kept
        return found

    assert equal(kept("one_shot"), kept("long")) and not equal(kept("one_shot"), kept("real"))
    assert equal(kept("real_on_other"), kept("real")) and equal(kept("both_on_real"), kept("both"))
    assert equal(kept("reinitialised"), kept("real"))
    assert not equal(kept("swapped"), kept("real"))
    assert ticket(study, "swapped").mask.layers() == ticket(study, "real").mask.layers()


def test_heads_are_their_task_s(study: Study) -> None:
    sizes = {"real": 2, "other": 3, "both": 5, "real_on_other": 3, "both_on_real": 2}
    assert {arm: len(ticket(study, arm).state["classifier.weight"]) for arm in sizes} == sizes
    own = ticket(study, "other", 0).state["classifier.weight"]
    assert torch.equal(ticket(study, "real_on_other").state["classifier.weight"], own)


def test_copies_are_of_their_arm_s_data(study: Study) -> None:
    store, graph, _ = study
    data = {arm: graph.real(task) for arm, task in (("real", None), ("other", "other"), ("real_on_other", "other"))}
    data |= {"both": graph.tasks["both"], "both_on_real": graph.data, "distilled": graph.data}
    assert len(set(data.values())) == 3
    for unit in graph.units:
        if unit.arm in data:
            for key in unit.copies:
                assert store.manifest("retrain", key).inputs["data"] == data[unit.arm]
    assert graph.chains["real", 0][0] == graph.chains["both_on_real", 0][0]
    assert graph.chains["other", 0][0] == graph.chains["real_on_other", 0][0]


def test_copies_do_not_keep_what_is_frozen(study: Study) -> None:
    """And come back whole, bit for bit as training left them."""
    store, graph, at = study
    model = tiny_text.model_of(at["model"], shape=(2, tiny_text.LONGEST))
    unit = next(u for u in graph.units if u.arm == "real" and u.level == 2)
    held = Weights.of(store.read("retrain", unit.copies[1]))
    assert held.numbers["frozen"] == list(model.frozen) and not held.state.keys() & set(model.frozen)
    found, begin = Reader(store, "cpu").state(unit.copies[1]), ticket(study, "real")
    assert list(model.module.state_dict().keys()) == sorted(found, key=list(model.module.state_dict()).index)
    examples = Reader(store, "cpu").part(graph.data, "train")
    noise = Streams(0, ("retrain",)).under(copy=1)
    with conditions(1):
        again = train(model, begin.state, examples, graph.pipeline.retrain.recipe, noise, mask=begin.mask).state
    assert equal(found, {n: again[n] for n in found}) and found.keys() == again.keys()
    assert all(torch.equal(found[n], begin.state[n]) for n in model.frozen)


def test_long_retraining_is_the_chain_s_length(study: Study) -> None:
    _, graph, _ = study
    lengths = {
        (u.arm, u.level): {graph.nodes[k].job.recipe.length for k in u.copies}
        for u in graph.units
        if u.arm in ("long", "one_shot")
    }
    assert lengths == {("long", 0): {"4it"}, ("long", 2): {"12it"}, ("one_shot", 0): {"4it"}, ("one_shot", 2): {"4it"}}
    units = {(u.arm, u.level): u.copies for u in graph.units}
    assert units["long", 0] == units["one_shot", 0] and not set(units["long", 2]) & set(units["one_shot", 2])


def test_the_summary_keeps_tasks_apart(study: Study) -> None:
    store, graph, _ = study
    numbers = store.numbers("compare", graph.summary)
    cells = {(c["source"], c["target"]): c for c in numbers["transfer"]}
    assert cells.keys() == {("real", None), ("other", "other"), ("both", "both"), ("real", "other"), ("both", None)}
    units = {(u.arm, u.level): u for u in graph.units}

    def accuracy(arm: str, level: int) -> float:
        found: float = store.numbers("compare", units[arm, level].measured["accuracy"])["accuracy"]["test"]["mean"]
        return found

    rows = {(r["arm"], r["level"]): r for r in numbers["rows"]}
    for arm, own in (("real_on_other", "other"), ("both_on_real", "real")):
        assert rows[arm, 2]["accuracy"]["mean"] == pytest.approx(accuracy(arm, 2))
        assert rows[arm, 0]["accuracy"]["mean"] == pytest.approx(accuracy(own, 0))
    metric = store.numbers("compare", units["other", 2].measured["metrics"])
    assert rows["other", 2]["f1"]["mean"] == pytest.approx(metric["f1"]["mean"])
    assert metric["accuracy"]["mean"] == pytest.approx(accuracy("other", 2))
    assert {(b.unit.arm, b.kind) for b in graph.betweens} >= {("distilled", "arms"), ("both_on_real", "arms")}
    assert not any(b.kind == "arms" and b.unit.arm in ("other", "both", "real_on_other") for b in graph.betweens)


def test_a_study_of_text_has_its_report(
    study: Study, file: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_render", vector)
    store, _, _ = study
    done = cli("report", file, "--store", store.root, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="accuracy"' in page and "real_on_other" in page and 'src="data:image/png' not in page


def test_a_second_run_makes_nothing(study: Study, file: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, ("accuracy",))
    done = cli("run", file, "--store", study[0].root, "--executor", "serial", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["made"] == 0, found


# -- keys


def test_keys_do_not_know_where_files_lie(study: Study, tmp_path: Path) -> None:
    store, graph, at = study
    moved = build(pipeline(copied(at, tmp_path)), store)
    assert moved.nodes.keys() == graph.nodes.keys() and missing(moved, store) == []
    for node in graph.nodes.values():
        assert str(at["model"].parent) not in json.dumps(store.manifest(node.stage, node.key).settings)


def test_what_lies_elsewhere_is_enough(study: Study, tmp_path: Path) -> None:
    """The same study goes on from its new places: nothing is read at the old ones."""
    store, _, at = study
    own = Store(Path(shutil.copytree(store.root, tmp_path / "store")), create=True)
    graph = build(pipeline(copied(at, tmp_path), "seeds=[0,1]", "only.accuracy.seeds=[0]"), own)
    wanted = node_of(graph, "real seed 1 level 1")
    only = Graph(graph.pipeline)
    waiting = [wanted.key]
    while waiting:
        key = waiting.pop()
        if key in graph.nodes:
            only.nodes[key] = graph.nodes[key]
            waiting += list(graph.nodes[key].inputs.values())
    done = run(only, own, "serial", "cpu", 1, "compare", Watch(), lambda node: 1.0)
    assert done.made == 2 and Reader(own, "cpu").ticket(wanted.key).mask.remaining == 4096 - 819


def test_keys_know_the_bytes_of_the_weights(study: Study, tmp_path: Path) -> None:
    store, _, at = study
    here = copied(at, tmp_path)
    tiny_bert.write(here["model"], seed=1)
    stages = missing(build(pipeline(here), store), store)
    assert set(stages) == {"distill", "prune", "retrain", "compare"} and stages.count("distill") == 1


def test_keys_know_the_bytes_of_the_tokenizer(study: Study, tmp_path: Path) -> None:
    store, graph, at = study
    here = copied(at, tmp_path)
    words = here["words"] / "vocab.txt"
    words.write_text(words.read_text().replace("film\nplot", "plot\nfilm"), encoding="utf-8")
    assert missing(build(pipeline(here), store), store).count("data") == 3 == len({graph.data, *graph.tasks.values()})
    (here["words"] / "vocab.txt").write_bytes((at["words"] / "vocab.txt").read_bytes())
    (here["words"] / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert missing(build(pipeline(here), store), store).count("data") == 3


def test_keys_know_the_bytes_of_the_data(study: Study, tmp_path: Path) -> None:
    store, _, at = study
    here = copied(at, tmp_path)
    with (here["other"] / "dev.tsv").open("a", encoding="utf-8") as more:
        more.write("film not plot\t1\n")
    graph = build(pipeline(here), store)
    gone = {n.label for n in graph.nodes.values() if n.stage == "data" and not store.exists(n.stage, n.key)}
    assert gone == {"data other", "data both"}
