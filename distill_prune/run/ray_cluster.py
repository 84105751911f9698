"""The Ray cluster that artifacts are made on: one of this machine's own, or the one that $RAY_ADDRESS names."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distill_prune.errors import DeviceError, DistillPruneError, UserError
from distill_prune.run.devices import usual_workers

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster of our own: near the least that Ray takes, for nothing large passes through it."""


def library() -> Any:
    """Ray. Where the cluster is this machine's own, its processes listen on the loopback address alone.

    Raises:
        UserError: it is not installed, or $RAY_ADDRESS is not the address of a cluster.
    """
    if address() is None:
        # Read once, as Ray is imported. Its name speaks of systems whose firewalls ask; it holds on all.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        with _interrupts_later():
            return importlib.import_module("ray")
    except ImportError as problem:
        raise UserError("Ray is not installed", fix="pip install 'distill-prune[ray]'") from problem


def address() -> str | None:
    """The existing cluster to use, or None for one of this machine's own.

    Raises:
        UserError: $RAY_ADDRESS is not the address of a cluster.
    """
    where = os.environ.get("RAY_ADDRESS", "")
    if where in ("", "local"):
        return None
    if where != "auto" and not re.fullmatch(r"[^/]+:\d+", where):
        raise UserError(
            "$RAY_ADDRESS is no address of a cluster",
            got=where,
            expected="HOST:PORT of its head, or auto",
            fix="run on a node of the cluster, e.g. by `ray job submit`",
        )
    return where


@contextlib.contextmanager
def connection(cpus: int = 1, gpus: int | None = 0) -> Iterator[Any]:
    """Ray, connected; a cluster of our own has `cpus` and `gpus` (None: those it finds) and ends with the connection.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    ray, where = library(), address()
    if ray.is_initialized():  # by the script that calls us
        yield ray
        return
    try:
        with _interrupts_later():
            _connect(ray, where, cpus, gpus)
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold interrupts back: Ray swallows those that come while it starts, and puts a handler of its own for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _connect(ray: Any, where: str | None, cpus: int, gpus: int | None) -> None:
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray announces on every start that this will come
    try:
        if where is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))  # as worker processes have; Ray's default is 15
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
            options = {
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                **({} if gpus is None else {"num_gpus": gpus}),
            }
            ray.init("local", logging_level=logging.ERROR, **options)
        else:
            _knock(where)
            ray.init(where, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as problem:
        raise _unreachable(ray, where, problem) from problem


def _knock(where: str) -> None:
    """Find out at once whether anybody listens, which Ray finds out in half a minute."""
    if where != "auto":
        host, _, port = where.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _unreachable(ray: Any, where: str | None, problem: BaseException) -> UserError:
    chain = [problem]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    if any(isinstance(p, ray.exceptions.AuthenticationError) for p in chain):
        fix = "RAY_AUTH_MODE (token or disabled) as on the nodes, and their token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        return UserError(f"the Ray cluster at '{where}' does not know this driver's token", fix=fix)
    got = next(iter(str(problem).splitlines()), type(problem).__name__)
    if where is None:
        return UserError("Ray cannot start on this machine", got=got, fix="--executor processes")
    fix = "`ray start --head` makes a cluster; RAY_ADDRESS=auto finds the one that runs on this machine"
    return UserError(f"no Ray cluster can be used at '{where}'", got=got, fix=fix)


@dataclass(frozen=True)
class Share:
    """What one worker takes of a node."""

    cpus: int
    gpus: float

    def places(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Workers that find room on nodes with these resources, each as Ray reports it."""
        return sum(
            min(
                int(n.get("CPU", 0) // self.cpus),
                int(n.get("GPU", 0)) * int(1 / self.gpus + 1e-6) if self.gpus else 2**31,
            )
            for n in nodes
        )


def share(nodes: Iterable[Mapping[str, float]], device: str, threads: int, workers: int | None) -> Share:
    """A worker's share: `threads` CPUs; on cuda a GPU, or an equal part of one where there are more workers than GPUs.

    Raises:
        DeviceError: a device that Ray does not give, or that no node has.
    """
    if device == "cpu":
        return Share(threads, 0.0)
    if device != "cuda":
        raise DeviceError(f"--executor ray does not take '{device}'", expected="cpu, or cuda: Ray chooses which GPU")
    gpus = sum(int(n.get("GPU", 0)) for n in nodes)
    if not gpus:
        raise DeviceError("no node of the Ray cluster has a GPU", fix="--device cpu")
    each = math.ceil((workers or gpus) / gpus)
    return Share(threads, math.floor(10_000 / each) / 10_000)  # Ray counts in ten-thousandths


def resources(ray: Any) -> list[dict[str, float]]:
    """CPUs and GPUs of every node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def workers_for(device: str, threads: int, asked: int | None) -> int:
    """The number of workers that was asked for, else as many as the cluster has CPUs for, or GPUs.

    Raises:
        UserError: as `connection` and `share`.
    """
    library()
    if asked is not None:
        return asked
    if address() is None:
        import torch

        return usual_workers(threads) if device == "cpu" else max(1, torch.cuda.device_count())
    with connection() as ray:
        nodes = resources(ray)
        return max(1, share(nodes, device, threads, None).places(nodes))


def describe() -> str:
    """What there is of Ray, in words."""
    try:
        ray, where = library(), address()
        if where is None:
            return f"{ray.__version__}, a cluster of this machine's own (RAY_ADDRESS names another)"
        with connection():
            nodes = resources(ray)
        cpus, gpus = (round(sum(n.get(kind, 0) for n in nodes)) for kind in ("CPU", "GPU"))
        return f"{ray.__version__}, the cluster at {where}: {len(nodes)} nodes, {cpus} CPUs, {gpus} GPUs"
    except DistillPruneError as problem:
        return "; ".join(line.strip() for line in str(problem).splitlines())
