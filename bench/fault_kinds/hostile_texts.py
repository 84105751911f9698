"""Hostile texts: pipeline files, tables of sentences, and the JSON files of a store."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

from fault_kinds.damage import ODD
from fault_kinds.mutations import mutated, packed_zeros

VALUES = (
    *(
        "010",
        "1:30",
        "1e999",
        ".nan",
        ".inf",
        "-1",
        "0",
        "~",
        "true",
        "[]",
        "{}",
        "[true]",
        "1" * 5000,
        "0x" + "f" * 3000,
        "1e-400",
    ),
    *(
        "!!python/object/apply:os.system ['touch MARK']",
        "!!python/name:os.system",
        "!!binary aGk=",
        "!x y",
        "!!set {a}",
        "!!int x",
    ),
    *(
        "/dev/zero",
        "/dev/stdin",
        "/etc/passwd",
        "'\\ud800'",
        '"\\ud800"',
        "2024-01-01",
        "'\u0660\u0661it'",
        "\U0001f600",
        "10**9",
    ),
    *(
        "&a [*a]",
        "*nobody",
        "&a {b: *a}",
        "999999999it",
        "1e9ep",
        "0it",
        "-5it",
        "[1, [2, [3]]]",
        "{a: {b: {c: 1}}}",
        "yes",
        "<<: x",
    ),
    *(
        "1_000",
        "'",
        '"',
        "|\n x",
        "? x",
        "- - - x",
        "@x",
        "`x",
        "%x",
        "\t",
        "a: b: c",
        "x" * 10**5,
        "$HOME",
        "~/x",
        "PLACE/none.npz",
    ),
)
TAIL = (
    "extends: extends.yaml\n",
    "extends: faults.yaml\n",
    "extends: /dev/zero\n",
    "extends: [a, b]\n",
    "more: 1\n",
    "seeds: [1]\n",
    "<<: *x\n",
    "? [a, b]\n: c\n",
    "--- \nx: 1\n",
    "1: 2\n",
    "\ufeff",
)


def _bomb(draws: random.Random) -> str:
    """A text of a few bytes that stands for a great deal, or nests deeply."""
    count = draws.choice((9, 30, 200))
    aliases = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(count))
    depth = draws.choice((100, 900, 20_000))
    many = draws.choice((1000, 100_000))
    return draws.choice(
        (
            aliases,
            "x: " + "[" * depth + "]" * depth + "\n",
            "x: " + "{a: " * depth + "}" * depth + "\n",
            "".join("- " for _ in range(depth)) + "x\n",
            "".join(f"k{i}: {i}\n" for i in range(many)),
            f"seeds: [{', '.join(map(str, range(many)))}]\n",
            "a: &a {<<: *a}\n",
            "".join(" " * i + f"k{i}:\n" for i in range(min(depth, 2000))),
        )
    )


def pipeline(good: str, mark: Path, draws: random.Random) -> bytes:
    """A hostile pipeline in the place of a good one."""
    match draws.randrange(6):
        case 0:
            return mutated(good.encode(), draws)
        case 1 | 2 | 3:
            text = good
            for _ in range(draws.choice((1, 1, 2, 4))):
                value_place = draws.choice(list(re.finditer(r"(?<=: )[^,{}\[\]\n]+", text)) or [re.compile("").match(text)])
                assert value_place is not None
                value = draws.choice(VALUES).replace("MARK", str(mark))
                text = text[: value_place.start()] + value + text[value_place.end() :]
            return text.encode(errors="surrogatepass")
        case 4:
            return (good + draws.choice(TAIL)).encode(errors="surrogatepass")
        case _:
            return (good * draws.randrange(2) + _bomb(draws)).encode(errors="surrogatepass")


SENTENCES = (
    *(
        "",
        '"',
        "'",
        "\t\t\t",
        "x" * 10**5,
        "\0",
        "\r",
        "a\tb\tc",
        "\ufeffgood\t1",
        "good\t1 ",
        "good\tone",
        "good\t-1",
        "good\t1e9",
    ),
    *(
        "good\t999999999999",
        "good\tnan",
        "caf\u00e9\tx",
        "cafe\u0301\tx",
        "\u200b\t0",
        "\U0001f600\t1",
        "\u2028\t0",
        "[CLS] [MASK]\t0",
    ),
)


def table(good: str, draws: random.Random) -> tuple[str, bytes]:
    """The ending of its name, and a hostile table in the place of a good one of tab-separated sentences and labels."""
    lines = good.splitlines()
    match draws.randrange(4):
        case 0:
            content = mutated(good.encode(), draws)
        case 1:
            content = (good + "film\t0\n" * draws.choice((0, 100_000)) + "x" * draws.choice((10, 10**7))).encode()
        case _:
            for _ in range(draws.choice((1, 3, 20))):
                lines.insert(draws.randrange(len(lines) + 1), draws.choice(SENTENCES))
            content = "\n".join(lines).encode(errors="surrogatepass")
    if draws.random() < 0.5:
        return "tsv", content
    packed = packed_zeros(draws.choice((2**20, 3 * 2**29))) if draws.random() < 0.05 else gzip.compress(content, mtime=0)
    return "tsv.gz", mutated(packed, draws) if draws.random() < 0.5 else packed


VALUES_OF_JSON: tuple[Any, ...] = (
    *(
        None,
        [],
        {},
        "",
        -1,
        0,
        2**70,
        1.5,
        True,
        "x",
        [[]],
        {"a": {}},
        "\x1b[2J",
        "../../x",
        "/etc/passwd",
        "\ud800",
        "x" * 10**5,
    ),
)


def changed(content: bytes, draws: random.Random) -> bytes:
    """A JSON file of a store with odd bytes, or with odd values, names or types in odd places."""
    match draws.randrange(5):
        case 0:
            return draws.choice(ODD)
        case 1:
            return mutated(content, draws)
        case _:
            document = json.loads(content)
            for _ in range(draws.choice((1, 1, 3))):
                _change(document, draws)
            return json.dumps(document).encode()


def _change(document: Any, draws: random.Random) -> None:
    """Change one value somewhere below, take it out, or add one."""
    while isinstance(document, dict | list) and document:
        names = list(document) if isinstance(document, dict) else list(range(len(document)))
        name = draws.choice(names)
        if isinstance(document[name], dict | list) and document[name] and draws.random() < 0.6:
            document = document[name]
            continue
        if draws.random() < 0.2:
            del document[name]
        else:
            document[name] = draws.choice(VALUES_OF_JSON)
        return
