"""Mistakes in pipeline files, as a newcomer makes them: where the value stands, what was meant, what is expected, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from pydantic import ValidationError

from distill_prune.duration import Duration
from distill_prune.errors import ConfigError
from distill_prune.plan.aliases import ALIASES, meant
from distill_prune.plan.arms import Arm, Begin, ControlOf
from distill_prune.plan.config import Pipeline, load
from distill_prune.plan.places import NOWHERE
from distill_prune.plan.sections import Experts, Only, Prune, Retrain, Stored
from distill_prune.plan.validate import in_words, validated
from distill_prune.plugins import TABLES, table_of
from distill_prune.prune.imp import Rewind
from distill_prune.recipe import Recipe
from distill_prune.settings import Settings


def refused(file: Path | str, *assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(file), assignments)
    return str(caught.value)


# -- where it stands


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a study (base.yaml) and one that extends it (over.yaml)."""
    (tmp_path / "base.yaml").write_text(tiny.TINY.lstrip(), encoding="utf-8")
    return tmp_path


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(tiny.TINY.lstrip().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("base", "over", "assignments", "place"),
    [
        ("rate: 0.3", "rate: 30", [], "'prune.rate' in base.yaml, line {rate: 30}"),
        ("seeds: [0]", "seeds: [a]", [], "'seeds.0' in base.yaml, line {seeds: [a]}"),
        ("width: 4", "widht: 4", [], "unknown key 'model.widht' in base.yaml, line {widht: 4}"),
        ("name: convnet", "name: convent", [], "unknown model 'convent' at 'model.name' in base.yaml, line {name: convent}"),
        ("levels: [0, 2]", "levels: [0, 7]", [], "'levels' in base.yaml, line {levels: [0, 7]}"),
        ("images: subset", "images: subsets", [], "'arms.subset.images' in base.yaml, line {images: subsets}"),
        ("", "", ["prune.rate=30"], "'prune.rate' in --set\n"),
        ("", "", ["prune={rate: 30}"], "'prune.rate' in --set prune\n"),
        ("", "", ["modl.width=3"], "unknown key 'modl' in --set modl.width\n"),
        ("", "", ["seeds=[0]", "levels=[5]"], "'levels' in --set:"),
    ],
)
def test_the_line_of_a_value(files: Path, base: str, over: str, assignments: list[str], place: str) -> None:
    text = tiny.TINY.lstrip().replace(base, over, 1) if base else tiny.TINY.lstrip()
    (files / "base.yaml").write_text(text, encoding="utf-8")
    (files / "over.yaml").write_text("# another line\n" * 40 + "extends: base.yaml\ntitle: over\n", encoding="utf-8")
    lines = text.splitlines()
    said = (
        re.sub(r"{(.*)}", lambda m: str(next(i for i, line in enumerate(lines, 1) if m[1] in line)), place) if base else place
    )
    for name in ("base.yaml", "over.yaml"):
        assert said in refused(files / name, *assignments) + "\n"


def test_the_file_that_a_value_stands_in(files: Path) -> None:
    (files / "over.yaml").write_text("extends: base.yaml\n\nretrain:\n  recipe:\n    lr: none\n", encoding="utf-8")
    assert "'retrain.recipe.lr' in over.yaml, line 5" in refused(files / "over.yaml")
    assert "'retrain.recipe.batch' in --set" in refused(files / "over.yaml", "retrain.recipe.lr=1", "retrain.recipe.batch=0")
    (files / "over.yaml").write_text("extends: base.yaml\nmodel:\n  name: lenet\n  width: 3\n", encoding="utf-8")
    assert "unknown key 'model.width' in over.yaml, line 4" in refused(files / "over.yaml")
    text = "a: &a {lr: 0}\nretrain:\n  copies: 2\n  recipe: *a\n"
    assert "unknown key 'a' in anchored.yaml, line 1" in refused(_written(files, "anchored.yaml", text))
    merged = tiny.TINY.replace("recipe: {length: 6it,", "recipe: &r {length: 6it,").replace(
        "recipe: {length: 8it, batch: 32, lr: 0.1, momentum: 0.9}", "recipe: {<<: *r, lr: 0}"
    )
    path = _written(files, "merged.yaml", merged)
    assert f"'retrain.recipe.lr' in merged.yaml, line {line_of('copies: 2') + 2}" in refused(path)
    path = _written(files, "missing.yaml", "title: a\nretrain:\n  copies: 1\n")
    assert "'retrain.recipe' is missing in missing.yaml, line 2" in refused(
        path, "data.name=digits", "model.name=lenet", "arms.real={}"
    )


