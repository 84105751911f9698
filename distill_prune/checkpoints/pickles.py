"""What a pickle of torch.save declares, found without making anything of it: its instructions are followed on paper.

torch.load with `weights_only=True` executes nothing that is foreign. But it makes what it is told to: a bytearray of any size,
storages of any size, tensors that are larger than their storage. So sizes are counted first, and what a state dict, a list of
tensors or a result of NumPy numbers has no need of is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from distill_prune.limits import NESTING, OPCODES

_REBUILT = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_WRAPPED = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.nn.parameter.Parameter")
_HARMLESS = (
    *("collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex", "torch.Size", "torch.device"),
    # tensors that are not dense: they take no memory here, and who reads them refuses them by name
    *("torch._utils._rebuild_sparse_tensor", "torch.serialization._get_layout", "torch._utils._rebuild_meta_tensor_no_storage"),
)
_ENCODE = "_codecs.encode"
_ITEM_SIZES = {
    **{f"torch.{name}Storage": 1 for name in ("Byte", "Char", "Bool")},
    **{f"torch.{name}Storage": 2 for name in ("Short", "Half", "BFloat16")},
    **{f"torch.{name}Storage": 4 for name in ("Int", "Float")},
    **{f"torch.{name}Storage": 8 for name in ("Long", "Double", "ComplexFloat")},
    "torch.ComplexDoubleStorage": 16,
}
MARK = 0x1950A86A20F9469CFC6C
"""What stands at the beginning of files of old versions."""
_BITS = 64
"""Of any other integer: among longer ones there are hundreds of thousands that a dictionary cannot tell apart quickly."""


class Refused(Exception):
    """A pickle is not what torch.save writes of tensors; the message says why."""


class Calls(Refused):
    """A pickle calls something; the message is its name."""


@dataclass(frozen=True)
class Storage:
    """Numbers of a tensor, as a pickle names them: `count` of them, of `item` bytes each."""

    key: str
    count: int
    item: int


@dataclass(frozen=True)
class _Name:
    """Something of a module."""

    full: str


@dataclass(frozen=True, eq=False)
class _Tuple:
    """A tuple, and how deep tuples, lists and dictionaries stand in it."""

    items: tuple[object, ...]
    depth: int


@dataclass(eq=False)
class _Made:
    """Any other object: what it is made by, and how deep things stand in it."""

    by: str
    depth: int = 0


@dataclass
class Declared:
    """What pickles declare: their storages by key. `inert` names what may be called besides, for its result is not needed."""

    inert: Sequence[str] = ()
    storages: dict[str, Storage] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all storages."""
        return sum(storage.count * storage.item for storage in self.storages.values())

    @property
    def size_as_floats(self) -> int:
        """Bytes of the same where a number has 4 at least, as it has once it is read."""
        return sum(storage.count * max(storage.item, 4) for storage in self.storages.values())

    def read(self, file: IO[bytes]) -> object:
        """Follow one pickle, from where `file` stands to behind its end; its value, where that is a number or a text.

        Raises:
            Refused: it declares what no file of tensors does.
            ValueError: it is damaged.
        """
        machine = _Machine(self)
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            if count > OPCODES:
                raise Refused(f"more than {OPCODES:,} instructions")
            if code.name == "STOP":
                return machine.pop()
            machine.step(code.name, argument)
        raise Refused("a pickle without an end")

    def storage(self, identity: object) -> Storage:
        """The storage that a pickle refers to by `identity`."""
        match identity.items if isinstance(identity, _Tuple) else None:
            case ("storage" | b"storage", _Name(kind), str() | bytes() as key, str() | bytes(), int() as count, *views):
                pass
            case _:
                raise Refused("a reference to something else than the numbers of a tensor")
        if kind not in _ITEM_SIZES or count < 0 or views not in ([], [None]):
            raise Refused(f"numbers of a kind that is not read: {count} of {kind}")
        named = key.decode("latin-1") if isinstance(key, bytes) else key
        storage = Storage(named, count, _ITEM_SIZES[kind])
        if self.storages.setdefault(named, storage) != storage:
            raise Refused(f"two sizes of the numbers '{named}'")
        return storage

    def call(self, function: object, arguments: object) -> _Made:
        """What a call makes, where it is harmless."""
        if not isinstance(function, _Name) or not isinstance(arguments, _Tuple):
            raise Refused("a call of what is no function")
        given = arguments.items
        if function.full in _REBUILT:
            _check_tensor(given)
        elif function.full in _WRAPPED:
            if not given or not isinstance(given[0], _Made) or given[0].by not in (*_REBUILT, *_WRAPPED):
                raise Refused("a parameter that is no tensor")
        elif function.full == _ENCODE:
            if len(given) != 2 or not isinstance(given[0], str) or given[1] not in ("latin1", "latin-1"):
                raise Calls(_ENCODE)  # other encodings may make much of little
        elif function.full not in (*_HARMLESS, *self.inert):
            raise Calls(function.full)
        return _Made(function.full, _deeper(given))


