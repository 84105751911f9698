"""YAML as plain values: as a person reads it, and within bounds."""

from __future__ import annotations

import time

import pytest
import yaml

from distill_prune.limits import PIPELINE_BYTES, PIPELINE_VALUES
from distill_prune.plan.files import override
from distill_prune.plan.plain import parse_yaml
from distill_prune.settings import Json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("2001-12-14", "2001-12-14"),
        ("000076", "000076"),
        ("9697e2539454", "9697e2539454"),
        ("12345678901234567890", "12345678901234567890"),
        ("[0, -7, +3, 5e-4, 1e3]", [0, -7, 3, 0.0005, 1000.0]),
    ],
)
def test_numbers_are_what_a_person_reads(text: str, value: object) -> None:
    assert parse_yaml(text) == value


BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [0, *a]", "alias stands for itself"),
        ("a: &a {b: *a}", "alias stands for itself"),
        (BOMB, f"more than {PIPELINE_VALUES:,} values"),
        ("[" * 900 + "]" * 900, "deeper than 64 times"),
        ("[" * 20_000, "deeper than 64 times"),
        ("x" * (PIPELINE_BYTES + 1), "characters, and at most"),
        ("1: {}", "a key must be a name, not 1"),
        ("[0, 1]: x", "a key must be a name, not a list or a mapping"),
        ("{a: 1, b: 2, a: 3}", "the key 'a' is written twice"),
        ("a: 1\n---\na: 2\n", "expected a single document"),
    ],
)
def test_what_is_refused_is_refused_at_once(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError, match=said):
        parse_yaml(text)
    assert time.process_time() - began < 5


def test_many_keys_take_time_in_proportion() -> None:
    began = time.process_time()
    assert len(parse_yaml("".join(f"k{i}: 0\n" for i in range(30_000)))) == 30_000  # type: ignore[arg-type]
    assert time.process_time() - began < 15


def test_letters_of_an_argument_survive_a_locale_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python makes of the bytes of a title there: escapes of each byte."""
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    raw: dict[str, Json] = {}
    override(raw, ["title=" + "caf\u00e9 \u6570".encode().decode("ascii", "surrogateescape")])
    assert raw == {"title": "caf\u00e9 \u6570"}
    override(raw, ["title=\u00e9"])  # of a program, not of the command
    assert raw == {"title": "\u00e9"}
