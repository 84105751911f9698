"""A whole study of text: it runs to its report, its keys do not know where files lie, and what it made can be taken out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_bert
import tiny_text
import torch
import yaml
from safetensors.torch import load_file
from tiny import Cli, Watch, node_of

from distill_prune.artifacts import Weights
from distill_prune.errors import ConfigError
from distill_prune.models import build_model, resolved
from distill_prune.pipeline.config import Pipeline, parse
from distill_prune.pipeline.files import override
from distill_prune.pipeline.graph import build
from distill_prune.pipeline.nodes import Graph
from distill_prune.pipeline.run import run
from distill_prune.pipeline.stages import Reader
from distill_prune.pipeline.store import Store
from distill_prune.pipeline.worker import conditions
from distill_prune.rng import Streams
from distill_prune.training import train

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

Study = tuple[Store, Graph, dict[str, Path]]


def pipeline(at: dict[str, Path], *assignments: str) -> Pipeline:
    values = tiny_text.raw(at)
    override(values, assignments)
    return parse(values, "text.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A store that holds all of the study; not to be changed."""
    root = tmp_path_factory.mktemp("text")
    at, store = tiny_text.places(root / "at"), Store(root / "store", create=True)
    graph = build(pipeline(at), store)
    report = run(graph, store, "serial", "cpu", 1, "compare", Watch(), lambda node: 1.0)
    assert report.made == len(graph.nodes)
    return store, graph, at


@pytest.fixture
def file(study: Study, tmp_path: Path) -> Path:
    path = tmp_path / "text.yaml"
    path.write_text(yaml.safe_dump(tiny_text.raw(study[2]), sort_keys=False), encoding="utf-8")
    return path


def copied(at: dict[str, Path], to: Path) -> dict[str, Path]:
    """The same files elsewhere, under other names of folders."""
    return {name: Path(shutil.copytree(path, to / f"moved {name}")) for name, path in at.items()}


def missing(graph: Graph, store: Store) -> list[str]:
    return sorted(n.stage for n in graph.nodes.values() if not store.exists(n.stage, n.key))


def ticket(study: Study, arm: str, level: int = 2) -> Any:
    store, graph, _ = study
    return Reader(store, "cpu").ticket(graph.chains[arm, 0][level])


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


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
                assert store.manifest("retrain", key)["inputs"]["data"] == data[unit.arm]
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
    assert cells.keys() == {("real", None), ("both", "both"), ("real", "other"), ("both", None)}
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


