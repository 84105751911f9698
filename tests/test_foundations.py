"""The floors below the nouns: algebra, random streams, settings, errors, tables."""

from __future__ import annotations

import hashlib
import math
import pickle
from typing import Literal

import pytest
import torch
from pydantic import ValidationError
from reference import convnet, uneven

from distill_prune import errors
from distill_prune.artifacts import (
    Transform,
)
from distill_prune.duration import NONE, Duration
from distill_prune.errors import ConfigError, DamagedArtifact, DataError, NonFiniteError, RunError, UserError, nearest
from distill_prune.models import Network
from distill_prune.rng import Streams, seed_of, seeded, stream
from distill_prune.settings import Later, Settings, canonical, canonical_json, digest
from distill_prune.table import Table
from distill_prune.tree import clone, dot, flatten, lerp, norm, select, shapes, unflatten

NAN = float("nan")
NORMALIZE = Transform("normalize", {"mean": torch.tensor([0.25]), "std": torch.tensor([0.5])})


# -- tree


def test_interpolation_is_exact_at_the_ends_and_linear_between():
    a, b = uneven(convnet(norm="batch"), 0), uneven(convnet(norm="batch"), 1)
    a["wild"], b["wild"] = torch.tensor([math.inf, 1e300, 1.0]), torch.tensor([1.0, 1.0, -math.inf])
    for alpha, end in ((0.0, a), (1.0, b), (0, a), (1, b)):
        assert all(torch.equal(t, end[n]) for n, t in lerp(a, b, alpha).items())
    quarter = lerp(a, b, 0.25)
    torch.testing.assert_close(quarter["0.weight"], 0.75 * a["0.weight"] + 0.25 * b["0.weight"])
    assert list(quarter) == list(a) and torch.equal(quarter["1.num_batches_tracked"], a["1.num_batches_tracked"])


def test_vectors_and_states_are_the_same_thing():
    state = uneven(convnet())
    vector = flatten(state)
    back = unflatten(vector, shapes(state))
    assert list(back) == list(state) and all(torch.equal(t, state[n]) for n, t in back.items())
    assert float(norm(state)) == pytest.approx(float(vector.norm()))
    assert float(dot(state, back)) == pytest.approx(float(vector @ vector))
    chosen = select(state, ["5.weight", "0.bias"])
    assert torch.equal(flatten(chosen), flatten(state, list(chosen)))
    copied = clone(state)
    copied["0.bias"].zero_()
    assert state["0.bias"].any()
    with pytest.raises(RuntimeError):
        unflatten(vector[1:], shapes(state))


# -- random streams


def test_streams_have_golden_values():
    """Changing these orphans every artifact."""
    assert seed_of(0) == 2773445141643772037
    assert seed_of(7, "retrain", "order", copy=1, epoch=3) == 7632759424274381939
    name = b'[7,["retrain","order"],[["copy",1],["epoch",3]]]'
    assert seed_of(7, "retrain", "order", epoch=3, copy=1) == int(hashlib.sha256(name).hexdigest()[:16], 16) // 2
    assert torch.randperm(8, generator=stream(0, "init")).tolist() == [6, 2, 3, 5, 4, 1, 7, 0]
    assert torch.rand(2, generator=stream(7, "retrain", "order", copy=1, epoch=3)).tolist() == pytest.approx(
        [0.3961865305900574, 0.37227487564086914], abs=1e-7
    )


def test_every_part_of_a_name_makes_another_stream():
    names = [
        (0, ("a", "b"), {"x": 1}),
        (1, ("a", "b"), {"x": 1}),
        (0, ("ab",), {"x": 1}),
        (0, ("b", "a"), {"x": 1}),
        (0, ("a", "b"), {"x": 2}),
        (0, ("a", "b"), {"y": 1}),
        (0, ("a", "b"), {}),
        (0, ("a",), {"x": 1}),
        (0, ("a,b",), {"x": 1}),
    ]
    assert len({seed_of(s, *n, **p) for s, n, p in names}) == len(names)


def test_families_are_streams_of_the_joined_name():
    family = Streams(3, ("retrain",)).under("order", copy=2)
    plain = stream(3, "retrain", "order", "x", copy=2, epoch=1)
    assert torch.equal(torch.rand(4, generator=family("x", epoch=1)), torch.rand(4, generator=plain))


def test_streams_and_the_global_generator_leave_each_other_alone():
    torch.manual_seed(1)
    first = torch.rand(4, generator=stream(5, "x"))
    fresh = convnet().fresh(5, "init")
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)  # neither drew from the global generator
    torch.manual_seed(2)
    assert torch.equal(torch.rand(4, generator=stream(5, "x")), first)
    assert all(torch.equal(t, fresh[n]) for n, t in convnet().fresh(5, "init").items())


def test_a_seeded_block_puts_the_generator_back_even_after_a_failure():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with pytest.raises(KeyError), seeded(9):
        inside = torch.rand(1)
        raise KeyError
    assert torch.equal(torch.rand(2), expected)
    with seeded(9):
        assert torch.equal(torch.rand(1), inside)


