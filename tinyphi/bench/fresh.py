"""Load time and memory of an engine, in a process that does nothing else."""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from tinyphi.bench.engines import Engine, Session
from tinyphi.bench.timing import seconds


class Footprint(NamedTuple):
    """What loading a model took. Memory is resident, in bytes, of the whole process."""

    seconds: float  # until the first token was read: a mapped file is only then loaded
    before: int  # with all libraries imported, but no model
    after: int  # with a context full of tokens
    peak: int  # the most at any time


def footprint(engine: Engine, path: Path, ids: Sequence[int]) -> Footprint:
    """Measure it in a new process: load, then fill a context with `ids`."""
    arguments = (engine, path, list(ids), torch.get_num_threads())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_measure, *arguments).result()


def _measure(engine: Engine, path: Path, ids: list[int], threads: int) -> Footprint:
    torch.set_num_threads(threads)
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


def peak_memory() -> int:
    """The largest resident memory that this process has had, in bytes."""
    if sys.platform == "linux":  # where getrusage counts what the parent had before this process began
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # which Windows does not have

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