def test_a_study_of_text_has_its_report(study: Study, file: Path, cli: Cli, tmp_path: Path) -> None:
    store, _, _ = study
    done = cli("report", file, "--store", store.root, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="accuracy"' in page and "real_on_other" in page and 'src="data:image/png' not in page


def test_a_second_run_makes_nothing(study: Study, file: Path, cli: Cli) -> None:
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
        assert str(at["model"].parent) not in json.dumps(store.manifest(node.stage, node.key)["settings"])


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


# -- settings


def test_tasks_without_a_path_lie_where_the_data_do(study: Study) -> None:
    values = tiny_text.raw(study[2])
    del values["tasks"]["other"]["path"], values["tasks"]["both"]["tasks"]["two"]["path"]
    found: dict[str, Any] = parse(values, "text.yaml").tasks
    here = str(study[2]["data"])
    assert found["other"].path == here and found["both"].tasks["two"].path == here
    assert parse(tiny_text.raw(study[2]), "text.yaml").tasks["other"].path == str(study[2]["other"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("arms.other={task: ohter}", r"arms.other.task is 'ohter'.*other"),
        (
            "arms.new={control: {of: real, kind: transferred}}",
            "arms.new: transferred means to another task than that of 'real'",
        ),
        ("arms.new={control: {of: other, kind: transferred}, task: other}", "another task than that of 'other'"),
        ("arms.new={control: {of: other, kind: shuffled}, task: other}", "of the task of the arm 'other' that it is made from"),
        ("arms.new={begins: {arm: real, level: 1}, task: other}", "that it is made from; leave task out"),
        ("arms.new={control: {of: real, kind: swapped}, rewind: none}", "leave out images, recipe, criterion.*rewind"),
        ("arms.new={task: other, retrain: twice}", "'once' or 'chain'"),
        ("prune.rate=0.5", "prune.levels 2 of 0.5 of the original weights leave none"),
        ("prune.rewind.head=keep", "'carry' or 'redraw'"),
        ("prune.share=all", "'remaining' or 'original'"),
        ("retrain.recipe.head_lr=0", "greater than 0"),
        ("only.nothing={arms: [real]}", "only.nothing names no analysis"),
        ("tasks.other.regresion=true", "unknown key 'tasks.other.regresion'"),
        ("tasks.both.tasks.one.regression=true", "task 'one' has numbers as labels"),
    ],
)
def test_what_means_nothing_is_refused(study: Study, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(study[2], assignment)


def test_an_inherited_restriction_can_be_left_out(study: Study) -> None:
    found = pipeline(study[2], "only.curvature=null")
    assert "curvature" not in found.only and "connectivity" in found.only


def test_only_methods_of_text_can_be_planned(study: Study) -> None:
    store, _, at = study
    for name in ("trajectory", "gradient", "herding"):
        changed = pipeline(at, f"distill.distilled={{name: {name}, ipc: 1}}", "experts.recipe.length=60ep")
        with pytest.raises(ConfigError, match=f"method '{name}' is for images, and the data are text"):
            build(changed, store)
    values = tiny_text.raw(at)
    values |= {"data": {"name": "digits"}, "tasks": {}, "arms": {"real": {}}}
    values["only"] = {}
    with pytest.raises(ConfigError, match="method 'embedding' is for text, and the data are images"):
        build(parse(values, "text.yaml"), store)


def test_a_set_of_other_classes_is_refused(study: Study, file: Path, cli: Cli, tmp_path: Path) -> None:
    """Sets are made of `data`, which has two classes, and the arm's own task has three."""
    for name in ("sentences", "distilled"):
        store = Path(shutil.copytree(study[0].root, tmp_path / name))
        done = cli(
            "prune", file, "--store", store, "--executor", "serial", "--set", f"arms.new={{images: {name}, task: other}}"
        )
        assert done.code == 2 and "does not fit its network" in done.err and "2 classes" in done.err, done.err


def test_synflow_is_for_images(study: Study, file: Path, cli: Cli, tmp_path: Path) -> None:
    store = Path(shutil.copytree(study[0].root, tmp_path / "store"))
    new = "arms.new={criterion: {name: synflow, rounds: 2}}"
    done = cli("prune", file, "--store", store, "--executor", "serial", "--set", new)
    assert done.code == 2 and "synflow sends ones through a network of images" in done.err, done.err


# -- out of the store and in


def test_tickets_can_be_looked_at(study: Study, cli: Cli) -> None:
    store, graph, _ = study
    key, other = graph.chains["real", 0][2], graph.chains["swapped", 0][2]
    shown = cli("show", key, "--store", store.root)
    assert shown.code == 0 and '"label": "real seed 0 level 2"' in shown.out and '"weights": "' in shown.out
    listed = cli("ls", "prune", "--store", store.root)
    assert listed.code == 0 and "real_on_other seed 0 level 2" in listed.out
    apart = cli("diff", key, other, "--store", store.root)
    assert apart.code == 0 and "39.99%" in apart.out and "attention.self.query" in apart.out
    sets = list(graph.sets.values())
    unlike = cli("diff", *sets, "--store", store.root)
    assert unlike.code == 2 and "different images cannot be compared" in unlike.err


@pytest.mark.parametrize("form", ["state-dict", "safetensors", "torch-prune"])
@pytest.mark.parametrize("what", ["ticket", "copy"])
def test_networks_are_exported_whole(study: Study, cli: Cli, tmp_path: Path, form: str, what: str) -> None:
    """With the frozen embeddings that a copy in the store does not hold."""
    store, graph, at = study
    unit = next(u for u in graph.units if u.arm == "real" and u.level == 2)
    path = tmp_path / ("out.safetensors" if form == "safetensors" else "out.pt")
    done = cli("export", unit.ticket if what == "ticket" else unit.copies[0], "--to", form, path, "--store", store.root)
    assert done.code == 0, done.err
    assert "2,458 of 4,096 prunable survive" in done.out
    reader = Reader(store, "cpu")
    expected = reader.ticket(unit.ticket).state if what == "ticket" else reader.state(unit.copies[0])
    found = load_file(path) if form == "safetensors" else torch.load(path, weights_only=True)
    if form == "torch-prune":
        found = {n.removesuffix("_orig"): t for n, t in found.items() if not n.endswith("_mask")}
    assert equal(found, expected)
    tiny_text.model_of(at["model"]).module.load_state_dict(found, strict=True)


def test_an_exported_ticket_comes_back(study: Study, cli: Cli, tmp_path: Path) -> None:
    store, graph, at = study
    own = Path(shutil.copytree(store.root, tmp_path / "store"))
    key, path = graph.chains["real", 0][2], tmp_path / "out.pt"
    assert cli("export", key, "--to", "torch-prune", path, "--store", own).code == 0
    network = ("--set", "model.name=bert", "--set", "model.pooling=mean", "--set", f"model.path={at['model']}")
    done = cli("import", "torch-prune", path, "--set", f"dataset={graph.data}", *network, "--store", own, "--json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)["artifacts"]
    found = Reader(Store(own), "cpu").ticket(made["key"])
    assert equal(found.state, ticket(study, "real").state) and equal(found.mask.kept, ticket(study, "real").mask.kept)
    again = cli("export", made["key"], "--to", "state-dict", tmp_path / "again.pt", "--store", own)
    assert again.code == 0, again.err


def test_onnx_and_formats_of_images_are_refused(study: Study, cli: Cli, tmp_path: Path) -> None:
    store, graph, _ = study
    done = cli("export", graph.chains["real", 0][2], "--to", "onnx", tmp_path / "x.onnx", "--store", store.root)
    assert done.code == 2 and "networks of text are not written as ONNX" in done.err
    for name in ("distilled", "sentences"):
        for form in ("npz", "mtt", "dc", "ddranking"):
            done = cli("export", graph.sets[name], "--to", form, tmp_path / f"{name}.{form}", "--store", store.root)
            assert done.code == 2 and "holds images, and the set is of text" in done.err, (name, form, done.out, done.err)


def test_evaluating_a_set_of_text(study: Study, cli: Cli, tmp_path: Path) -> None:
    """Where the weights lie is in no manifest, so it must be said; where it is, the pipeline's own artifact is found."""
    store, graph, at = study
    own = Path(shutil.copytree(store.root, tmp_path / "store"))
    key, short = graph.sets["distilled"], ("--set", "nets=1", "--set", "length=2it", "--set", "batch=4")
    refused = cli("evaluate", key, *short, "--store", own)
    assert refused.code == 2 and "`path`: the directory that holds them" in refused.err
    elsewhere = tiny_bert.write(tmp_path / "elsewhere", seed=1)
    wrong = cli("evaluate", key, *short, "--set", f"model.path={elsewhere}", "--store", own)
    assert wrong.code == 2 and "is not the one that model 'bert' names by its weights" in wrong.err
    asked = graph.pipeline.compare["evaluation"].model_dump()
    same = [x for n in ("nets", "length", "batch", "lr", "optimizer") for x in ("--set", f"{n}={asked[n]}")]
    done = cli("evaluate", key, *same, "--set", f"model.path={at['model']}", "--store", own)
    assert done.code == 0 and "to make" not in done.out, done.err + done.out
    other = cli("evaluate", key, *short, "--set", f"model.path={at['model']}", "--set", "architectures.b.name=bert",
                "--set", f"architectures.b.path={elsewhere}", "--store", own)  # fmt: skip
    assert other.code == 0, other.err
    sentences = cli("evaluate", graph.sets["sentences"], *short, "--set", "model.name=bert",
                    "--set", f"model.path={at['model']}", "--store", own)  # fmt: skip
    assert sentences.code == 0, sentences.err


def test_networks_are_built_without_their_directory(study: Study) -> None:
    """From what the keys hold alone."""
    settings = resolved(study[1].pipeline.model)
    bare = settings.model_copy(update={"path": None})
    assert build_model(bare, (2, 9), 2).prunable == tiny_text.model_of(study[2]["model"]).prunable
