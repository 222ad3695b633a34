"""How different texts are from one another: three numbers that no single text shows.

Each of a thousand texts can be good, and all of them the same. Loss and checks do not notice; these do.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from tinyphi.data.dedup import clusters, signatures
from tinyphi.data.pages import Pages
from tinyphi.errors import InputError


def distinct(texts: Sequence[str], n: int = 3) -> float:
    """Different runs of n words, as a share of all such runs (Li et al. 2016, arXiv 1510.03055).

    It falls as texts get longer and more: compare only as many of one length. Raises InputError where there
    is no such run.
    """
    runs = [run for text in texts for run in _runs(text, n)]
    if not runs:
        raise InputError(f"No text has {n} words; name a smaller n, or other texts.")
    return len(set(runs)) / len(runs)


def opening_entropy(texts: Sequence[str], n: int = 3) -> float:
    """The entropy of the first n words, in bits: 0 if all texts begin alike, log2(texts) if none do."""
    counts = Counter(tuple(_words(text)[:n]) for text in texts)
    return sum(-count / len(texts) * math.log2(count / len(texts)) for count in counts.values())


def near_duplicates(texts: Sequence[str]) -> float:
    """The share of texts that `tinyphi.data.dedup` finds to be like an earlier one."""
    if not texts:
        return 0.0
    first = clusters(signatures(Pages(texts))).tolist()
    return len([place for place, like in enumerate(first) if like != place]) / len(texts)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    words = _words(text)
    return [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
