"""The filter: rules and a classifier look at every reading of a text, and say what they saw.

    text → readings (tricks undone) → parts → classifier → the highest probability of each category
                                    → rules                  → compared with the policy's thresholds

Of many sentences one looks bad by chance. So where a category is judged sentence by sentence, a sentence's
odds are divided by how many there are, as Bonferroni would; but at most by 8, or filler would hide a request.

`stream` puts the filter between a model and its reader: words are held back until those after them have been
seen too, so that the reply stops before the first word of what is flagged. It looks once in twelve words: who
looks after every word has many more chances to see harm where there is none, most of all at the first words.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from tinyphi.errors import InputError
from tinyphi.safety.classifier import Classifier, load_classifier
from tinyphi.safety.normalise import Reading, Undone, readings
from tinyphi.safety.policy import POLICY, thresholds
from tinyphi.safety.rules import Side, matches

WINDOW, STRIDE = 120, 60  # words that are judged together, and from one such part to the next
_MOST_RIVALS = 8  # sentences by which the odds of one are divided; chosen on held-out fifths of the training
_LONGEST = 2000  # characters of a window, where words have no spaces between them
HELD_BACK = 12  # words of a stream from one look to the next; those since the look before are kept
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
_WHOLE_WORD = re.compile(r"\s*\S+(?=\s)")


@dataclass(frozen=True)
class Reason:
    """Why a category was flagged.

    source: the name of a rule, or "n-gram". text: what it saw, in the reading that scored highest.
    weight: a rule's probability; of an n-gram, its part of the calibrated log-odds.
    """

    category: str
    source: str
    text: str
    weight: float


@dataclass(frozen=True)
class Verdict:
    """What the filter thinks of a text.

    scores: the calibrated probability of each category. flagged: those that reach their threshold, the
    likeliest first. reasons: for those. undone: the tricks that hid what was flagged.
    """

    scores: dict[str, float]
    flagged: tuple[str, ...]
    reasons: tuple[Reason, ...]
    undone: tuple[Undone, ...]

    @property
    def allowed(self) -> bool:
        """Whether nothing was flagged."""
        return not self.flagged

    @property
    def harm(self) -> float:
        """The probability of any harm, were the categories independent: 1 - the product of all 1 - score."""
        return 1 - math.prod(1 - score for score in self.scores.values())

    def __str__(self) -> str:
        if self.allowed:
            return "allowed"
        lines = [f"{name}: {self.scores[name]:.2f}" for name in self.flagged]
        lines += [f"  {one.source} {one.text!r} ({one.weight:+.2f})" for one in self.reasons]
        return "\n".join(lines + [f"  undone: {one.trick}" for one in self.undone])


class HasText(Protocol):
    """A piece of a stream, such as a `Step` of `tinyphi.stream`."""

    @property
    def text(self) -> str: ...


class SafetyFilter:
    """Says whether a text keeps to the policy. Make one with `SafetyFilter.load()`."""

    def __init__(self, classifier: Classifier, changes: dict[str, float] | None = None) -> None:
        self.classifier = classifier
        self.thresholds = thresholds(changes)
        self._probabilities = lru_cache(4096)(classifier.probabilities)  # parts come again in a stream

    @classmethod
    def load(cls, file: Path | None = None, thresholds: dict[str, float] | None = None) -> "SafetyFilter":
        """The filter that ships with tinyphi, or with the weights of a file.

        thresholds: those that differ from the policy's; above 1 switches a category off.
        Raises WeightsError for a damaged file, InputError for a category that there is not.
        """
        return cls(load_classifier(file), thresholds)

    def check(self, text: str, side: Side = "input") -> Verdict:
        """Judge a text. side: "input" for what is asked, "output" for what a model says.

        Raises InputError for what is not a text, or another side.
        """
        if not isinstance(text, str) or side not in ("input", "output"):
            raise InputError(f'check takes a text and "input" or "output", not {text!r:.40} and {side!r}.')
        scores, seen_in = dict.fromkeys(POLICY, 0.0), {}
        for reading in readings(text):
            for name, score in self._scores(reading, side).items():
                if score > scores[name]:
                    scores[name], seen_in[name] = score, reading
        likeliest_first = sorted(scores, key=lambda name: -scores[name])
        flagged = [name for name in likeliest_first if scores[name] >= self.thresholds[name]]
        reasons = [reason for name in flagged for reason in self._reasons(name, seen_in[name], side)]
        undone = {trick: None for name in flagged for trick in seen_in[name].undone}  # in order, once each
        return Verdict(scores, tuple(flagged), tuple(reasons), tuple(undone))

    def stream(self, pieces: Iterable[str | HasText], side: Side = "output") -> "FilteredStream":
        """The text of some pieces, until the filter flags it; see `FilteredStream`."""
        return FilteredStream(self, pieces, side)

    def _scores(self, reading: Reading, side: Side) -> dict[str, float]:
        """The probability of each category in one reading: the highest of its parts and of its rules."""
        scores = {
            name: max(chance for chance, _ in self._judged(reading.text, name))
            for name in self.classifier.categories
        }
        for match in matches(reading.text, side):
            name = match.rule.category
            scores[name] = max(scores.get(name, 0.0), match.rule.probability)
        return scores

    def _reasons(self, name: str, reading: Reading, side: Side) -> Iterator[Reason]:
        """The rules that apply, and the n-grams of the window that scored highest."""
        for match in matches(reading.text, side):
            if match.rule.category == name:
                yield Reason(name, match.rule.name, match.text, match.rule.probability)
        if name in self.classifier.categories:
            _, worst = max(self._judged(reading.text, name))
            for gram, part in self.classifier.contributions(worst, name):
                yield Reason(name, "n-gram", gram, part)

    def _judged(self, text: str, name: str) -> Iterator[tuple[float, str]]:
        """The probability of a category in each part of a text that is judged on its own."""
        row = self.classifier.categories.index(name)
        for part in windows(text):
            yield float(self._probabilities(part)[row]), part
        if POLICY[name].by_sentence:
            parts = sentences(text)
            rivals = min(len(parts), _MOST_RIVALS)
            for part in parts:
                chance = float(self._probabilities(part)[row])
                yield chance / (chance + rivals * (1 - chance)), part


def windows(text: str) -> list[str]:
    """A text in overlapping parts of 120 words: one bad paragraph must not drown in many good ones."""
    spans = [word.span() for word in re.finditer(r"\S+", text)]
    found = []
    for first in range(0, max(1, len(spans) - WINDOW + STRIDE), STRIDE):
        inside = spans[first : first + WINDOW]
        part = text[inside[0][0] : inside[-1][1]] if inside else ""
        found += [part[start : start + _LONGEST] for start in range(0, max(1, len(part)), _LONGEST)]
    return found


def sentences(text: str) -> list[str]:
    """A text in its sentences and lines."""
    return [part[:_LONGEST] for part in _SENTENCE_END.split(text) if part]


class FilteredStream:
    """An iterator of text that ends early when the filter objects; then `verdict` says why.

    All that has come is checked after each twelve words and at the end, and the last twelve of what was
    checked are kept until the next look, so that nothing of a flagged phrase that long gets out. On a stop
    the pieces are closed, so that the model stops too.
    """

    def __init__(self, judge: SafetyFilter, pieces: Iterable[str | HasText], side: Side) -> None:
        self.verdict: Verdict | None = None  # of the last check; None before the first
        self._judge, self._pieces, self._side = judge, pieces, side

    @property
    def stopped(self) -> bool:
        """Whether the filter ended the stream."""
        return self.verdict is not None and not self.verdict.allowed

    def __iter__(self) -> Iterator[str]:
        text, seen, words, released, kept = "", 0, 0, 0, 0
        try:
            for piece in self._pieces:
                text += piece if isinstance(piece, str) else piece.text
                for word in _WHOLE_WORD.finditer(text, seen):
                    seen, words = word.end(), words + 1
                    if words % HELD_BACK:
                        continue
                    if not self._passes(text[:seen]):
                        return
                    if kept:
                        yield text[released:kept]
                    released, kept = kept, seen
            if self._passes(text):
                yield text[released:]
        finally:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()

    def _passes(self, text: str) -> bool:
        self.verdict = self._judge.check(text, self._side)  # what was seen before is in a cache
        return self.verdict.allowed