def _check_tensor(given: Sequence[object]) -> None:
    """A tensor lies within its storage: else torch makes room for it."""
    match given[:4]:
        case (Storage() as storage, int() as offset, _Tuple() as shape, _Tuple() as strides):
            sizes = [n for n in shape.items if type(n) is int and n >= 0]
            steps = [n for n in strides.items if type(n) is int and n >= 0]
        case _:
            raise Refused("a tensor without storage, shape and strides")
    if not len(sizes) == len(steps) == len(shape.items) == len(strides.items) <= NESTING or offset < 0:
        raise Refused("a tensor without a shape and strides of one length")
    last = offset + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if all(sizes) and last >= storage.count:
        raise Refused(f"a tensor that claims more numbers than the file holds: {last + 1} of {storage.count}")


def _deeper(items: Sequence[object]) -> int:
    """The depth of what holds `items`."""
    depth = 1 + max((item.depth for item in items if isinstance(item, _Tuple | _Made)), default=0)
    if depth > NESTING:
        raise Refused(f"values that stand in each other deeper than {NESTING} times")
    return depth


class _Machine:
    """A pickle's stack, with what stands for its objects."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def step(self, instruction: str, argument: Any) -> None:
        """Follow one instruction; those that torch.load does not know are refused."""
        match instruction:
            case "PROTO":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self.stack[-1] if self.stack else None
            case "BINGET" | "LONG_BINGET":
                if argument not in self._memo:
                    raise Refused("a reference to what is not there")
                self.push(self._memo[argument])
            case "BINUNICODE" | "BINFLOAT" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                if isinstance(argument, int) and argument.bit_length() > _BITS and argument != MARK:
                    raise Refused("an integer of more digits than any size has")
                self.push(argument)
            case "SHORT_BINSTRING":
                self.push(argument.encode("latin-1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                self.push(_Made("a container"))
            case "MARK":
                self._marked.append(self.stack)
                self.stack = []
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self.pop() for _ in range(int(instruction[-1]) if instruction[-1].isdigit() else 0)]
                self.push(_Tuple(tuple(reversed(items)), _deeper(items)))
            case "TUPLE":
                items = self.since_mark()
                self.push(_Tuple(tuple(items), _deeper(items)))
            case "APPEND":
                self.fill([self.pop()])
            case "SETITEM":
                self.fill([self.pop(), self.pop()])
            case "APPENDS" | "SETITEMS":
                self.fill(self.since_mark())
            case "BUILD":
                self.fill([self.pop()], ("collections.OrderedDict", *self.declared.inert))
            case "GLOBAL":
                self.push(_Name(argument.replace(" ", ".").replace("__builtin__.", "builtins.")))  # as Python 2 called it
            case "BINPERSID":
                self.push(self.declared.storage(self.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments = self.pop()
                self.push(self.declared.call(self.pop(), arguments))
            case _:
                raise Refused(f"the instruction {instruction}, which torch.save does not write")

    def pop(self) -> object:
        if not self.stack:
            raise Refused("an instruction without its operands")
        return self.stack.pop()

    def push(self, value: object) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[object]:
        if not self._marked:
            raise Refused("an instruction without its operands")
        items, self.stack = self.stack, self._marked.pop()
        return items

    def fill(self, items: list[object], makers: Sequence[str] = ()) -> None:
        """Put items into the list, dictionary or object below them, which is made by one of `makers` where they are named."""
        holder = self.pop()
        if not isinstance(holder, _Made) or (makers and holder.by not in makers):
            raise Refused("an entry of what holds none")
        holder.depth = max(holder.depth, _deeper(items))
        self.push(holder)
