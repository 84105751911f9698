"""Plain values of a YAML text, read as a person reads them, within bounds.

Numbers are decimal: 010 is no number, 1:30 and 0x1f are not either, and what is no number stays text. Booleans are `true` and
`false` alone. A text is walked as its nodes before anything is made of them, for an alias may stand for millions.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import yaml

from distill_prune.limits import NESTING, PIPELINE_BYTES, PIPELINE_VALUES
from distill_prune.settings import Json

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class _Yaml(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                got = key.value if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                raise _refused(f"a key must be a name, not {got}", key)
        names = Counter(key.value for key, _ in node.value if key.value != "<<")
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise _refused(f"the key '{twice}' is written twice", node)
        return super().construct_mapping(node, deep)


_OWN = ("bool", "int", "float", "timestamp")
_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in tags if tag.rpartition(":")[2] not in _OWN]
    for first, tags in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Yaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$"), list("-+0123456789"))
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    # at most 3 digits of an exponent: the beginning of a key may look like a number, and is none
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?$"),
    list("-+0123456789."),
)


def parse_yaml(text: str) -> Json:
    """The plain value of a YAML text, as `parsed` has it."""
    return parsed(text)[0]


def parsed(text: str) -> tuple[Json, yaml.Node | None]:
    """The plain value of a YAML text, in which no two places share a list or a mapping; and the nodes that it was made of,
    which know their lines.

    Raises:
        YAMLError: it is none, or stands for too much.
    """
    if len(text) > PIPELINE_BYTES:
        raise yaml.YAMLError(f"{len(text):,} characters, and at most {PIPELINE_BYTES:,} are read")
    loader = _Yaml(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check(node)
        return _unshared(loader.construct_document(node)), node
    except (RecursionError, ValueError) as problem:
        raise yaml.YAMLError(f"values stand in each other deeper than {NESTING} times, or one cannot be read") from problem
    finally:
        loader.dispose()


def _check(root: yaml.Node) -> None:
    """Refuse what would stand for too many values, too deep, or for itself, and text that no path or file takes.
    What JSON writes as a pair of surrogates becomes the letter that it stands for."""
    stack, count = [(root, 0)], 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > NESTING:
            raise _refused(f"values stand in each other deeper than {NESTING} times, or an alias stands for itself", node)
        if count > PIPELINE_VALUES:
            raise _refused(f"more than {PIPELINE_VALUES:,} values", node)
        if isinstance(node, yaml.ScalarNode):
            node.value = _PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), node.value)
            if "\0" in node.value:
                raise _refused("a text holds a NUL character", node)
        if isinstance(node, yaml.SequenceNode):
            stack += [(value, depth + 1) for value in node.value]
        elif isinstance(node, yaml.MappingNode):
            stack += [(part, depth + 1) for pair in node.value for part in pair]


def _refused(why: str, node: yaml.Node) -> yaml.YAMLError:
    error: yaml.YAMLError = yaml.constructor.ConstructorError(None, None, why, node.start_mark)
    return error


def _unshared(value: Json) -> Json:
    """Copies of mappings and lists wherever they stand: an alias must not carry an override to other places."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value
