"""Making artifacts: lock, look again, compute under fixed conditions, publish. The same under every executor.

Artifacts that are one training each share their steps where their jobs say so: what each becomes does not depend on which
others are made beside it.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill_prune import compiled
from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact, NonFiniteError
from distill_prune.plan.jobs import VERSIONS
from distill_prune.plan.nodes import Node
from distill_prune.progress import Progress, Snapshot
from distill_prune.run.events import Busy, Damaged, Failed, Hear, Hit, Made, Outcome, Tick, attempt
from distill_prune.run.logged import Logs
from distill_prune.run.profile import TimedStore, worker_name
from distill_prune.run.reader import Reader
from distill_prune.run.stages import compute
from distill_prune.run.trainings import Task, task_of
from distill_prune.store.disk import as_created, make_folder
from distill_prune.store.logs import Losses
from distill_prune.store.manifest import Provenance
from distill_prune.store.store import Store
from distill_prune.training import Trained, check_independence, train_group
from distill_prune.training.precision import tf32

SAVE_SECONDS = 30.0
VERSIONED = (
    "distill-prune",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "kornia",
    "higher",
    "pillow",
    "safetensors",
    "transformers",
    "tokenizers",
    "timm",
)


class WorkProgress(Progress):
    """Ticks to the driver, snapshots into the artifact's working folder, losses into a file of their own."""

    def __init__(
        self,
        folder: Path,
        tick: Callable[[int, int, str], None],
        device: str = "cpu",
        save_seconds: float = SAVE_SECONDS,
        losses: Losses | None = None,
    ) -> None:
        self._losses = losses
        self._made_by = json.dumps([device.split(":")[0], versions()])
        self._file, self._tick, self._every = folder / "snapshot.safetensors", tick, save_seconds
        self._saved = self._ticked = time.monotonic()

    def tick(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._ticked >= 0.2:
            self._ticked = now
            if self._losses is not None:
                self._losses.flush()  # before the driver hears, who may read them
            self._tick(done, total, note)

    def record(self, step: int, loss: float) -> None:
        if self._losses is not None:
            self._losses.add(step, loss)

    def due(self) -> bool:
        return time.monotonic() - self._saved >= self._every

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self._saved = time.monotonic()
        tensors = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
        aside, about = self._file.with_suffix(".new"), {"numbers": json.dumps(numbers), "made_by": self._made_by}
        about["sha256"] = Parts(tensors, about).content()
        with contextlib.suppress(OSError, SafetensorError):  # a snapshot only saves time: a full disk is no reason to stop
            make_folder(self._file.parent)
            aside.unlink(missing_ok=True)  # a link that somebody has put there is not written through
            save_file(dict(tensors), aside, about)
            as_created(aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(self._file)

    def load(self) -> Snapshot | None:
        snapshot = self._snapshot()
        if snapshot is not None and self._losses is not None:
            self._losses.resume()
        return snapshot

    def _snapshot(self) -> Snapshot | None:
        if not self._file.exists():
            return None
        try:
            with safe_open(self._file, framework="pt") as file:
                about = file.metadata()
                if about["made_by"] != self._made_by:
                    return None  # another device or library: going on would mix bits
                tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118 - not a mapping
                sha256 = about.pop("sha256")
                if Parts(tensors, about).content() != sha256:
                    return None  # bits have changed since
                return Snapshot(tensors, json.loads(about["numbers"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None  # a snapshot only saves time: begin again


@contextlib.contextmanager
def conditions(threads: int, compile_steps: bool = False) -> Iterator[None]:
    """Equal bits for equal keys: the pipeline's number of threads, deterministic algorithms, whether steps are compiled, and no
    TF32 but where a recipe asks for it; put back afterwards.

    Deterministic mode fills fresh memory, so that code which reads it uninitialised gives equal results, too. There is no such
    code here, and filling takes a tenth of an inner step of distillation.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # a module with a property, of which its types say nothing
    filled = memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    try:
        with tf32(False), compiled.compiling(compile_steps):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        memory.fill_uninitialized_memory = filled


@cache
def versions() -> dict[str, str]:
    """Versions of what decides bits."""
    installed = {"python": platform.python_version()}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


@cache
def keep_pages() -> None:
    """Ask glibc to keep freed memory in the process. Its default maps fresh pages for every large tensor and gives them
    back at once, which doubles the time of a training step on virtual machines. No effect on values, or elsewhere."""
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def give_pages_back() -> None:
    """Give freed memory that was kept back to the system, so that a peak is of what comes after. No effect elsewhere."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _hear_tick(key: str, hear: Hear, done: int, total: int, note: str) -> None:
    hear(Tick(key, done, total, note))


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Peak resident memory of this process, since `reset_peak` where the system can tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass
class _Work:
    """A node whose artifact is being made since the time `began`, and the seconds of wall time that it took so far; `reading`
    its inputs is a part of them."""

    node: Node
    progress: WorkProgress
    store: TimedStore
    began: float = field(default_factory=time.time)
    seconds: float = 0.0
    reading: float = 0.0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        began, read = time.perf_counter(), self.store.seconds
        yield
        self.seconds += time.perf_counter() - began
        self.reading += self.store.seconds - read


class Worker:
    """Makes artifacts of one store on one device, keeping prepared data between them."""

    def __init__(self, store: Store, device: str) -> None:
        keep_pages()
        self.store, self.device = TimedStore(store.root), device
        self._reader = Reader(self.store, device)
        self._suspects: set[str] = set()

    def make(self, nodes: Sequence[Node], hear: Hear) -> list[Outcome]:
        """Make the artifacts of a group of nodes under equal conditions, but for those that are there or are being made. What
        became of each, in order."""
        logs = Logs(self.store, nodes, hear)
        with contextlib.ExitStack() as locks:
            claims = [attempt(node.key, node.label, logs.hear, partial(self._claimed, node, locks)) for node in nodes]
            mine = [node for node, claim in zip(nodes, claims, strict=True) if claim is None]
            results = iter(self._made(mine, logs.hear) if mine else ())
            outcomes = [next(results) if claim is None else claim for claim in claims]
            logs.end(outcomes)
            return outcomes

    def _claimed(self, node: Node, locks: contextlib.ExitStack) -> Hit | Busy | None:
        """Lock a node; None where its artifact has to be made."""
        if not locks.enter_context(self.store.lock(node.key)):
            return Busy(node.key)
        self.store.begin(node.key)
        return Hit(node.key) if self.store.sound(node.stage, node.key) else None

    def _made(self, nodes: Sequence[Node], hear: Hear) -> list[Outcome]:
        """Make the artifacts of locked nodes."""
        outcomes: dict[str, Outcome] = {}
        groups: dict[Hashable, list[tuple[_Work, Task]]] = {}
        reset_peak()
        job = nodes[0].job
        with contextlib.ExitStack() as closing, compiled.cache(self.store.compiled), conditions(job.threads, job.compile):
            for node in nodes:
                losses = closing.enter_context(contextlib.closing(Losses(self.store, node.key)))
                tick = partial(_hear_tick, node.key, hear)
                progress = WorkProgress(self.store.work(node.key), tick, self.device, losses=losses)
                work = _Work(node, progress, self.store)
                result = attempt(node.key, node.label, hear, partial(self._begun, work))
                if isinstance(result, Task):
                    groups.setdefault(result.training.signature, []).append((work, result))
                else:
                    outcomes[node.key] = result
            for group in groups.values():
                outcomes |= self._trained(group, hear)
        return [outcomes[node.key] for node in nodes]

    def _begun(self, work: _Work) -> Outcome | Task:
        """Make the artifact of a node; of one that is a training, read what that takes."""
        try:
            with work.timed():
                begun = task_of(work.node, self._reader) or compute(work.node, self._reader, work.progress)
        except DamagedArtifact as damage:
            self._set_aside(damage)
            return Damaged(work.node.key, damage.stage, damage.key, damage.reason)
        return begun if isinstance(begun, Task) else self._published(work, begun)

    def _trained(self, group: Sequence[tuple[_Work, Task]], hear: Hear) -> dict[str, Outcome]:
        """Train networks of one signature in shared steps, and make an artifact of each."""
        works, tasks = [work for work, _ in group], [task for _, task in group]
        first, began = works[0].node, time.perf_counter()
        trained = attempt(first.key, first.label, hear, partial(self._train, works, tasks))
        if isinstance(trained, Failed):
            return {work.node.key: Failed(work.node.key, copy.copy(trained.error)) for work in works}
        for work in works:
            work.seconds += (time.perf_counter() - began) / len(works)
        return {
            work.node.key: attempt(work.node.key, work.node.label, hear, partial(self._finished, work, task, result))
            for work, task, result in zip(works, tasks, trained, strict=True)
        }

    def _train(self, works: Sequence[_Work], tasks: Sequence[Task]) -> list[Trained | NonFiniteError]:
        trainings, lanes = [task.training for task in tasks], works[0].node.job.lanes
        if lanes > 1:
            check_independence(trainings[0], lanes, self.device)
        return train_group(trainings, lanes, self.device, [work.progress for work in works])

    def _finished(self, work: _Work, task: Task, trained: Trained | NonFiniteError) -> Made:
        if isinstance(trained, NonFiniteError):
            raise trained
        with work.timed():
            parts = task.parts(trained)
        return self._published(work, parts)

    def _published(self, work: _Work, parts: Parts) -> Made:
        node, before = work.node, self.store.seconds
        self.store.write(
            Provenance(
                key=node.key,
                stage=node.stage,
                version=VERSIONS[node.stage],
                label=node.label,
                settings={**node.job.identity()},
                inputs=dict(node.inputs),
                versions=versions(),
                device=self._device_name(),
                threads=node.job.threads,
                seconds=round(work.seconds, 4),
                peak_mb=round(peak_mb(), 1),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
            parts,
        )
        writing = self.store.seconds - before
        return Made(node.key, work.seconds, work.began, work.reading, writing, worker_name())

    def _set_aside(self, damage: DamagedArtifact) -> None:
        """Move a damaged input away, unless another worker that met it has, or is making it again. One whose hashes are
        right may have been made again meanwhile: it goes only if it cannot be read a second time."""
        with self.store.lock(damage.key) as mine:
            if not mine or not self.store.exists(damage.stage, damage.key):
                return
            if not self.store.sound(damage.stage, damage.key) or damage.key in self._suspects:
                self.store.set_aside(damage.stage, damage.key)
            self._suspects ^= {damage.key}

    def _device_name(self) -> str:
        if self.device.startswith("cuda"):
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"cpu ({platform.machine()})"