def _written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_what_is_no_yaml_has_its_line(files: Path) -> None:
    message = refused(_written(files, "broken.yaml", "title: a\nseeds: [0\ndata: x\n"))
    assert "got:      line 3, column " in message and "<unicode string>" not in message


def test_half_of_a_letter_is_no_text() -> None:
    with pytest.raises(ConfigError, match=r"(?s)a text holds half of a letter.*\\ud800"):
        tiny.pipeline('model.name="\\uD800"')
    with pytest.raises(ConfigError, match=r"(?s)'prune.recipe.length' in .*got: +\\ud800"):
        tiny.pipeline('prune.recipe.length="\\uD800"')


# -- what was meant


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("retrain.recipe.learning_rate", "lr"),
        ("retrain.recipe.learning-rate", "lr"),
        ("retrain.recipe.lerning_rate", "lr"),
        ("retrain.recipe.epochs", "length"),
        ("retrain.recipe.steps", "length"),
        ("retrain.recipe.iterations", "length"),
        ("retrain.recipe.Batch_Size", "batch"),
        ("retrain.recipe.optim", "optimizer"),
        ("distill.synthetic.images_per_class", "ipc"),
        ("distill.synthetic.steps", "iterations"),  # a set has no length
        ("distill.subset.iterations", None),  # nor has a subset
        ("prune.sparsity", "levels"),
        ("prune.amount", "rate"),
        ("compare.evaluation.epochs", "length"),
        ("dataset", "data"),
        ("seed", "seeds"),
        ("data.seed", "split_seed"),
    ],
)
def test_other_names_of_keys(place: str, key: str | None) -> None:
    message = refused_tiny(f"{place}=1")
    assert f"unknown key '{place}'" in message
    assert (f"did you mean '{key}'?" in message) if key else "'length'" not in message


