"""Foreign files into a store, into a study, and out again, by the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from reference_report import only
from tiny import Cli

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store


@pytest.fixture
def mtt(tmp_path):
    """A set as the code of trajectory matching saves it: one image of 8x8 pixels for each of ten digits."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    torch.save(torch.randn(10, 1, 8, 8), folder / "images_best.pt")
    torch.save(torch.arange(10), folder / "labels_best.pt")
    return folder


def test_a_set_tied_to_its_data_is_pruned_with_and_goes_out_byte_by_byte(
    cli: Cli, store: Store, graph: Graph, file: str, mtt, tmp_path, monkeypatch
):
    only(monkeypatch, ("accuracy",))
    where = ("--store", store.root)
    asked = ("import", "mtt", mtt, "--set", "lr=0.02", "--set", "space=normalize", "--set", f"dataset={graph.data[:12]}")
    done = cli(*asked, "--tag", "theirs", *where)
    assert done.code == 0 and done.out.startswith("distill "), done.err
    again = cli(*asked, "--json", *where)
    assert json.loads(again.out)["artifacts"][0]["found"] is True
    manifest = store.manifest("distill", store.find("theirs").key)
    assert manifest.inputs == {"data": graph.data} and manifest.format == "mtt"
    assert cli("verify", "theirs", *where).code == 0
    ran = cli("run", file, "--set", "distill.synthetic={name: stored, ref: theirs}", "--executor", "serial", *where)
    assert ran.code == 0, ran.err
    out = tmp_path / "out"
    assert cli("export", "theirs", "--to", "mtt", out, *where).code == 0
    for name in ("images_best.pt", "labels_best.pt"):
        assert torch.equal(torch.load(out / name), torch.load(mtt / name))
    assert cli("export", "theirs", "--to", "mtt", out, *where).code == 2, "nothing is overwritten"
    tested = cli("evaluate", "theirs", "--set", "model.name=lenet", "--set", "nets=1", "--set", "length=2it", *where)
    assert tested.code == 0 and "1 fresh lenet network: " in tested.out


def test_a_set_without_its_data_is_refused_unless_that_is_meant(cli: Cli, store: Store, file: str, mtt):
    where = ("--store", store.root)
    given = ("--set", "lr=null", "--set", "space=normalize", "--set", "mean=[0.3]", "--set", "std=[0.3]")
    cli("import", "mtt", mtt, *given, "--set", "classes=[a,b,c,d,e,f,g,h,i,j]", "--tag", "theirs", *where)
    stored = "distill.synthetic={name: stored, ref: theirs%s}"
    refused = cli("plan", file, "--set", stored % "", *where)
    assert refused.code == 2 and "other_data: true" in refused.err and "imported without `dataset`" in refused.err
    assert cli("plan", file, "--set", stored % ", other_data: true", *where).code == 0


def test_pixels_go_with_any_data(cli: Cli, store: Store, file: str, tmp_path):
    where = ("--store", store.root)
    pixels = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(10), classes=np.array([str(i) for i in range(10)]))
    done = cli("import", "npz", tmp_path / "set.npz", "--tag", "pixels", *where)
    assert done.code == 0, done.err
    ran = cli("prune", file, "--set", "distill.synthetic={name: stored, ref: pixels}", "--executor", "serial", *where)
    assert ran.code == 0, ran.err
    assert cli("export", "pixels", "--to", "npz", tmp_path / "out.npz", *where).code == 0
    assert np.load(tmp_path / "out.npz")["images"].tobytes() == pixels.tobytes()


def test_experts_come_in_and_teach(cli: Cli, store: Store, graph: Graph, file: str, tmp_path):
    where = ("--store", store.root)
    keys = [n.key for n in graph.nodes.values() if n.stage == "experts"]
    assert cli("export", keys[0], "--to", "mtt-experts", tmp_path / "buffers", *where).code == 0
    model = "model={name: convnet, depth: 2, width: 4}"
    asked = ("--set", model, "--set", f"dataset={graph.data}", "--tag", "teacher")
    done = cli("import", "mtt-experts", tmp_path / "buffers", *asked, *where)
    assert done.code == 0, done.err
    theirs, ours = store.trajectory(store.find("teacher").key), store.trajectory(keys[0])
    assert all(torch.equal(theirs.checkpoints[t], ours.checkpoints[t]) for t in range(len(ours.checkpoints)))
    together = tmp_path / "together"
    assert cli("export", graph.sets["synthetic"], "--to", "mtt-experts", together, *where).code == 0
    assert len(torch.load(together / "replay_buffer_0.pt")) == len(keys)
    without = cli("export", graph.sets["subset"], "--to", "mtt-experts", tmp_path / "none", *where)
    assert without.code == 2 and "was made without experts" in without.err
    taught = cli("distill", file, "--set", "experts.stored=[teacher]", "--executor", "serial", *where)
    assert taught.code == 0, taught.err
    short = cli("plan", file, "--set", "experts.stored=[teacher]", "--set", "distill.synthetic.max_start=9", *where)
    assert short.code == 2 and "ends before the epochs that matching uses" in short.err
    assert cli("plan", file, "--set", f"experts.stored=[{graph.data[:12]}]", *where).code == 2


def test_a_retrained_network_leaves_with_its_footprint(cli: Cli, store: Store, graph: Graph, tmp_path):
    copy = next(u.copies[0] for u in graph.units if u.level == 2 and u.arm == "real")
    done = cli("export", copy, "--to", "torch-prune", tmp_path / "net.pt", "--store", store.root)
    assert done.code == 0, done.err
    assert "no speed-up is promised" in done.out and "167 of 340 prunable survive" in done.out
    held = torch.load(tmp_path / "net.pt", weights_only=True)
    assert "0.weight_orig" in held and "0.weight_mask" in held and "0.weight" not in held
    back = cli("import", "torch-prune", tmp_path / "net.pt", "--tag", "back", "--store", store.root)
    assert back.code == 0 and back.out.startswith("prune "), back.err
    plain = cli("export", "back", "--to", "safetensors", tmp_path / "net.safetensors", "--store", store.root)
    assert plain.code == 0, plain.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "mttt", "x"), "did you mean 'mtt'"),
        (("import", "onnx", "x"), "can be exported only"),
        (("import", "mtt", "nowhere"), "nowhere"),
        (("import", "mtt", "nowhere", "--set", "dataset=cifar11"), "no artifact in this store matches"),
        (("import", "mtt-experts", "nowhere", "--set", "model.name=convnet"), "dataset=REF or a known name"),
        (("export", "nothing", "--to", "mtt", "x"), "no artifact in this store matches"),
    ],
)
def test_mistakes_are_named(cli: Cli, empty: Store, arguments, message):
    done = cli(*arguments, "--store", empty.root)
    assert done.code == 2 and message in done.err
    assert not list(empty.all())


def test_what_is_no_noun_cannot_leave(cli: Cli, store: Store, graph: Graph, tmp_path):
    done = cli("export", graph.summary, "--to", "mtt", tmp_path / "x", "--store", store.root)
    assert done.code == 2 and "cannot be exported" in done.err
    done = cli("export", graph.sets["synthetic"], "--to", "openlth", tmp_path / "x", "--store", store.root)
    assert done.code == 2 and not (tmp_path / "x").exists()


def test_every_format_is_in_the_help():
    from distill_prune.cli.exchange import FORMATS
    from distill_prune.interop import FORMATS as TABLE

    assert all(name in FORMATS for name in TABLE)
