"""Names of artifacts, and files of names that some other program has written."""

from __future__ import annotations

import json
import os

import pytest
import tiny

from distill_prune.artifacts import Parts
from distill_prune.errors import StoreError
from distill_prune.limits import DOCUMENT_BYTES
from distill_prune.plan.nodes import Graph
from distill_prune.store.names import is_name
from distill_prune.store.store import Store


def test_find_by_prefix_and_name(store: Store, graph: Graph) -> None:
    key = graph.sets["synthetic"]
    assert store.find(key).key == store.find(key[:8]).key == key
    assert store.tag(key[:12], "digits-1.ipc_a").key == key
    assert store.tags() == {"digits-1.ipc_a": key} and store.find("digits-1.ipc_a").stage == "distill"
    store.tag(graph.sets["subset"], "digits-1.ipc_a")
    assert store.find("digits-1.ipc_a").key == graph.sets["subset"]


def test_find_refuses_what_is_unknown_or_ambiguous(empty: Store) -> None:
    for name in ("abcd" + "0" * 60, "abcd" + "1" * 60):
        empty.path("data", name).mkdir()
    with pytest.raises(StoreError, match=r"(?s)'abcd' matches 2 artifacts.*data/abcd00000000, data/abcd1111.*more digits"):
        empty.find("abcd")
    with pytest.raises(StoreError, match=r"(?s)no artifact in this store matches 'ffff'.*at least 4 digits.*distill-prune ls"):
        empty.find("ffff")
    with pytest.raises(StoreError, match="no artifact in this store matches 'abc'"):
        empty.find("abc")
    empty.tag("abcd0", "digits")
    with pytest.raises(StoreError, match="did you mean 'digits'"):
        empty.find("digit")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b"])
def test_names_are_words(empty: Store, name: str) -> None:
    with pytest.raises(StoreError, match="a name is made of letters"):
        empty.tag("abcd", name)


ODD: dict[str, tuple[bytes, str]] = {
    "no object": (b"[1]", "valid dictionary"),
    "a number": (b"3", "valid dictionary"),
    "nothing": (b"null", "valid dictionary"),
    "cut": (b"{", "property name"),
    "empty": (b"", "Expecting value"),
    "deep": (b"[" * 100_000, "nested deeper than 64 levels"),
    "deep, whole": (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 64 levels"),
    "no UTF-8": (b'{"a": "\xff"}', "can't decode"),
    "surrogate": (b'{"a": "\\ud800"}', "a: Input should be a valid string"),
    "not finite": (b'{"a": NaN}', "NaN is no JSON number"),
    "too large": (b'{"a": 1e999}', "not finite"),
    "many digits": (b'{"a": ' + b"1" * 5000 + b"}", "integer string conversion"),
    "400 digits": (b'{"a": ' + b"1" * 400 + b"}", "does not fit into a float"),
    "a key that is a number": (b'{"a": 1}', "a: Input should be a valid string"),
    "a key that is none": (b'{"a": "../../x"}', "a: String should match pattern"),
    "a name that is a path": (json.dumps({"../x": "0" * 64}).encode(), r"'\.\./x' is no name"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_of_names_are_one_message(cli: tiny.Cli, empty: Store, kind: str) -> None:
    content, reason = ODD[kind]
    (empty.root / "tags.json").write_bytes(content)
    with pytest.raises(StoreError, match=f"(?s)tags.json' cannot be used.*{reason}.*repair or delete it"):
        empty.find("abcd")
    for command in (["ls"], ["show", "abcd"], ["tag", "abcd", "a"], ["rm", "abcd", "-y"]):
        done = cli(*command, "--store", empty.root)
        assert done.code == 2 and done.err.startswith("error: ") and "tags.json" in done.err
    assert (empty.root / "tags.json").read_bytes() == content


def test_a_file_of_names_that_is_no_file_or_huge(empty: Store) -> None:
    path = empty.root / "tags.json"
    path.mkdir()
    with pytest.raises(StoreError, match=r"tags.json' cannot be used"):
        empty.tags()
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=r"(?s)tags.json' cannot be used.*not a plain file"):
        empty.tags()
    path.unlink()
    with path.open("wb") as file:
        file.truncate(DOCUMENT_BYTES + 1)
    with pytest.raises(
        StoreError, match=rf"(?s)tags.json' cannot be used.*{DOCUMENT_BYTES + 1} bytes, more than {DOCUMENT_BYTES}"
    ):
        empty.tags()


def test_one_rule_for_names(empty: Store) -> None:
    """What `tag` gives, the file may hold."""
    provenance = tiny.provenance("data", {"n": 1})
    empty.write(provenance, Parts({}, {"n": 1}))
    for name in ("a", "digits-1.ipc_a", "ünï", "2024"):
        assert is_name(name)
        empty.tag(provenance.key, name)
    assert empty.tags() == dict.fromkeys(("a", "digits-1.ipc_a", "ünï", "2024"), provenance.key)
