"""Recipes as data: rates of every step, presets, what is refused; and the draws of CutMix."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pydantic import ValidationError
from scipy.stats import ks_2samp

from distill_prune.data import cutmix
from distill_prune.errors import ConfigError
from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.recipe import PRESETS, Recipe
from distill_prune.rng import Streams
from distill_prune.settings import canonical_json
from distill_prune.store.store import Store
from distill_prune.training import Recipe as Exported

NOISE = Streams(3, ("retrain",), (("copy", 1),))


def rates(examples: int = 10, **fields: Any) -> list[float]:
    recipe = Recipe(lr=1.0, **fields)
    return [recipe.lr_at(i, examples) for i in range(recipe.steps(examples))]


# -- rates


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"length": "3it"}, [1, 1, 1]),
        ({"length": "4it", "warmup": "2it"}, [0.5, 1, 1, 1]),
        ({"length": "4it", "schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"length": "6it", "schedule": "linear", "warmup": "2it"}, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ({"length": "3it", "schedule": "linear", "warmup": "3it"}, [1 / 3, 2 / 3, 1]),
        ({"length": "2ep", "batch": 4, "schedule": "linear", "warmup": "1ep"}, [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]),
        (
            {"length": "6it", "schedule": "step", "milestones": (0.5,), "gamma": 0.2, "warmup": "2it"},
            [0.5, 1, 1, 0.2, 0.2, 0.2],
        ),
        ({"length": "4it", "schedule": "step", "milestones": (), "gamma": 0.2}, [1, 1, 1, 1]),
        (
            {"length": "6it", "schedule": "cosine", "warmup": "2it"},
            [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2],
        ),
    ],
)
def test_rates_are_the_written_list(fields: dict[str, Any], expected: list[float]) -> None:
    assert rates(**fields) == pytest.approx(expected, rel=1e-12)


# -- presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe_without_idle_fields(name: str) -> None:
    recipe = Recipe(preset=name)
    assert {n: getattr(recipe, n) for n in PRESETS[name]} == dict(PRESETS[name])
    assert Recipe(**recipe.model_dump()) == recipe == Recipe(**PRESETS[name])
    assert "preset" not in recipe.model_dump() and name not in canonical_json(recipe)


@pytest.mark.parametrize(
    ("name", "examples", "expected"),
    [  # the rate at the first step, and every change: (epoch or step, rate)
        ("distilled-pruning-real", 50_000, {0: 8e-4, 50 * 196: 1.2e-4}),
        ("distilled-pruning-real-cifar100", 50_000, {0: 8e-4, 50 * 196: 1.2e-4, 65 * 196: 1.8e-5, 80 * 196: 2.7e-6}),
        ("distilled-pruning-synthetic", 100, {0: 0.01, 1500: 0.001}),
        ("mtt-expert", 50_000, {0: 0.01}),
        ("mtt-evaluation", 100, {0: 0.01, 500: 0.001}),
        ("idc", 50_000, {0: 0.01, 200 * 782: 0.002, 250 * 782: 4e-4}),
        ("lottery-lenet", 60_000, {0: 12e-4}),
        ("lottery-resnet20", 50_000, {0: 0.1, 32_000: 0.01, 48_000: 0.001}),
        ("lottery-resnet20-low", 50_000, {0: 0.01, 32_000: 0.001, 48_000: 1e-4}),
        ("lottery-vgg16", 50_000, {0: 0.1, 32_000: 0.01, 48_000: 0.001}),
        ("lottery-vgg16-low", 50_000, {0: 0.01, 32_000: 0.001, 48_000: 1e-4}),
    ],
)
def test_rates_of_presets_change_where_the_papers_do(name: str, examples: int, expected: dict[int, float]) -> None:
    recipe = Recipe(preset=name)
    for step, rate in expected.items():
        assert recipe.lr_at(step, examples) == pytest.approx(rate, rel=1e-9)
        assert step == 0 or recipe.lr_at(step - 1, examples) > 2 * rate
    assert recipe.lr_at(recipe.steps(examples) - 1, examples) == pytest.approx(list(expected.values())[-1], rel=1e-9)


@pytest.mark.parametrize(("name", "high"), [("lottery-resnet20-warmup", 0.03), ("lottery-vgg16-warmup", 0.1)])
def test_rates_of_presets_with_warm_up(name: str, high: float) -> None:
    recipe = Recipe(preset=name)
    found = [recipe.lr_at(i, 50_000) for i in (0, 14_999, 29_999, 31_999, 32_000, 48_000, 62_999)]
    assert found == pytest.approx([high / 30_000, high / 2, high, high, high / 10, high / 100, high / 100])


def test_what_is_written_lies_over_the_preset() -> None:
    idc = Recipe(preset="idc", length="100ep", cutmix=1.0)
    assert (idc.length, idc.cutmix, idc.gamma, idc.batch) == ("100ep", 1.0, 0.2, 64)
    assert canonical_json(idc) == canonical_json(Recipe(**{**PRESETS["idc"], "length": "100ep", "cutmix": 1.0}))
    assert Recipe(preset=None, lr=0.2) == Recipe(lr=0.2)


def test_fields_of_a_preset_that_change_nothing_any_more_are_dropped() -> None:
    cosine = Recipe(preset="idc", schedule="cosine")
    assert (cosine.milestones, cosine.gamma, cosine.cutmix) == ((0.5, 0.75), 0.1, 0.5)
    assert Recipe(preset="mtt-expert", optimizer="adamw", lr=1e-3).momentum == 0.9
    assert Recipe(preset="idc", cutmix=0).cutmix_beta == 1.0
    with pytest.raises(ValidationError, match="gamma: it changes nothing under schedule 'linear'"):
        Recipe(preset="idc", schedule="linear", gamma=0.3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "ibc"}, "preset: .* got ibc: did you mean 'idc'. one of: bert-glue, distilled-pruning-real, .*"),
        ({"preset": ["idc"]}, "no preset has this name"),
        ({"preset": "idc", "schedule": "stepp"}, "'step'"),
        ({"preset": "idc", "milestons": (0.5,)}, "Extra inputs"),
        ({"gamma": 0.2}, "gamma: it changes nothing under schedule 'constant': leave it out, or at 0.1"),
        ({"milestones": (0.5,), "schedule": "cosine"}, r"milestones: it changes nothing .* 'cosine'.*, or at \[0.5, 0.75\]"),
        ({"optimizer": "adam", "momentum": 0.5}, "momentum: it changes nothing under optimizer 'adam'"),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov: it changes nothing under optimizer 'adamw'"),
        ({"rho": 0.1}, "rho: it changes nothing under optimizer 'sgd': leave it out, or at 0.05"),
        ({"optimizer": "sam", "rho": 0.0}, "greater than 0"),
        ({"optimizer": "sam", "rho": -1.0}, "greater than 0"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov: it needs a momentum above 0"),
        ({"cutmix_beta": 0.5}, "cutmix_beta: it changes nothing under cutmix 0"),
        ({"cutmix": 1.5}, "less than or equal to 1"),
        ({"cutmix": 0.5, "cutmix_beta": 0}, "greater than 0"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"precision": "float16"}, "'float32', 'bfloat16' or 'tf32'"),
    ],
)
def test_recipes_that_say_what_cannot_be_meant(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(**fields)


def test_idle_fields_at_their_default_are_let_be() -> None:
    written = Recipe(optimizer="adam", momentum=0.9, schedule="cosine", gamma=0.1, milestones=[0.5, 0.75], nesterov=False)
    assert written == Recipe(optimizer="adam", schedule="cosine") and Exported is Recipe


# -- keys


def test_old_recipes_keep_their_canonical_form() -> None:
    assert canonical_json(Recipe()) == (
        '{"augment":"none","batch":128,"gamma":0.1,"length":"30ep","lr":0.1,"milestones":[0.5,0.75],"momentum":0.9,'
        '"optimizer":"sgd","schedule":"constant","warmup":"0it","weight_decay":0.0}'
    )
    new = {"nesterov": True, "label_smoothing": 0.1, "cutmix": 0.5, "precision": "bfloat16"}
    assert canonical_json(Recipe(optimizer="sam")).count("rho") == 0 and '"rho":0.1' in canonical_json(
        Recipe(optimizer="sam", rho=0.1)
    )
    for name, value in new.items():
        assert f'"{name}"' in canonical_json(Recipe(**{name: value}))
    assert '"cutmix_beta":2.0' in canonical_json(Recipe(cutmix=0.5, cutmix_beta=2))


# -- pipeline files


def pipeline_file(folder: Path, text: str, name: str = "study.yaml") -> str:
    (folder / "tiny.yaml").write_text(tiny.TINY, encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_presets_in_pipeline_files(tmp_path: Path) -> None:
    whole = tiny.TINY.replace("{length: 8it, batch: 32, lr: 0.1, momentum: 0.9}", "{preset: idc, length: 8it}")
    whole = whole.replace("  rate: 0.3\n", "  rate: 0.3\n  real: {preset: mtt-evaluation, length: 4it}\n")
    file = pipeline_file(tmp_path, whole)
    found = load(file)[1]
    assert found.retrain.recipe == Recipe(**{**PRESETS["idc"], "length": "8it"})
    assert found.prune.real == Recipe(**{**PRESETS["mtt-evaluation"], "length": "4it"})

    written = tmp_path / "written.yaml"
    written.write_text(
        whole.replace(
            "{preset: idc, length: 8it}",
            "{length: 8it, batch: 64, lr: 0.01, weight_decay: 5e-4, schedule: step, milestones: [0.6666666666666666, "
            "0.8333333333333334], gamma: 0.2, augment: flip+color+crop_scale_rotate, cutmix: 0.5}",
        )
    )
    by_preset, by_hand = (build(load(str(f))[1], Store(tmp_path / "none")) for f in (file, written))
    assert list(by_preset.nodes) == list(by_hand.nodes) != list(build(tiny.pipeline(), Store(tmp_path / "none")).nodes)


def test_presets_and_extends(tmp_path: Path) -> None:
    file = pipeline_file(tmp_path, "extends: tiny.yaml\nretrain: {recipe: {preset: idc}}\n")
    assert load(file)[1].retrain.recipe == Recipe(preset="idc")  # another preset replaces the recipe whole
    child = pipeline_file(tmp_path, "extends: study.yaml\nretrain: {recipe: {preset: mtt-expert}}\n", "child.yaml")
    assert load(child)[1].retrain.recipe == Recipe(preset="mtt-expert")
    longer = pipeline_file(tmp_path, "extends: study.yaml\nretrain: {recipe: {preset: idc, length: 9it}}\n", "longer.yaml")
    shorter = pipeline_file(tmp_path, "extends: longer.yaml\nretrain: {recipe: {preset: idc, lr: 0.3}}\n", "shorter.yaml")
    assert load(longer)[1].retrain.recipe == Recipe(preset="idc", length="9it")
    assert load(shorter)[1].retrain.recipe == Recipe(preset="idc", length="9it", lr=0.3)  # the same one is built on


def test_presets_on_the_command_line(tmp_path: Path) -> None:
    file = pipeline_file(tmp_path, tiny.TINY)
    over = load(file, ["retrain.recipe.preset=idc"])[1].retrain.recipe
    assert over == Recipe(**{**PRESETS["idc"], "length": "8it", "batch": 32, "lr": 0.1})
    whole = load(file, ["retrain.recipe={preset: idc, length: 9it}"])[1].retrain.recipe
    assert whole == Recipe(**{**PRESETS["idc"], "length": "9it"})
    cosine = load(file, ["retrain.recipe.preset=idc", "retrain.recipe.schedule=cosine"])[1].retrain.recipe
    assert (cosine.schedule, cosine.gamma) == ("cosine", 0.1)
    assert load(file, ["retrain.recipe.preset=idc", "retrain.recipe.preset=null"])[1] == load(file)[1]
    expert = load(file, ["experts.recipe={preset: mtt-expert}"])[1].experts.recipe
    assert expert == Recipe(**PRESETS["mtt-expert"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("retrain.recipe.preset=idd", "'retrain.recipe.preset' in --set: .*got: +idd.*did you mean 'idc'"),
        ("prune.recipe.preset=lotery-lenet", "'prune.recipe.preset' in --set: .*did you mean 'lottery-lenet'"),
        ("retrain.recipe.gamma=0.5", "'retrain.recipe.gamma' in --set: it changes nothing under schedule 'constant'"),
        ("retrain.recipe.presett=idc", "unknown key 'retrain.recipe.presett'"),
    ],
)
def test_what_a_pipeline_file_hears(tmp_path: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load(pipeline_file(tmp_path, tiny.TINY), [assignment])


# -- CutMix


def test_the_box_is_taken_pixel_by_pixel() -> None:
    x = torch.randn(5, 2, 6, 4, dtype=torch.float64, generator=NOISE("x"))
    seen = set()
    for step in range(40):
        cut = cutmix.draw(1.0, 1.0, x.shape, NOISE("cutmix", step=step))
        assert cut is not None and sorted(cut.pairs.tolist()) == list(range(5)) and cut.pairs.device.type == "cpu"
        mixed, outside = cutmix.apply(x, cut), 0
        for row in range(6):
            for column in range(4):
                inside = cut.rows.start <= row < cut.rows.stop and cut.columns.start <= column < cut.columns.stop
                outside += not inside
                for i, pair in enumerate(cut.pairs.tolist()):
                    assert torch.equal(mixed[i, :, row, column], x[pair if inside else i, :, row, column])
        assert cut.share == pytest.approx(outside / 24, abs=1e-15)
        seen.add((cut.rows.start, cut.rows.stop, cut.columns.start, cut.columns.stop))
    assert len(seen) > 10


def test_a_draw_is_its_streams_and_the_input_is_left() -> None:
    x = torch.randn(4, 1, 8, 8, generator=NOISE("x"))
    before = x.clone()
    one, again, other = (cutmix.draw(1.0, 1.0, x.shape, NOISE("cutmix", step=s)) for s in (5, 5, 6))
    assert one is not None and again is not None and other is not None
    assert torch.equal(one.pairs, again.pairs) and (one.rows, one.columns) == (again.rows, again.columns)
    assert (one.rows, one.columns) != (other.rows, other.columns)
    cutmix.apply(x, one)
    assert torch.equal(x, before)


def shares_by_numpy(beta: float, count: int) -> list[float]:
    """Shares of boxes in the unit square, from another sampler of Beta and another arithmetic."""
    random, shares = np.random.default_rng(0), []
    for _ in range(count):
        width = math.sqrt(1 - random.beta(beta, beta))
        sides = [min(c + width / 2, 1) - max(c - width / 2, 0) for c in random.random(2)]
        shares.append(1 - sides[0] * sides[1])
    return shares


@pytest.mark.parametrize(("beta", "other"), [(0.4, 1.0), (1.0, 3.0), (3.0, 1.0)])
def test_shares_have_their_law(beta: float, other: float) -> None:
    cuts = [cutmix.draw(1.0, beta, (2, 1, 1000, 1000), NOISE("cutmix", step=step)) for step in range(2000)]
    found = [cut.share for cut in cuts if cut is not None]
    assert len(found) == 2000 and ks_2samp(found, shares_by_numpy(beta, 5000)).pvalue > 0.01
    assert ks_2samp(found, shares_by_numpy(other, 5000)).pvalue < 1e-6


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.3, 0.27, 0.33), (1.0, 1, 1)])
def test_the_coin(probability: float, low: float, high: float) -> None:
    drawn = [cutmix.draw(probability, 1.0, (2, 1, 4, 4), NOISE("cutmix", step=s)) for s in range(3000)]
    assert low <= sum(cut is not None for cut in drawn) / 3000 <= high
