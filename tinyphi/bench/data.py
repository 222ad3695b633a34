"""The filter's speed in megabytes of text a second, and MinHash beside datasketch: the command data."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tinyphi.bench.timing import faster, in_turn, seconds
from tinyphi.data.dedup import BANDS, ROWS, SHINGLE, signatures
from tinyphi.data.educational import EducationalFilter
from tinyphi.data.pages import Pages
from tinyphi.data.rules import judge
from tinyphi.longcontext.texts import library_source, python_manual

_BATCH = 150_000  # characters, as in the pipeline
_PAGE = 3000


def bench_data(runs: int, megabytes: int, processes: int, text: Path | None = None) -> Iterator[str]:
    """Yield the tables. text: a file to measure with; by default Python's manual and library, repeated.

    The filter is rules and educational value. Speed is bytes of text over seconds, in one process, and in
    several together while each filters a copy. Where others use the machine too, processor time tells more.
    """
    pages = _pages(text, megabytes)
    size = sum(len(page.encode()) for page in pages)
    yield f"{size / 1e6:.1f} MB of text in {len(pages)} pages.\n"
    yield "| work | processes | MB/s | spread | MB per processor second |\n|---|---:|---:|---|---:|"
    educational = EducationalFilter.load()
    works: dict[str, Callable[[Pages], Any]] = {
        "rules": judge,
        "educational value": educational.scores,
        "the filter: both": partial(_both, educational),
        "MinHash signatures": signatures,
    }
    found = in_turn({name: partial(_times, pages, work) for name, work in works.items()}, runs, "filter")
    for name, times in found.items():
        yield _row(name, 1, size, times)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        together = in_turn({"all": partial(_together, pool, processes, pages)}, runs, "processes")
    yield _row("the filter: both", processes, size * processes, together["all"])
    yield from _beside_datasketch(pages[: max(1, len(pages) // 4)], runs)


def _beside_datasketch(pages: Sequence[str], runs: int) -> Iterator[str]:
    yield ""
    if find_spec("datasketch") is None:
        yield "datasketch is not installed, so there is nothing to compare with: pip install datasketch."
        return
    sides = {
        "tinyphi": partial(seconds, partial(_in_batches, pages, signatures)),
        "datasketch": partial(seconds, partial(_datasketch, pages)),
    }
    found = in_turn(sides, runs, "MinHash")
    yield f"{BANDS * ROWS} numberings of runs of {SHINGLE} words; datasketch gets them by `update_batch`.\n"
    yield "| MinHash signatures of | tinyphi is faster by | spread |\n|---|---:|---|"
    yield f"| {len(pages)} pages | {faster(found['tinyphi'], found['datasketch'])} |"


def _row(name: str, processes: int, size: int, times: Sequence[tuple[float, float]]) -> str:
    """times: of each run, seconds on the clock and of processors."""
    clock, processor = (sorted(size / taken / 1e6 for taken in side) for side in zip(*times, strict=True))
    middle = len(clock) // 2
    spread = f"{clock[0]:.1f} – {clock[-1]:.1f}"
    return f"| {name} | {processes} | {clock[middle]:.1f} | {spread} | {processor[middle]:.1f} |"


def _times(pages: Sequence[str], work: Callable[[Pages], Any]) -> tuple[float, float]:
    before = time.process_time()
    clock = seconds(partial(_in_batches, pages, work))
    return clock, time.process_time() - before


def _together(pool: ProcessPoolExecutor, processes: int, pages: Sequence[str]) -> tuple[float, float]:
    """Each process filters all pages; processor time is the sum of theirs."""
    started = time.perf_counter()
    spent = list(pool.map(_filter, [pages] * processes))
    return time.perf_counter() - started, sum(spent)


def _filter(pages: Sequence[str]) -> float:
    """The processor time that it takes."""
    return _times(pages, partial(_both, EducationalFilter.load()))[1]


def _both(educational: EducationalFilter, batch: Pages) -> None:
    judge(batch)
    educational.scores(batch)


def _datasketch(pages: Sequence[str]) -> None:
    from datasketch import MinHash

    for page in pages:
        words = page.lower().split()
        shingles = [" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)]
        MinHash(BANDS * ROWS).update_batch([shingle.encode() for shingle in shingles])


def _in_batches(pages: Sequence[str], work: Callable[[Pages], Any]) -> None:
    batch, size = [], 0
    for page in pages:
        batch.append(page)
        size += len(page)
        if size >= _BATCH:
            work(Pages(batch))
            batch, size = [], 0
    if batch:
        work(Pages(batch))


def _pages(text: Path | None, megabytes: int) -> list[str]:
    """Pages of 3,000 characters, so many megabytes of them."""
    if text is not None:
        whole = text.read_text(encoding="utf-8", errors="replace")
    else:
        whole = python_manual() + "".join(library_source(name) for name in ("argparse", "typing", "datetime"))
    pages = [whole[start : start + _PAGE] for start in range(0, len(whole), _PAGE)]
    needed = max(1, megabytes * 1_000_000 // _PAGE)
    return (pages * (needed // len(pages) + 1))[:needed]
