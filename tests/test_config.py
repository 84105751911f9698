"""Pipeline files: every bad one is refused with one message that names the key, the file and the nearest known name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import tiny
from pydantic import TypeAdapter, ValidationError

from distill_prune.entries import EntryOf
from distill_prune.errors import ConfigError, UserError
from distill_prune.models import MODELS
from distill_prune.plan.config import load, parse
from distill_prune.plan.files import find_pipeline, override, read_raw
from distill_prune.plan.graph import build
from distill_prune.plan.plain import parse_yaml
from distill_prune.settings import Entry, canonical
from distill_prune.store.store import Store


def refused(*assignments: str) -> str:
    """The message that the tiny pipeline gets with `a.b=c` laid on top."""
    with pytest.raises(ConfigError) as caught:
        tiny.pipeline(*assignments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("thread", "threads"),
        ("data.split_sed", "split_seed"),
        ("model.widht", "width"),
        ("experts.cuont", "count"),
        ("experts.recipe.momentun", "momentum"),
        ("distill.synthetic.iteration", "iterations"),
        ("distill.subset.icp", "ipc"),
        ("prune.levls", "levels"),
        ("prune.rewind.shedule", "schedule"),
        ("prune.recipe.lenght", "length"),
        ("prune.criterion.scop", "scope"),
        ("arms.real.image", "images"),
        ("arms.random.criterion.scop", "scope"),
        ("retrain.copy", "copies"),
        ("retrain.recipe.weight_deacy", "weight_decay"),
        ("compare.curvature.probes", "probes_max"),
        ("compare.connectivity.point", "points"),
        ("compare.accuracy.rows", ""),
    ],
)
def test_unknown_keys_anywhere(place: str, near: str) -> None:
    start = ("prune.criterion.name=magnitude",) if "prune.criterion" in place else ()
    message = refused(*start, f"{place}=1")
    assert f"unknown key '{place}' in tiny.yaml" in message
    assert (f"did you mean '{near}'" if near else "one of: name") in message


def test_an_unknown_key_is_named_before_what_it_may_be_the_reason_of() -> None:
    message = refused("data={name: npz, pat: x}")  # which lacks a path
    assert "unknown key 'data.pat' in tiny.yaml" in message and "did you mean 'path'" in message


def test_mistakes_are_named_in_the_order_of_sections() -> None:
    assert "unknown data set 'stripes' at 'data.name'" in refused("data={name: stripes}", "compare.distance={}")
    assert "'compare.accuracy' in tiny.yaml" in refused("compare.accuracy=3")


def test_an_entry_is_read_where_its_type_stands() -> None:
    """`Annotated[Entry, EntryOf(table)]` is enough: an entry by name, settings as they are, and nothing else."""
    kind = TypeAdapter(dict[str, Annotated[Entry, EntryOf(MODELS)]])
    (read,) = kind.validate_python({"a": {"name": "lenet"}}).values()
    assert type(read) is MODELS["lenet"].Settings and kind.validate_python({"a": read})["a"] is read
    with pytest.raises(ValidationError, match="needs a name") as unnamed:
        kind.validate_python({"a": 3})
    assert unnamed.value.errors()[0]["loc"] == ("a",)
    with pytest.raises(ValidationError, match="unknown model 'lenets'"):
        kind.validate_python({"a": {"name": "lenets"}})


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("data.name=digit", "unknown data set 'digit' at 'data.name' in tiny.yaml.*did you mean 'digits'"),
        ("model.name=convent", "unknown model 'convent' at 'model.name' in tiny.yaml.*did you mean 'convnet'"),
        (
            "distill.subset.name=subsets",
            "unknown distillation method 'subsets' at 'distill.subset.name'.*did you mean 'subset'",
        ),
        ("prune.criterion.name=magnitud", "unknown pruning criterion 'magnitud' at 'prune.criterion.name'.*'magnitude'"),
        ("arms.random.criterion.name=rand", "unknown pruning criterion 'rand' at 'arms.random.criterion.name'.*'random'"),
        ("compare.curvatur={}", "unknown analysis 'compare.curvatur' in tiny.yaml.*did you mean 'curvature'"),
        ("compare.summary={}", "unknown analysis 'compare.summary'"),
        ("arms.real.images=sinthetic", "'arms.real.images' in tiny.yaml: .*did you mean 'synthetic'"),
    ],
)
def test_unknown_entries(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        tiny.pipeline(assignment)


@pytest.mark.parametrize(
    ("assignment", "place"),
    [
        ("seeds=3", "seeds"),
        ("seeds=[a]", "seeds.0"),
        ("seeds=[]", "seeds"),
        ("threads=0", "threads"),
        ("threads=many", "threads"),
        ("model.width=wide", "model.width"),
        ("model.depth=0", "model.depth"),
        ("experts.count=0", "experts.count"),
        ("distill.synthetic.ipc=0", "distill.synthetic.ipc"),
        ("prune.rate=1", "prune.rate"),
        ("prune.rate=.nan", "prune.rate"),
        ("prune.levels=-1", "prune.levels"),
        ("retrain.copies=0", "retrain.copies"),
        ("retrain.recipe.lr=-1", "retrain.recipe.lr"),
        ("retrain.recipe.length=8", "retrain.recipe.length"),
        ("retrain.recipe.length=8 it", "retrain.recipe.length"),
        ("retrain.recipe.optimizer=sgdd", "retrain.recipe.optimizer"),
        ("retrain.recipe.augment=crops", "retrain.recipe.augment"),
        ("arms.real.recipe=short", "arms.real.recipe"),
        ("compare.connectivity.points=x", "compare.connectivity.points"),
        ("prune.rewind.k=1", "prune.rewind.k"),
        ("data.validation=1", "data.validation"),
        ("levels=2", "levels"),
        ("distill.synthetic.min_start=2", "distill.synthetic"),
    ],
)
def test_wrong_values(assignment: str, place: str) -> None:
    assert f"'{place}" in refused(assignment).splitlines()[0] and "in tiny.yaml" in refused(assignment).splitlines()[0]


@pytest.mark.parametrize(
    "key",
    [
        "data",
        "model",
        "experts",
        "distill",
        "prune",
        "arms",
        "retrain",
        "compare",
        "distill.subset",
        "arms.real",
        "compare.curvature",
        "prune.recipe",
        "prune.criterion",
    ],
)
def test_a_value_where_a_mapping_belongs(key: str) -> None:
    message = refused(f"{key}=3")
    assert f"'{key}' in tiny.yaml" in message, message


@pytest.mark.parametrize("key", ["data", "model", "prune", "arms", "retrain"])
def test_sections_that_must_be_there(key: str) -> None:
    values = tiny.raw()
    del values[key]
    if key == "prune":
        assert parse(values, "tiny.yaml").prune.levels == 10  # all of its fields have defaults
        return
    with pytest.raises(ConfigError, match=rf"'{key}.*tiny.yaml"):
        parse(values, "tiny.yaml")


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["seeds=[0,0]"], r"'seeds' in tiny.yaml(?s:.*)got: +\[0, 0\](?s:.*)all different"),
        (["distill.real={name: subset, ipc: 1}"], "'real' stands for the data set itself"),
        (["experts.recipe.length=30it"], "'experts.recipe.length' in tiny.yaml(?s:.*)a length in epochs"),
        (
            ["distill.synthetic.max_start=3", "distill.synthetic.expert_epochs=2"],
            "'distill.synthetic' in .*: it reads epoch 4 of the experts, and they train for 3ep\n"
            "  fix:      a smaller max_start, or experts.recipe.length=4ep",
        ),
        (["retrain.copies=1"], "'compare.connectivity' in .* at least 2 copies(?s:.*)compare.connectivity=null"),
        (["levels=[0,3]"], r"'levels' in tiny.yaml: there is no level 3\n.*\n.*0 to 2 "),
        (["levels=[-1]"], r"'levels' in tiny.yaml: there is no level -1\n.*\n.*0 to 2 "),
        (["prune.rewind.k=9it"], "the rewinding step 9it lies behind"),
    ],
)
def test_settings_that_do_not_fit_together(assignments: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny.pipeline(*assignments)


def test_copies_of_one_are_enough_without_connectivity() -> None:
    assert "connectivity" not in tiny.pipeline("retrain.copies=1", "compare.connectivity=null").compare


def test_an_arm_of_equal_compute_needs_a_length_in_steps(empty: Store) -> None:
    values = tiny.raw()
    values["arms"]["short"] = {"images": "real", "recipe": "prune"}
    build(parse(values, "tiny.yaml"), empty)
    override(values, ["prune.recipe.length=2ep"])
    with pytest.raises(ConfigError, match=r"(?s)arms.short prunes on real data.*got: +2ep.*write the length in steps"):
        build(parse(values, "tiny.yaml"), empty)


# files


def written(tmp_path: Path, content: str | bytes, name: str = "study.yaml") -> str:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    "content", ["a: [1", "a: b: c", "\t- x", b"\xff\xfe\x00a", "{[1]: 2", "a: !!python/object/apply:os.system [ls]"]
)
def test_what_is_not_yaml(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"(?s)study.yaml' is not YAML.*correct the file"):
        load(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "kind"),
    [("", "an empty file"), ("- a\n- b", "a list"), ("just words", "a single value"), ("3", "a single value")],
)
def test_what_is_not_a_mapping(tmp_path: Path, content: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)study.yaml' is not a pipeline.*got: +{kind}.*a mapping"):
        load(written(tmp_path, content))


def test_a_missing_file_names_the_nearest_shipped_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)there is no pipeline file 'digit.yaml'.*did you mean 'digits.yaml'"):
        load("digit.yaml")
    with pytest.raises(ConfigError, match="there is no pipeline file"):
        load(str(tmp_path))


def test_shipped_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_pipeline("digits.yaml") == find_pipeline("digits") and load("digits")[0] == "digits"
    written(tmp_path, tiny.TINY, "digits.yaml")
    assert load("digits.yaml")[1].title == "tiny"  # a file at hand comes first


def test_keys_that_are_no_words(tmp_path: Path) -> None:
    for content in ("1: 2", "seeds: {1: 2}", "null: 3"):
        with pytest.raises(ConfigError, match=r"study\.yaml"):
            load(written(tmp_path, content))


def test_words_numbers_and_truth_of_yaml() -> None:
    assert parse_yaml("{on: source, a: off, b: yes, c: no, d: true, e: false}") == {
        "on": "source",
        "a": "off",
        "b": "yes",
        "c": "no",
        "d": True,
        "e": False,
    }
    assert parse_yaml("[1e-3, 5e-4, 1.5, .5, 2, -1e3, 1.0e+2]") == [0.001, 0.0005, 1.5, 0.5, 2, -1000.0, 100.0]
    assert parse_yaml("[2ep, 500it, .inf, '1e3']") == ["2ep", "500it", ".inf", "1e3"]
    assert tiny.pipeline("prune.rewind={on: source, k: 2it}").prune.rewind.on == "source"  # type: ignore[comparison-overlap]


# extends


def test_extends(tmp_path: Path) -> None:
    written(tmp_path, tiny.TINY, "base.yaml")
    name, settings = load(
        written(
            tmp_path,
            """
        extends: base.yaml
        title: wider
        model: {width: 6}
        distill: {subset: {name: trajectory, ipc: 2, max_start: 2, expert_epochs: 1}}
        compare: {connectivity: null, accuracy: }
        retrain: {copies: 1}
    """,
        )
    )
    assert (name, settings.title, settings.seeds) == ("study", "wider", (0,))
    assert canonical(settings.model) == {"name": "convnet", "depth": 2, "width": 6, "norm": "instance"}
    subset = settings.distill["subset"].model_dump()
    assert (subset["name"], subset["ipc"], subset["iterations"]) == ("trajectory", 2, 5000)  # nothing of the other method stays
    assert set(settings.compare) == {"curvature", "overlap", "evaluation"}
    assert settings.retrain.recipe.length == "8it"


def test_extends_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)study.yaml' extends 'none.yaml', which is not there.*beside study.yaml"):
        load(written(tmp_path, "extends: none.yaml"))
    written(tmp_path, "extends: study.yaml", "other.yaml")
    with pytest.raises(ConfigError, match=r"(?s)extends itself.*study.yaml -> other.yaml -> study.yaml"):
        read_raw(Path(written(tmp_path, "extends: other.yaml")))


# --set


def test_overrides() -> None:
    values: dict[str, Any] = {"a": {"b": 1}, "n": None}
    override(values, ["a.b=2", "a.c=[1, x]", "n.m=1e-3", "s=x=y", "e="])
    assert values == {"a": {"b": 2, "c": [1, "x"]}, "n": {"m": 0.001}, "s": "x=y", "e": None}


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("seeds", r"(?s)--set seeds\n.*--set a.b=value"),
        ("=3", "--set =3"),
        ("seeds=[", "--set seeds: the value is not YAML"),
        ("title.a.b=3", "--set title.a.b: 'title' holds a value, not a mapping"),
    ],
)
def test_overrides_that_cannot_be(assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        override({"title": "t", "seeds": []}, [assignment])


def test_an_override_is_named_as_the_place_of_a_mistake(file: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'modl' in --set modl.width"):
        load(file, ["modl.width=3"])


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("seeds=[true]", r"(?s)'seeds\.0' in .*got: +a truth value.*expected: +a number"),
        ("experts.count=true", r"(?s)'experts\.count' in .*got: +a truth value"),
        ("retrain.copies=1_0", r"(?s)'retrain\.copies' in .*got: +'1_0'.*expected: +a number in decimal digits"),
        ("seeds=[-1]", r"(?s)'seeds\.0' in .*a whole number of at least 0"),
        ("seeds=[1:30]", r"(?s)'seeds\.0' in .*got: +1:30"),
        ("seeds=[0x1f]", r"(?s)'seeds\.0' in .*got: +0x1f"),
    ],
)
def test_what_is_no_number_is_not_taken_for_one(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny.pipeline(assignment)


def test_numbers_are_decimal_and_references_are_text() -> None:
    assert tiny.pipeline("seeds=[010]").seeds == (10,)
    pipeline = tiny.pipeline("distill.synthetic={name: stored, ref: 388992131223}")
    assert pipeline.distill["synthetic"].ref == "388992131223"  # type: ignore[attr-defined]
