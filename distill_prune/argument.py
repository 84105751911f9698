"""What a plugin's function reads of the one record that it is given, checked before anything runs.

The function is not called. Its parameters are looked at, and in its source the attributes that it reads of the record.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields

from distill_prune.errors import ONE_OF, ConfigError, nearest

_OF_SEQUENCES = ("len", "list", "tuple", "zip", "enumerate", "sorted", "iter", "combinations")
"""Functions that take sequences, and no record."""


def check_argument(call: str, function: Callable[..., object], record: type, what: str, undeclared: Mapping[str, str]) -> None:
    """Refuse a function that is not `f(settings, record)`, or that reads what the record does not have.

    Args:
        call: The function's name in the entry.
        what: What messages call the entry.
        undeclared: Attributes that are not there, because the entry does not say that it needs them: the names of the flags
            that say so.

    Raises:
        ConfigError: naming the signature to write, or the attribute and the nearest one.
    """
    parameters = list(inspect.signature(function).parameters)
    properties = (name for name, value in inspect.getmembers(record) if isinstance(value, property))
    known = [name for name in (*(field.name for field in fields(record)), *properties) if name not in undeclared]
    by_name = len(parameters) != 2 or not set(parameters).isdisjoint(known)
    attributes, sequence = (set[str](), False) if by_name else _reads(function)
    if by_name or sequence:
        raise ConfigError(
            f"{what}: {call} is given its settings and one record",
            got=f"{call}({', '.join(parameters)})" + (", which takes the record for a sequence" if sequence else ""),
            expected=f"{call}(settings, given), a {record.__name__} of {record.__module__}",
            fix=f"read what it needs as {', '.join(f'given.{name}' for name in known)}",
        )
    for attribute in sorted(attributes.difference(known)):
        flag = undeclared.get(attribute)
        raise ConfigError(
            f"{what}: {call} asks for what there is not",
            got=f"{parameters[1]}.{attribute}",
            expected=nearest(attribute, known) if flag is None else f"{ONE_OF}{', '.join(known)}",
            fix=None if flag is None else f"{flag} = True in its module",
        )


def _binds(node: ast.AST, name: str) -> bool:
    """Whether a part of a function gives `name` another value than its argument's."""
    match node:
        case ast.Name(id=bound, ctx=ast.Store()):
            return bound == name
        case ast.Lambda(args=arguments):
            return any(a.arg == name for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
    return False


def _reads(function: Callable[..., object]) -> tuple[set[str], bool]:
    """The attributes that the source reads of the second argument, and whether it takes that argument for a sequence."""
    attributes, sequence = set[str](), False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no source file, or one that was edited since
        return attributes, sequence
    definitions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    record = [argument.arg for d in definitions for argument in (*d.args.posonlyargs, *d.args.args)][1:2]
    if any(_binds(node, name) for node in ast.walk(tree) for name in record):
        return attributes, sequence  # the name stands for something else, too: nothing is known of what is read
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in record:
                attributes.add(attribute)
            case (
                ast.Subscript(value=ast.Name(id=name))
                | ast.Starred(value=ast.Name(id=name))
                | ast.For(iter=ast.Name(id=name))
                | ast.comprehension(iter=ast.Name(id=name))
            ):
                sequence |= name in record
            case ast.Call(func=ast.Name(id=called), args=[ast.Name(id=name), *_]) if called in _OF_SEQUENCES:
                sequence |= name in record
    return attributes, sequence
