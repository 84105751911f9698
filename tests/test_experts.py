"""Expert trajectories, and what the store keeps of them."""

from __future__ import annotations

import tiny
import torch
from reference import convnet, examples_of

from distill_prune.artifacts import Trajectory
from distill_prune.distill.experts import train_expert
from distill_prune.progress import SILENT
from distill_prune.rng import Streams
from distill_prune.store.store import Store
from distill_prune.training import Recipe
from distill_prune.tree import flatten, select, shapes

EXPERT = Recipe(length="4ep", batch=8, lr=0.05, momentum=0.0)


def test_a_trajectory_begins_at_its_initialisation_and_moves():
    model = convnet()
    examples, streams = examples_of(model, 24, dtype=torch.float32), Streams(3, ("experts",), (("index", 1),))
    made, cost = train_expert(model, examples, EXPERT, streams, "cpu", SILENT)
    start = model.fresh(3, "experts", "init", index=1)
    assert torch.equal(made.checkpoints[0], flatten(start, model.parameters))
    assert len(made.checkpoints) == 5 and [r["epoch"] for r in made.record] == [1, 2, 3, 4]
    for t in range(4):
        assert not torch.equal(made.checkpoints[t], made.checkpoints[t + 1])
    assert (cost.images, cost.steps) == (4 * 24, 4 * 3)
    other = train_expert(model, examples, EXPERT, Streams(3, ("experts",), (("index", 2),)), "cpu", SILENT)[0]
    assert not torch.equal(made.checkpoints[0], other.checkpoints[0])


def test_the_store_keeps_the_layout_of_a_trajectory(tmp_path):
    model = convnet(depth=2)
    names = [n for n, _ in model.module.named_parameters()]
    assert sorted(names) != names  # else the test could not fail
    start = select(model.fresh(0, "init"), names)
    rows = torch.stack([flatten(start) + t for t in range(3)])
    made = Trajectory(rows, shapes(start), ({"epoch": 1.0, "train_loss": 0.5}, {"epoch": 2.0, "train_loss": 0.25}))
    store, provenance = Store(tmp_path, create=True), tiny.provenance("experts", {"seed": 0})
    key = provenance.key
    store.write(provenance, made.parts())
    for read in (store.trajectory(key), Trajectory.of(store.read("experts", key))):
        assert list(read.shapes) == names and read.record == made.record and len(read.checkpoints) == 3
        for t in range(3):
            state = read.state(t)
            assert all(torch.equal(state[n], start[n] + t) for n in names)
