"""Convex experts: two checkpoints, the line between them, and what can be made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from reference import convnet, examples_of, interrupted
from reference_methods import STREAMS, made_source, point_on_line
from safetensors.torch import load_file

from distill_prune.artifacts import Line, Parts, SyntheticSet, Trajectory
from distill_prune.artifacts.convex import convexified, progress
from distill_prune.conformance.inputs import convex
from distill_prune.distill import METHODS, Source, dynamics, last_epoch, moderate, subset, trajectory
from distill_prune.distill.experts import train_expert
from distill_prune.errors import ConfigError, DamagedArtifact, RunError, UserError
from distill_prune.interop import FORMATS, Export
from distill_prune.plan.graph import build
from distill_prune.plan.papers import papers
from distill_prune.progress import SILENT
from distill_prune.rng import Streams, stream
from distill_prune.run.imagined import Imagined
from distill_prune.store.store import NUMBERS, TENSORS, Store
from distill_prune.training import Recipe

SHAPES = {"a": torch.Size([2, 3]), "still": torch.Size([4]), "b": torch.Size([5])}
SIZES = [6, 4, 5]
MCT = "Towards Stable and Storage-efficient Dataset Distillation: Matching Convexified Trajectory"
EPOCHS = 9
TEACHERS = f"experts.recipe.length={EPOCHS}ep"
ALIKE = ("experts.convex=true", TEACHERS)
CONTINUOUS = (*ALIKE, "distill.synthetic.starts=continuous")


def rows_of(dtype: torch.dtype = torch.float64, epochs: int = 5) -> torch.Tensor:
    """Checkpoints (T + 1, P) that go to and fro, in steps of different lengths; the tensor `still` never moves."""
    steps = torch.randn(epochs + 1, 15, generator=stream(0, "rows"), dtype=dtype) * torch.arange(1, epochs + 2)[:, None]
    rows = steps.cumsum(0).to(dtype)
    rows[:, 6:10] = rows[0, 6:10]
    return rows


def full_and_convex() -> tuple[Source, Source]:
    """A source with two experts of four epochs, and the same experts with their ends alone."""
    bare, recipe = made_source(), Recipe(length="4ep", batch=8, lr=0.3, momentum=0.0)
    streams = Streams(0, ("t",))
    taught = [train_expert(bare.network, bare.train, recipe, streams.under(index=i), "cpu", SILENT)[0] for i in range(2)]
    full = replace(bare, experts=taught)
    return full, replace(full, experts=convex(taught))


# the line


@pytest.mark.parametrize("time", [0, 1, 3, 5, 0.25, 1.5, 4.875])
def test_points_are_those_written_out(time: float) -> None:
    rows = rows_of()
    point = convexified(rows, SHAPES).at(time)
    assert point.tolist() == pytest.approx(point_on_line(rows.tolist(), SIZES, time), rel=1e-12, abs=1e-12)


def test_points_in_float32_are_those_of_float64_to_rounding() -> None:
    rows = rows_of(torch.float32)
    line = convexified(rows, SHAPES)
    assert line.progress.dtype == torch.float64 and line[3].dtype == torch.float32
    assert line.at(3.3).tolist() == pytest.approx(point_on_line(rows.double().tolist(), SIZES, 3.3), rel=1e-5, abs=1e-5)


def test_a_line_ends_at_the_checkpoints_and_goes_at_the_experts_pace() -> None:
    rows = rows_of(torch.float32)
    line = convexified(rows, SHAPES)
    assert torch.equal(line[0], rows[0]) and torch.equal(line[5], rows[-1]) and len(line) == 6
    assert not torch.allclose(line[2], rows[2])  # else the test says nothing of a line
    for t in range(1, 6):
        for part in (slice(6), slice(10, 15)):
            step, own = (torch.linalg.vector_norm((of[t] - of[t - 1])[part].double()) for of in (line, rows))
            way = sum(torch.linalg.vector_norm((rows[i] - rows[i - 1])[part].double()) for i in range(1, 6))
            span = torch.linalg.vector_norm((rows[-1] - rows[0])[part].double())
            assert float(step / span) == pytest.approx(float(own / way), rel=1e-4)
    assert line.progress[:, 1].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])  # what never moves
    line[0].zero_()
    assert torch.equal(line[0], rows[0])  # points are in memory of their own


def test_there_is_nothing_before_or_after_a_line() -> None:
    line = convexified(rows_of(), SHAPES)
    for time in (-0.001, 5.001, 6, -1):
        with pytest.raises(IndexError, match="on a line of 5 epochs"):
            line.at(time)
    assert len([*line]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ends, a: (ends[:1], a, SIZES), "wrong shape: 1 rows"),
        (lambda ends, a: (ends, a[:, :2], SIZES), r"progress \(6, 2\), expected 2 rows, progress \(T \+ 1, 3\)"),
        (lambda ends, a: (ends, a[:1], SIZES), "wrong shape"),
        (lambda ends, a: (ends, a.flip(0), SIZES), "does not go from 0 to 1"),
        (lambda ends, a: (ends, a[[0, 2, 1, 5]], SIZES), "does not go from 0 to 1"),
        (lambda ends, a: (ends, a[:-1], SIZES), "does not go from 0 to 1"),
        (lambda ends, a: (ends, torch.where(a == a[2, 0], torch.nan, a), SIZES), "does not go from 0 to 1"),
    ],
)
def test_lines_that_are_none_are_refused(change, message: str) -> None:
    rows = rows_of()
    with pytest.raises(ValueError, match=message):
        Line(*change(rows[[0, -1]], progress(rows, SIZES)))


# the store


def test_the_store_keeps_two_rows_and_the_pace(tmp_path: Path) -> None:
    made = Trajectory(convexified(rows_of(torch.float32), SHAPES), SHAPES, ({"epoch": 1.0, "train_loss": 0.5},))
    store, provenance = Store(tmp_path, create=True), tiny.provenance("experts", {"seed": 0})
    store.write(provenance, made.parts())
    assert load_file(store.path("experts", provenance.key) / TENSORS)["checkpoints"].shape == (2, 15)
    for read in (store.trajectory(provenance.key), Trajectory.of(store.read("experts", provenance.key))):
        assert read.convex and len(read.checkpoints) == 6 and list(read.shapes) == list(SHAPES) and read.record == made.record
        for time in (0, 0.5, 2, 3.75, 5):
            assert torch.equal(read.at(time), made.at(time))
        assert all(torch.equal(read.state(2)[n], made.state(2)[n]) for n in SHAPES)
        assert read.parts().content() == made.parts().content()


def test_numbers_that_make_no_line_are_damage(tmp_path: Path) -> None:
    parts = Trajectory(convexified(rows_of(), SHAPES), SHAPES).parts()
    store, provenance = Store(tmp_path, create=True), tiny.provenance("experts", {"seed": 0})
    for broken in (parts.numbers["progress"][:-1], [[0.0], [1.0]], [], [[0.0, 0.0, 0.0], [1.0]], "none"):
        with pytest.raises(ValueError, match=r"line|progress|expected|dim"):
            Trajectory.of(Parts(parts.tensors, {**parts.numbers, "progress": broken}))
    store.write(provenance, Parts(parts.tensors, {**parts.numbers, "progress": parts.numbers["progress"][:-1]}))
    with pytest.raises(DamagedArtifact, match="does not go from 0 to 1"):
        store.trajectory(provenance.key)


def test_a_trajectory_that_is_not_convex_has_no_points_between() -> None:
    full = Trajectory(rows_of(), SHAPES)
    assert not full.convex and "progress" not in full.parts().numbers
    with pytest.raises(RunError, match="not convex"):
        full.at(0.5)


# methods


def matched(**more: object) -> trajectory.Settings:
    values = {"ipc": 1, "iterations": 12, "inner_steps": 2, "expert_epochs": 1, "max_start": 3, "augment": "none", "segment": 1}
    return trajectory.Settings.model_validate({**values, "lr_pixels": 1.0, **more})


class Asked(list):
    """An expert that remembers the times of the points that it is asked for."""

    def at(self, time: float) -> torch.Tensor:
        self.append(time)
        return torch.zeros(1)


@pytest.mark.parametrize(("more", "most"), [({}, 3.0), ({"first_max_start": 2, "growth": 100}, 2.0)])
def test_continuous_starts_fill_the_range_of_starts(more: dict[str, int], most: float) -> None:
    settings, expert = matched(starts="continuous", min_start=1, **more), Asked()
    for iteration in range(100):
        trajectory._ends(settings, [expert], STREAMS, iteration, "cpu")
    starts, targets = expert[::2], expert[1::2]
    assert [b - a for a, b in zip(starts, targets, strict=True)] == pytest.approx([1.0] * 100)
    assert min(starts) >= 1 and max(starts) < most and len({*starts}) == 100
    assert min(starts) < 1.1 and max(starts) > most - 0.1  # no part of the range is left out
    assert last_epoch(settings) == 4 and last_epoch(matched()) == 3


def test_every_start_of_convex_experts_is_matched_and_a_set_learned() -> None:
    full, lines = full_and_convex()
    for starts in ("epochs", "continuous"):
        made = trajectory.distill(matched(starts=starts), lines, STREAMS, "cpu", SILENT)
        assert made.set.images.isfinite().all() and made.record["loss"]
        other = trajectory.distill(matched(), full, STREAMS, "cpu", SILENT)
        assert not torch.equal(made.set.images, other.set.images)


def test_interrupted_and_resumed_is_bit_equal() -> None:
    _, lines = full_and_convex()
    settings = matched(starts="continuous", labels="soft", init="correct")

    def task(progress):
        return trajectory.distill(settings, lines, STREAMS, "cpu", progress)

    assert torch.equal(interrupted("iteration", 7, task).set.images, task(SILENT).set.images)


def test_what_reads_the_last_checkpoint_gives_the_same_set() -> None:
    full, lines = full_and_convex()
    for method, settings in (
        (moderate, moderate.Settings(ipc=2)),
        (subset, subset.Settings(ipc=2, labels="teacher")),
    ):
        of_full, of_lines = (method.distill(settings, of, STREAMS, "cpu", SILENT).set for of in (full, lines))
        assert torch.equal(of_full.images, of_lines.images) and torch.equal(of_full.labels, of_lines.labels)


def test_outputs_between_the_ends_are_refused() -> None:
    full, lines = full_and_convex()
    x = full.train.inputs(slice(None))
    for epoch in (None, 0, 4):
        ours, theirs = (dynamics.logits(of, of.experts[0], epoch, x)[0] for of in (lines, full))
        assert torch.equal(ours, theirs)
    with pytest.raises(ConfigError, match=r"(?s)convex experts keep their first and last .*epoch 2.*convex: false"):
        dynamics.logits(lines, lines.experts[0], 2, x)
    with pytest.raises(ConfigError, match="convex experts"):
        METHODS["forgetting"].distill(METHODS["forgetting"].Settings(ipc=1), lines, STREAMS, "cpu", SILENT)


# the plan


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["distill.subset={name: forgetting, ipc: 1}"], "'distill.subset' in .*: it reads what experts say at the ends"),
        (["distill.subset={name: margin, ipc: 1}"], "fix: +experts.convex: false"),
        (["distill.subset={name: el2n, ipc: 1, epoch: 2}"], "it reads what experts say"),
        (["distill.subset={name: coverage, ipc: 1}"], "it reads what experts say"),
        (["distill.subset={name: subset, ipc: 1, labels: teacher, teacher_epoch: 2}"], "it reads what experts say"),
        (["distill.synthetic.source={score: margin}"], "'distill.synthetic' in .*: it reads what experts say"),
        (["distill.synthetic.starts=continuous", "experts.convex=false"], "(?s)only convex experts have.*experts.convex: true"),
        (["distill.synthetic.starts=continuous", "distill.synthetic.source={score: margin}"], "leave out starts or source"),
        (["distill.synthetic.starts=continuous", "distill.synthetic.max_start=9"], "it reads epoch 10 of the experts"),
        (["experts.stored=[abcd]"], "'experts.convex' in .*: stored experts are of the kind that they were trained as"),
    ],
)
def test_what_convex_experts_do_not_have_is_refused(sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.pipeline(*ALIKE, *sets)


def test_what_reads_the_ends_alone_is_planned() -> None:
    for method in ("{name: moderate, ipc: 1}", "{name: subset, ipc: 1, labels: teacher}", "{name: herding, ipc: 1}"):
        tiny.pipeline(*ALIKE, f"distill.subset={method}")
    tiny.pipeline(*CONTINUOUS, "distill.synthetic.max_start=8")


def test_experts_alone_are_of_another_key(empty: Store) -> None:
    def keys(*sets: str) -> dict[str, str]:
        return {node.label: key for key, node in build(tiny.pipeline(TEACHERS, *sets), empty).nodes.items()}

    full, lines, starts = keys(), keys("experts.convex=true"), keys(*CONTINUOUS)
    assert keys("experts.convex=false", "distill.synthetic.starts=epochs") == full
    differ = {label for label in full if full[label] != lines[label]}
    assert {"expert 0", "expert 1", "set synthetic"} <= differ and not {"data digits", "set subset"} & differ
    assert starts["expert 0"] == lines["expert 0"] and starts["set synthetic"] != lines["set synthetic"]


def test_the_paper_is_cited_where_experts_are_convex() -> None:
    assert MCT in {paper.title for paper in papers(tiny.pipeline(*ALIKE))}
    assert MCT not in {paper.title for paper in papers(tiny.pipeline())}


def test_convex_experts_that_are_not_there_are_made_up(empty: Store) -> None:
    graphs = [build(tiny.pipeline(*sets), empty) for sets in ((TEACHERS,), CONTINUOUS)]
    nodes = [tiny.node_of(graph, "expert 0") for graph in graphs]
    full, lines = (Imagined(graph, empty, "cpu") for graph in graphs)
    assert full.size(nodes[0]) == (EPOCHS + 1) / 2 * lines.size(nodes[1])
    made = lines.trajectory(nodes[1].key)
    assert made.convex and len(made.checkpoints) == EPOCHS + 1 and not torch.equal(made.at(0.5), made.at(8.5))


# from a pipeline to a set


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_set_is_made_from_a_fraction_of_the_storage(tmp_path: Path, lanes: int) -> None:
    stores = [Store(tmp_path / name, create=True) for name in ("full", "convex")]
    graphs = []
    for store, sets in zip(stores, ((TEACHERS,), CONTINUOUS), strict=True):
        graph, report = tiny.execute(store, *sets, f"lanes={lanes}", until="distill")
        assert report.made == sum(node.stage in ("data", "experts", "distill") for node in graph.nodes.values())
        graphs.append(graph)
    for i in range(2):
        full, lines = (store.trajectory(tiny.node_of(g, f"expert {i}").key) for store, g in zip(stores, graphs, strict=True))
        assert lines.convex and len(lines.checkpoints) == len(full.checkpoints) == EPOCHS + 1
        for t in (0, EPOCHS):
            assert torch.equal(full.checkpoints[t], lines.checkpoints[t])
        rows = full.parts().tensors["checkpoints"]
        assert torch.equal(lines.at(4), convexified(rows, full.shapes).at(4)) and not torch.equal(lines.at(4), rows[4])
    sizes = [sum((store.path("experts", key) / TENSORS).stat().st_size for key in store.keys("experts")) for store in stores]
    assert sizes[1] / sizes[0] == pytest.approx(2 / (EPOCHS + 1), rel=0.1)
    key = graphs[1].sets["synthetic"]
    assert stores[1].noun("distill", key, SyntheticSet.of).images.isfinite().all()
    assert json.loads((stores[1].path("experts", stores[1].keys("experts")[0]) / NUMBERS).read_text())["progress"][-1][0] == 1.0
    assert tiny.execute(stores[1], *CONTINUOUS, f"lanes={lanes}", until="distill")[1].made == 0


def test_stored_experts_of_either_kind(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    for name, sets in (("line", ALIKE), ("full", (TEACHERS,))):
        graph, _ = tiny.execute(store, *sets, until="experts")
        store.tag(tiny.node_of(graph, "expert 0").key, name)
    continuous, epochs = "distill.synthetic.starts=continuous", "distill.subset={name: margin, ipc: 1}"
    build(tiny.pipeline("experts.stored=[line]", continuous), store)
    build(tiny.pipeline("experts.stored=[full]", epochs), store)
    with pytest.raises(ConfigError, match=r"'full' is an expert that is not convex: starts: continuous takes points"):
        build(tiny.pipeline("experts.stored=[line, full]", continuous), store)
    with pytest.raises(ConfigError, match=r"'line' is a convex expert: it reads what experts say at the ends of epochs"):
        build(tiny.pipeline("experts.stored=[line]", epochs), store)
    write = FORMATS["mtt-experts"].write
    with pytest.raises(UserError, match=r"(?s)a replay buffer holds an expert's own checkpoints.*experts.convex: false"):
        write(Export((store.trajectory(store.find("line").key),)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_teacher_is_trained_as_any_other() -> None:
    model, recipe = convnet(), Recipe(length="3ep", batch=8, lr=0.05, momentum=0.0)
    examples, streams = examples_of(model, 24, dtype=torch.float32), Streams(3, ("experts",), (("index", 1),))
    (full, cost), (line, same) = (
        train_expert(model, examples, recipe, streams, "cpu", SILENT, convex=convex) for convex in (False, True)
    )
    assert cost == same and full.record == line.record and line.convex and len(line.checkpoints) == 4
    assert torch.equal(line.checkpoints[3], full.checkpoints[3])
