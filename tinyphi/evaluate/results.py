"""What came out of a benchmark, and how far it can be trusted.

A benchmark asks some hundred questions of the millions it could ask. The bootstrap says how much the result
would differ with other questions: draw as many of the answers as there are, with repetition, take their mean,
and do so a thousand times.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyphi.errors import InputError
from tinyphi.evaluate.tasks.base import TRANSFORMS, Score
from tinyphi.files import write_text

_AT_ONCE = 1 << 22  # numbers that the bootstrap draws at once


@dataclass(frozen=True)
class Answer:
    """What a model made of one row."""

    row: int  # its place in the data
    group: str | None  # such as the subject
    said: str | tuple[float, ...]  # what it wrote, or the log-probability of each choice in nats
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Interval:
    """A value, and the limits between which it lies for 95 % (`level`) of such samples of questions."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:8.4f}  [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Result:
    """One task, asked in one wording."""

    task: str
    wording: str
    shots: int
    answers: tuple[Answer, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.answers[0].scores)

    def value(self, metric: str) -> float:
        """Σ value / Σ weight over all answers; for a perplexity, what that is turned into."""
        values, weights = self._columns(metric)
        return _transform(metric, float(values.sum() / weights.sum()))

    def interval(self, metric: str, level: float = 0.95, samples: int = 1000, seed: int = 0) -> Interval:
        """The bootstrap interval (percentile method; Efron and Tibshirani 1993, ch. 13).

        Raises InputError for a level that is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")
        values, weights = self._columns(metric)
        means = bootstrap(values, weights, samples, seed)
        limits = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
        low, high = sorted(_transform(metric, float(limit)) for limit in limits)
        return Interval(self.value(metric), low, high, level)

    def by_group(self, metric: str) -> dict[str, float]:
        """The value of each group, such as MMLU's subjects; empty for a task without groups."""
        groups = sorted({answer.group for answer in self.answers if answer.group is not None})
        return {
            group: Result(self.task, self.wording, self.shots, self._of(group)).value(metric)
            for group in groups
        }

    def _of(self, group: str) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if answer.group == group)

    def _columns(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        if metric not in self.metrics:
            raise InputError(f"{self.task} has no metric {metric!r}; it has {', '.join(self.metrics)}.")
        pairs = np.array([tuple(answer.scores[metric]) for answer in self.answers], dtype=np.float64)
        return pairs[:, 0], pairs[:, 1]


def bootstrap(values: np.ndarray, weights: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The means Σ value / Σ weight of so many samples with repetition: two (items) → (samples)."""
    chance, count = np.random.default_rng(seed), len(values)
    means = np.empty(samples)
    step = max(1, _AT_ONCE // count)
    for start in range(0, samples, step):
        drawn = chance.integers(count, size=(min(step, samples - start), count))
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing that was drawn has a mark
            means[start : start + step] = values[drawn].sum(1) / weights[drawn].sum(1)
    return means


@dataclass(frozen=True)
class Sensitivity:
    """The same questions in several wordings: how much of a score is the wording's?"""

    results: Mapping[str, Result]  # by wording

    def spread(self, metric: str) -> float:
        """The best wording's value minus the worst one's."""
        values = [result.value(metric) for result in self.results.values()]
        return max(values) - min(values)

    def changed(self, metric: str) -> float:
        """The share of questions that are not marked alike in all wordings."""
        columns = [[answer.scores[metric] for answer in one.answers] for one in self.results.values()]
        differ = [len(set(marks)) > 1 for marks in zip(*columns, strict=True)]
        return sum(differ) / len(differ)


def save(results: Iterable[Result], path: Path) -> None:
    """One line of JSON for each answer, to look into or to compare with another run."""
    lines = [
        {"task": result.task, "wording": result.wording, "shots": result.shots, "row": answer.row}
        | {"group": answer.group, "said": answer.said, "scores": dict(answer.scores)}
        for result in results
        for answer in result.answers
    ]
    try:
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise InputError(f"The answers cannot be written to {path} ({error}). Name another file.") from error


def table(results: Sequence[Result]) -> str:
    """Every metric of every result with its interval, as lines of text."""
    head = f"{'task':16} {'wording':8} {'shots':>5} {'items':>6}  {'metric':16} {'value':>8}"
    lines = [f"{head}  95 % interval"]
    for result in results:
        for metric in result.metrics:
            lines.append(
                f"{result.task:16} {result.wording:8} {result.shots:5} {len(result.answers):6}  {metric:16} "
                f"{result.interval(metric)}"
            )
    return "\n".join(lines)


def _transform(metric: str, mean: float) -> float:
    return TRANSFORMS[metric](mean) if metric in TRANSFORMS else mean
