"""Work that alternates, and the rows of its medians and ratios.

Machines differ and are shared, so the ratio of two runs a moment apart is the result; seconds and tokens/s
are only for orientation.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def seconds(work: Callable[[], Any]) -> float:
    """The time that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(
    sides: Mapping[str, Callable[[], T]], runs: int, what: str, warm_up: bool = True
) -> dict[str, list[T]]:
    """Let the sides measure themselves, one after the other, round after round: what each found, in order.

    what: the label of the progress bar. warm_up: a first round is dropped.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    dropped = 1 if warm_up else 0
    for _ in tqdm(range(runs + dropped), desc=what, leave=False, disable=None):
        for name, measure in sides.items():
            found[name].append(measure())
    return {name: results[dropped:] for name, results in found.items()}


def faster(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """Two cells: how many times as long they took, the median over the rounds; the smallest and largest."""
    ratios = [their / my for my, their in zip(mine, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} × | {min(ratios):.2f} – {max(ratios):.2f}"


SPEEDS = """\
| work | by | tokens/s | the first is faster by | spread | share of bandwidth |
|---|---|---:|---:|---|---:|"""


def speed_rows(
    work: str,
    tokens: int,
    found: Mapping[str, Sequence[float]],
    shares: Callable[[str, float], str] = lambda name, speed: "",
) -> list[str]:
    """A row under `SPEEDS` for each side; the first one is what the others are compared with.

    tokens: that a run processed. found: its seconds, by side. shares: (side, tokens/s) → the last cell.
    """
    first = next(iter(found))
    rows = []
    for name, times in found.items():
        speed = tokens / statistics.median(times)
        compared = "|" if name == first else faster(found[first], times)
        rows.append(
            f"| {work} | {name} | {speed:.{1 if speed < 100 else 0}f} | {compared} | {shares(name, speed)} |"
        )
        work = ""
    return rows