# -- settings


class Inner(Settings):
    name: Literal["inner"] = "inner"
    rate: float = 0.5
    later: int = Later(3, ge=0)


class Outer(Settings):
    length: Duration = Duration(2, "ep")
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (3, 1)


def test_later_fields_enter_the_hash_only_where_they_differ():
    assert canonical_json(Outer()) == '{"inner":{"name":"inner","rate":0.5},"length":"2ep","sizes":[3,1]}'
    assert canonical(Outer(inner=Inner(later=4)))["inner"] == {"name": "inner", "rate": 0.5, "later": 4}
    assert digest(Outer()) == digest(Outer(inner=Inner(later=3))) != digest(Outer(inner=Inner(later=4)))
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Inner(later=-1)


def test_canonical_json_is_ascii_sorted_and_without_nan():
    assert canonical_json({"b": [1, 0.1, None, True], "a": "é"}) == '{"a":"\\u00e9","b":[1,0.1,null,true]}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": NAN})
    with pytest.raises(TypeError, match=r"^set is no value that JSON knows: \{1\}$"):
        canonical({"a": [{1}]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lenght": "2ep"}, "Extra inputs are not permitted"),
        ({"length": "2"}, "got -?2(it)?: a length: 400it"),
        ({"length": "2 ep"}, "got 2 ep: a length"),
        ({"length": "1.5ep"}, "got 1.5ep: a length"),
        ({"inner": {"rate": NAN}}, "finite number"),
        ({"length": "-2it"}, "got -?2(it)?: a length: 400it"),
    ],
)
def test_settings_refuse(settings, message):
    with pytest.raises(ValidationError, match=message):
        Outer(**settings)
    with pytest.raises(ValidationError, match="frozen"):
        Outer().length = "3ep"  # type: ignore[misc]


def test_durations():
    assert [Duration.of(d).steps(11, 4) for d in ("0it", "7it", "1ep", "2ep")] == [0, 7, 3, 6]
    assert Duration.of("2ep").steps(12, 4) == 6 and Duration.of("1ep").steps(1, 4) == 1
    assert str(Duration.of("500it") * 3) == "1500it" and Duration.of(NONE) is NONE
    Duration.of("7it").require_steps("x")
    Duration.of("0ep").require_steps("x")
    with pytest.raises(ConfigError, match="k must not depend\n  got:      2ep\n  expected: a duration in steps"):
        Duration.of("2ep").require_steps("k must not depend")


def test_durations_of_two_units_do_not_compare():
    short, long, epochs = Duration(1, "it"), Duration(2, "it"), Duration(1, "ep")
    assert short < long and not long < short and not short < short
    assert epochs > NONE and not epochs < long and not short < epochs


@pytest.mark.parametrize("text", ["30", "2 ep", "2EP", "010it", "-1it", "1.5ep", "\u0663it", "2ep\n", "", 30, None, True])
def test_what_is_no_duration(text: object):
    with pytest.raises(ValueError, match=r"(?s)no length of training: got .*: a length: 400it \(steps\) or 20ep \(epochs\)"):
        Outer(length=text)


# -- errors and tables


def test_errors_say_what_got_expected_and_mend_and_survive_a_worker():
    error = NonFiniteError("what", got=1, expected="2", fix="do")
    assert str(error) == "what\n  got:      1\n  expected: 2\n  fix:      do"
    damaged = DamagedArtifact("prune", "k" * 64, "why")
    for kept in (error, damaged, UserError("only")):
        again = pickle.loads(pickle.dumps(kept))
        assert type(again) is type(kept) and str(again) == str(kept) and again.__dict__ == kept.__dict__
    assert {e.exit_code for e in (UserError, ConfigError, DataError, errors.StoreError, errors.DeviceError)} == {2}
    assert {e.exit_code for e in (RunError, NonFiniteError, DamagedArtifact)} == {1}


def test_tables_name_the_nearest_entry_and_import_on_use():
    table = Table("model", "models", Network, {"convnet": "distill_prune.models.convnet", "gone": "distill_prune.models.gone"})
    assert "gone" in table and "convnt" not in table and len(table) == 2 and list(table) == ["convnet", "gone"]
    assert table["convnet"].Settings().name == "convnet"
    with pytest.raises(ConfigError, match="unknown model 'convnt'\n  expected: did you mean 'convnet'"):
        table["convnt"]
    assert nearest("zzz", ["b", "a"]) == "one of: a, b"
    many = [f"resnet{i}" for i in range(1_500)]
    assert nearest("resnt18", many).startswith("did you mean 'resnet18'? one of: resnet18, ")
    assert nearest("resnt18", many).endswith("... (1,500 in all)") and len(nearest("resnt18", many)) < 200
    assert nearest("?", many) == "one of: ... (1,500 in all)" and nearest("a", []) == "nothing: there are no names here"
