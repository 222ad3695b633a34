"""A small text classifier: hashed n-grams, and one logistic regression for each category and for any harm.

A text becomes a row of 2^16 numbers, nearly all 0: every run of 2 to 5 characters, every word and every pair
of neighbouring words is hashed to a column (Weinberger et al. 2009, arXiv 0902.2206, the "hashing trick"). A
column counts once, words more than runs of characters, rare ones more than common ones (by the root of the
usual idf), and the row has length 1. The log-odds of a category
are then a sum, so each n-gram's part in the verdict can be read off.

Characters catch spellings that no list of words has; pairs of words tell "shoot a portrait" from the rest.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tinyphi.errors import WeightsError
from tinyphi.safety.policy import learnt_categories

_BITS = 16
COLUMNS = 2**_BITS
_WORD_COUNTS = 2.0  # where a run of characters counts 1
_SIZES = (2, 3, 4, 5)  # characters
_TRAINED = Path(__file__).parent / "weights" / "filter.safetensors"
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 over the golden ratio
_INVERSE = np.uint64(pow(int(_FACTOR), -1, 2**64))
_WORD = re.compile(r"\S+")

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Grams:
    """The n-grams of a text: n-gram i is text[start[i]:end[i]] and falls into column[i]."""

    text: str
    start: Places  # (n)
    end: Places  # (n)
    column: Places  # (n)
    counts: Floats  # (n) what it counts


def plain(text: str) -> str:
    """Lower case, runs of the same letter cut to two, names and links of the web as one sign each."""
    text = re.sub(r"https?://\S+|www\.\S+", " ", text.lower())
    text = re.sub(r"@\w+", "@", text)
    text = re.sub(r"(\w)\1{2,}", r"\1\1", text)
    text = re.sub(r"\d", "0", text)
    return " " + " ".join(re.findall(r"[^\W_]+|[^\w\s]", text)) + " "


def grams(text: str) -> Grams:
    """All n-grams of `plain(text)`, in one sweep.

    With c[i] the sum of x[k] f^k over k < i (mod 2^64), (c[j] - c[i]) f^-i is a hash of x[i:j] wherever that
    stands: so all sizes cost one subtraction and one product each.
    """
    text = plain(text)
    letters = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    count = len(letters)
    powers, inverses = _powers(_FACTOR, count + 1), _powers(_INVERSE, count + 1)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(letters * powers[:-1], dtype=np.uint64)))
    starts, ends = [], []
    for size in _SIZES:
        starts.append(np.arange(max(0, count - size + 1)))
        ends.append(starts[-1] + size)
    words = np.array([word.span() for word in _WORD.finditer(text)], np.int64).reshape(-1, 2)
    starts += [words[:, 0], words[:-1, 0]]
    ends += [words[:, 1], words[1:, 1]]
    start, end = np.concatenate(starts), np.concatenate(ends)
    code = (sums[end] - sums[start]) * inverses[start]
    whole = np.zeros(len(start), np.uint64)  # a word is another feature than the same letters inside words
    whole[len(start) - max(0, 2 * len(words) - 1) :] = 1
    code = (code + whole) * _FACTOR
    code ^= code >> np.uint64(29)
    column = ((code * _FACTOR) >> np.uint64(64 - _BITS)).astype(np.int64)
    return Grams(text, start, end, column, 1 + (_WORD_COUNTS - 1) * whole.astype(np.float32))


def features(text: str) -> tuple[Places, Floats]:
    """The columns of a text that are not 0, in order, and what they count."""
    found = grams(text)
    column, first = np.unique(found.column, return_index=True)
    return column, found.counts[first]


def weighted(column: Places, counts: Floats, idf: Floats) -> Floats:
    """The values of a row: counts times idf (column), scaled so that their squares sum to 1."""
    values = counts * idf[column]
    return (values / max(float(np.linalg.norm(values)), 1e-6)).astype(np.float32)


def _powers(factor: np.uint64, count: int) -> NDArray[np.uint64]:
    """1, f, f², … mod 2^64."""
    return np.concatenate((np.ones(1, np.uint64), np.cumprod(np.full(count - 1, factor), dtype=np.uint64)))


@dataclass(frozen=True, eq=False)
class Classifier:
    """idf: (column); weights: (score column); bias: (score); mix: (category score); shift: (category).

    There is a score for each category, and a last one for any harm. The calibrated log-odds are
    mix @ (weights @ features + bias) + shift: Platt scaling, fitted on texts that the weights were not, in
    which a category may listen to the other scores too.
    """

    categories: tuple[str, ...]
    idf: Floats
    weights: Floats
    bias: Floats
    mix: Floats
    shift: Floats

    def log_odds(self, text: str) -> Floats:
        """(category), calibrated."""
        column, counts = features(text)
        values = weighted(column, counts, self.idf)
        found: Floats = self.mix @ (self.weights[:, column] @ values + self.bias) + self.shift
        return found

    def probabilities(self, text: str) -> Floats:
        """(category), calibrated."""
        return (1 / (1 + np.exp(-np.clip(self.log_odds(text), -30, 30)))).astype(np.float32)

    def contributions(self, text: str, category: str, most: int = 5) -> list[tuple[str, float]]:
        """The n-grams that speak most for a category: (n-gram, its part of the calibrated log-odds).

        Of n-grams that lie within one another only the strongest is named.
        """
        row = self.categories.index(category)
        found = grams(text)
        column, counts = features(text)
        parts = (self.mix[row] @ self.weights[:, column]) * weighted(column, counts, self.idf)
        part = parts[np.searchsorted(column, found.column)]
        named: list[tuple[str, float]] = []
        for place in np.argsort(-part, kind="stable"):
            gram = found.text[found.start[place] : found.end[place]]
            if part[place] <= 0 or len(named) == most:
                break
            if not any(gram.strip() in other or other.strip() in gram for other, _ in named):
                named.append((gram, float(part[place])))
        return named


def save_classifier(classifier: Classifier, file: Path, about: dict[str, str]) -> None:
    """Write to a safetensors file; the weights in 16 bits."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {
        "idf": classifier.idf.astype(np.float16),
        "weights": classifier.weights.astype(np.float16),
        "bias": classifier.bias,
        "mix": classifier.mix,
        "shift": classifier.shift,
    }
    scratch = file.with_name(file.name + ".partial")
    save_file(
        tensors, scratch, metadata={"about": json.dumps({**about, "categories": classifier.categories})}
    )
    scratch.replace(file)


@lru_cache(maxsize=4)
def load_classifier(file: Path | None = None) -> Classifier:
    """The classifier of a file; None: the one that ships with tinyphi.

    Raises WeightsError if the file is missing, damaged or of another policy.
    """
    path = file or _TRAINED
    try:
        with safe_open(path, "numpy") as stored:
            categories = tuple(json.loads((stored.metadata() or {})["about"])["categories"])
            tensors = {name: stored.get_tensor(name).astype(np.float32) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"The filter's weights {path} cannot be read: {error}.") from error
    rows = len(categories)
    shapes = {
        "idf": (COLUMNS,),
        "weights": (rows + 1, COLUMNS),
        "bias": (rows + 1,),
        "mix": (rows, rows + 1),
        "shift": (rows,),
    }
    found = {name: part.shape for name, part in tensors.items()}
    if categories != learnt_categories() or found != shapes:
        raise WeightsError(
            f"The filter's weights {path} are of another policy; `tinyphi train safety` makes new ones."
        )
    return Classifier(categories, **tensors)
