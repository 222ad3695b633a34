"""Time and memory of an engine, in a process that does nothing else."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
import torch

from tinyphi.bench.engines import Engine, Session
from tinyphi.bench.timing import seconds

T = TypeVar("T")
_WARM_UP = 64  # tokens


class Footprint(NamedTuple):
    """What loading a model took. Memory is resident, in bytes, of the whole process."""

    seconds: float  # until the first token was read: a mapped file is only then loaded
    before: int  # with all libraries imported, but no model
    after: int  # with a context full of tokens
    peak: int  # the most at any time


def footprint(engine: Engine, path: Path, ids: Sequence[int]) -> Footprint:
    """Measure it in a new process: load, then fill a context with `ids`."""
    return apart(_load, engine, path, list(ids))


class Reading(NamedTuple):
    """What reading a prompt took."""

    seconds: float
    memory: int  # bytes: the most that was resident, beyond the loaded model


def readings(engine: Engine, path: Path, ids: Sequence[int], lengths: Sequence[int]) -> list[Reading]:
    """Read the first tokens of `ids` in a new process, in prompts of these lengths, the longest last.

    Only Linux can forget what loading took at most; elsewhere short prompts seem to take that, too.
    """
    return apart(_read, engine, path, list(ids), list(lengths))


def apart(work: Callable[..., T], *arguments: object) -> T:
    """The result of a call in a new process, with as many threads as here."""
    with ProcessPoolExecutor(
        1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)
    ) as fresh:
        return fresh.submit(work, *arguments).result()


def _read(engine: Engine, path: Path, ids: list[int], lengths: list[int]) -> list[Reading]:
    engine.prepare()
    session = engine.open(path, len(ids))
    session.prefill(ids[:_WARM_UP])
    forget_peak()
    before, found = psutil.Process().memory_info().rss, []
    for length in lengths:
        spent = seconds(partial(session.prefill, ids[:length]))
        found.append(Reading(spent, max(0, peak_memory() - before)))
    return found


def _load(engine: Engine, path: Path, ids: list[int]) -> Footprint:
    engine.prepare()
    process = psutil.Process()
    before = process.memory_info().rss
    opened: list[Session] = []

    def load() -> None:
        opened.append(engine.open(path, len(ids)))
        opened[0].prefill(ids[:1])

    spent = seconds(load)
    opened[0].prefill(ids[:-1])
    opened[0].decode(ids[-1:])
    return Footprint(spent, before, process.memory_info().rss, peak_memory())


def forget_peak() -> None:
    """From now on, let `peak_memory` be the peak from now on; without effect where that is impossible."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The largest resident memory that this process has had, in bytes."""
    if sys.platform == "linux":  # where getrusage counts what the parent had before this process began
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # which Windows does not have

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
