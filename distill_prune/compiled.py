"""Compiled steps: whether the work of now is compiled, our one set of options, the compiler and its cache.

Whether steps are compiled is a condition of the work, as the number of threads is: it decides the order of additions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar, TypeVarTuple, cast

from distill_prune.errors import DistillPruneError, UserError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_enabled: ContextVar[bool] = ContextVar("compiled steps", default=False)
_code: dict[tuple[object, ...], object] = {}


@contextlib.contextmanager
def compiling(on: bool) -> Iterator[None]:
    """Compile the steps of the work in the block, or do not."""
    before = _enabled.set(on)
    try:
        yield
    finally:
        _enabled.reset(before)


def enabled() -> bool:
    """Whether the steps of the work of now are compiled."""
    return _enabled.get()


def call(key: tuple[object, ...], function: Callable[[*Ts], T], *args: *Ts) -> T:
    """The result of a `function` of tensors, gradients inside it included, by compiled code.

    `key` says all that the code depends on. At its first use in this process torch records the function's operations on
    arguments of this kind and compiles them: no value may decide what is done.

    Raises:
        UserError: the function cannot be recorded or compiled, or there is no compiler.
    """
    import torch

    code = cast(Callable[[*Ts], T] | None, _code.get(key))
    with torch.no_grad():
        if code is not None:
            return code(*args)
        try:
            with torch.enable_grad():
                graph = _recorded(function, *args)
            code = torch.compile(graph, fullgraph=True, dynamic=False, options={"deterministic": True})
            result = code(*args)
        except DistillPruneError:
            raise
        except Exception as problem:
            check_compiler()
            lines = str(problem).strip().splitlines() or [type(problem).__name__]
            raise UserError("a step of this network cannot be compiled", got=lines[0], fix="compile: false") from problem
    _code[key] = code
    return result


def _recorded(function: Callable[[*Ts], T], *args: *Ts) -> Callable[[*Ts], T]:
    """The operations of a function as one graph, recorded without computing them."""
    from torch._dispatch.python import enable_python_dispatcher
    from torch.fx.experimental.proxy_tensor import make_fx

    def operations(*given: *Ts) -> T:
        return function(*given)

    with enable_python_dispatcher():  # without it the graph does not say that batch norm changes its running statistics
        graph = make_fx(operations, tracing_mode="fake", _allow_non_fake_inputs=True)(*args)
    return cast(Callable[[*Ts], T], graph)


def compiler() -> str | None:
    """The C++ compiler that torch takes on a CPU: $CXX, else the system's; None where there is none."""
    return shutil.which(_command())


def check_compiler() -> None:
    """Refuse to compile steps where torch could not.

    Raises:
        UserError: there is no C++ compiler, or Python's headers are missing.
    """
    if compiler() is None:
        raise UserError(
            "compile: true needs a C++ compiler, and there is none",
            got=f"no program '{_command()}'" + (" (from $CXX)" if "CXX" in os.environ else ""),
            expected="g++ or clang++",
            fix="compile: false; or install one (apt install g++), and name it in $CXX where it is not g++",
        )
    if not (headers := Path(sysconfig.get_path("include"), "Python.h")).exists():
        raise UserError(
            "compile: true needs the headers of Python, and they are missing",
            got=f"no file '{headers}'",
            fix="compile: false; or install them (apt install python3-dev)",
        )


@contextlib.contextmanager
def cache(folder: Path) -> Iterator[None]:
    """Keep what is compiled in the block in a part of `folder` for processors of this machine's kind."""
    here = (folder / _processor()).absolute()
    places = {"TORCHINDUCTOR_CACHE_DIR": str(here), "TRITON_CACHE_DIR": str(here / "triton")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _command() -> str:
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


@functools.cache
def _processor() -> str:
    """A short name for the kind of processor: code is compiled for all its instructions, and another may not have them."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        kind += "".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features"))))
    return hashlib.sha256(kind.encode()).hexdigest()[:12]