def refused_tiny(*assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        tiny.pipeline(*assignments)
    return str(caught.value)


def test_a_key_of_another_place_is_told() -> None:
    message = refused_tiny("learning_rate=0.1")
    assert "fix:      a key of this name has another place: experts.recipe.lr, prune.real.lr, prune.recipe.lr" in message
    assert "fix:" not in refused_tiny("retrain.recipe.qqqq=1")


def test_every_other_name_means_a_key_that_there_is() -> None:
    keys = {name for kind in kinds() for name in kind.model_fields}
    assert not {alias: key for alias, meanings in ALIASES.items() for key in meanings if key not in keys}
    assert meant("learning_rate", ["length", "lr"]) == "lr" and meant("learning_rate", ["width"]) is None


# -- what is expected


@pytest.mark.parametrize(
    ("assignment", "got", "expected", "fix"),
    [
        ("prune.rate=20", "20", "a share between 0 and 1, like 0.2", "write 0.2 for 20%"),
        ("prune.rate=1", "1", "a share between 0 and 1, like 0.2", None),
        ("prune.rate='0,2'", "0,2", "a share between 0 and 1, like 0.2", "write a point: 0.2"),
        ("seeds=3", "3", "a list that is not empty, like [0, 1, 2]", "write [3]"),
        ("seeds=[]", "[]", "a list that is not empty, like [0, 1, 2]", None),
        ("levels=2", "2", "a list, like [0, 1] or null", "write [2]"),
        ("retrain.recipe.length=400", "400", "a length: 400it (steps) or 20ep (epochs)", "write 400it or 400ep"),
        ("prune.rewind.k=5 epochs", "5 epochs", "a length: 400it (steps) or 20ep (epochs)", None),
        ("compile=always", "always", "true or false", None),
        ("retrain.recipe.nesterov=2", "2", "true or false", None),
        ("threads=0", "0", "a whole number of at least 1", None),
        ("threads=null", "null", "a whole number of at least 1", None),
        ("threads=1.5", "1.5", "a whole number of at least 1", None),
        ("prune.levels=2000", "2000", "a whole number from 0 to 1000", None),
        ("retrain.recipe.momentum=1", "1", "a number from 0 to below 1, like 0.9", None),
        ("retrain.recipe.clip=0", "0", "a number above 0 or null", None),
        ("lanes=3", "3", "one of: 1, 4, 8, 16", None),
        ("retrain.recipe.optimizer=sdg", "sdg", "did you mean 'sgd'? one of: adam, adamw, sam, sgd", None),
        ("title=[a]", "[a]", "text", None),
        ("data.path=[a]", "", "", None),
        ("prune=3", "3", "a mapping of keys to values", None),
        ("arms.real=3", "3", "a mapping of keys to values", None),
        ("experts.model=convnet", "convnet", "name: one of", "write {name: convnet}"),
        ("experts.model=convent", "convent", "name: one of", "write {name: convnet}"),
        ("experts.model=xyz", "xyz", "name: one of", None),
        ("compare.accuracy=false", "false", "a mapping of keys to values", "write {} for its defaults, or null to leave"),
    ],
)
def test_values_in_words(assignment: str, got: str, expected: str, fix: str | None) -> None:
    message = refused_tiny(assignment)
    if got:
        assert f"  got:      {got}\n" in message
    assert expected in message.replace("expected one of", "expected: one of")
    assert (f"  fix:      {fix}" in message) if fix else "fix:" not in message


def test_a_field_that_must_be_there_is_told_in_words() -> None:
    class Lacking(Settings):
        length: Duration
        names: tuple[str, ...]

    with pytest.raises(ConfigError, match="'length' is missing in the pipeline\n  expected: a length: 400it"):
        validated(Lacking, {"names": []}, (), NOWHERE)
    with pytest.raises(ConfigError, match=r"'names' is missing in the pipeline\n  expected: a list, like \[one, another\]"):
        validated(Lacking, {"length": "1it"}, (), NOWHERE)


JARGON = re.compile(
    r"(?i)input should|value error|assertion|valid (string|tuple|integer|number|dictionary|boolean|list)|pydantic|extra input|"
    r"field required|unable to|finite|instance of|greater than or|less than or|NoneType|another value|valid dict|\btuple\b"
)
BAD: list[Any] = [3, -1, 10**9, 0.5, -0.5, "x", "", "1it", True, None, [], [None], ["x", 2], [[]], {}, {"a": 1}, {"name": "a"}]


def kinds() -> Iterator[type[Settings]]:
    """Every model of settings that a file can hold."""
    yield from (Pipeline, Experts, Prune, Retrain, Only, Arm, Begin, ControlOf, Rewind, Recipe, Stored)
    for table in map(table_of, TABLES):
        yield from (table[name].Settings for name in table)


def test_no_word_of_the_library_in_any_message() -> None:
    """Each field of all settings, broken in each way; `missing` and what else is wrong of the rest is looked at, too."""
    seen = set()
    for kind in kinds():
        for name in kind.model_fields:
            for value in BAD:
                raw = {name: value}
                try:
                    kind.model_validate(raw)
                    continue
                except ValidationError as problem:
                    complaints = problem.errors(include_url=False)
                except ConfigError:
                    continue
                for complaint in complaints:
                    seen.add(complaint["type"])
                    message = str(in_words(complaint, kind, raw, (), NOWHERE))
                    assert not JARGON.search(message), (kind, raw, message)
                    place = complaint["loc"][0] if complaint["loc"] else ""
                    assert str(place) in message.splitlines()[0], (kind, raw, message)
    assert len(seen) > 20, seen
