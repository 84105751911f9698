"""Commands in children of one process that has imported what takes long: an input costs some hundredths of a second.

Standard input takes one JSON line a command, {"words": [...], "folder": ..., "seconds": ...}. Standard output gives one line
for each, a `Told`. What the command says goes to the files `out` and `err` of its folder.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TypedDict

SECONDS, MIB = 10.0, 1024.0
"""What no input may take."""
STOPPED = 3 * MIB
"""A command that takes more memory is killed."""
ROOMS = ("cli", "plan", "run", "store", "study", "interop", "data", "distill", "prune", "analyze", "models")
OPTIONAL = ("ray", "onnx")
MORE = (
    *("PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.WebPImagePlugin", "PIL.BmpImagePlugin", "tokenizers"),
    *("torch._dynamo", "torch._inductor.utils", "torch.distributed", "distill_prune.report", "distill_prune.terminal"),
)
"""What commands import on the way."""


class Told(TypedDict):
    """The exit code, or less than 0 for a signal; seconds of wall time; the peak of resident memory in MiB."""

    code: int
    seconds: float
    mib: float


def load() -> None:
    """Import all rooms, so that children need not."""
    import torch

    torch.set_num_threads(1)
    for room in ROOMS:
        package = importlib.import_module(f"distill_prune.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith(OPTIONAL):
                importlib.import_module(f"distill_prune.{room}.{module.name}")
    for name in MORE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _child(words: list[str], folder: str) -> None:
    """The command, in this process, which ends with it."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in enumerate((os.devnull, "out", "err")):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o644), number)
        sys.argv = ["distill-prune", *words]
        from distill_prune.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _resident(pid: int) -> float:
    """MiB of a process; 0 where it is over."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def answer(words: list[str], folder: str, seconds: float) -> Told:
    """Run one command in a child, which is killed after so many seconds."""
    began = time.monotonic()
    if (pid := os.fork()) == 0:
        _child(words, folder)
    pause = 0.002
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        took = time.monotonic() - began
        if ended:
            return {"code": os.waitstatus_to_exitcode(status), "seconds": took, "mib": usage.ru_maxrss / 1024}
        if took > seconds or _resident(pid) > STOPPED:
            os.killpg(pid, signal.SIGKILL)  # the child leads a group of its own
        time.sleep(pause)
        pause = min(0.05, pause * 1.2)


def main() -> None:
    load()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
