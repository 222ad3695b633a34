"""Is a page worth reading? A linear classifier of real text: hashed words, word pairs and a few statistics.

Phi-3's makers filter the web by "educational level" (arXiv 2404.14219, sec. 2); for phi-1 they trained a
small classifier on pages that a large model had judged (arXiv 2306.11644, sec. 2.1). Here the labels come
from where a page stood: textbooks and an encyclopedia are good, a sample of the web and shop reviews are bad.
So it learns what such texts are like, not what is true or well explained.

    score = σ(bias + mean over words and pairs of vote[bucket] + Σ weight · (statistic − mean) / deviation)

A word's bucket is the top of its key (tinyphi.data.pages), so no vocabulary is stored: 2¹⁷ votes of 8 bits.
The mean does not grow with a page's length. Sources differ in typography (curly quotes, dashes, Markdown,
line breaks, length), which would give them away; so words are letters and digits only, no feature sees
lines, capitals, quotes, dashes or "#", and training pages are cut to one length. `quality.py` has a
classifier for a small world that needs no file.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinyphi.data.pages import Keys, Lexicon, Pages, Whole, mix, ngrams
from tinyphi.errors import InputError

BUCKETS = 17  # bits
STATISTICS = {
    "word length": "characters of a word",
    "stop words": "share of words",
    "you and I": "share of words: you, your, we, our, us, i, my, me",
    "numbers": "share of words that begin with a digit",
    "sentence ends": "signs . ! ? for each word",
    "loud ends": "signs ! ? for each word",
}
_STOPS = Lexicon(
    "the of and a to in is that for as are by with be on an it from which this at or was".split()
)
_PERSONAL = Lexicon("you your we our us i my me".split())
_GAIN = 32.0  # votes are learned in this unit: a word is a small part of a page, so its vote must be large

Values = NDArray[np.float64]


class Vote(NamedTuple):
    """What one word, pair or statistic adds to a page's logit."""

    feature: str
    logit: float


class EducationalFilter:
    """votes: of each bucket (2¹⁷). statistics: mean, deviation and weight of each statistic (3, 6)."""

    def __init__(self, votes: Values, statistics: Values, bias: float) -> None:
        if votes.shape != (1 << BUCKETS,) or statistics.shape != (3, len(STATISTICS)):
            raise InputError(
                f"A filter has {1 << BUCKETS} votes and 3 × {len(STATISTICS)} numbers for statistics; these "
                f"are {votes.shape} and {statistics.shape}."
            )
        self._votes, self._statistics, self._bias = votes, statistics, bias

    @classmethod
    def load(cls, path: str | Path | None = None) -> "EducationalFilter":
        """A saved filter; by default the one in the package, trained as docs/data.md says.

        Raises InputError if the file cannot be read or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            saved = load((Path(path) if path is not None else _shipped()).read_bytes())
            return cls(
                saved["votes"].astype(np.float64) * float(saved["scale"][0]),
                saved["statistics"].astype(np.float64),
                float(saved["bias"][0]),
            )
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{path or 'The filter'} is no saved filter of tinyphi: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file, with the votes in 8 bits: about 130 kB."""
        from safetensors.numpy import save

        scale = float(np.abs(self._votes).max()) / 127 or 1.0
        saved: dict[str, NDArray[np.generic]] = {
            "votes": np.round(self._votes / scale).astype(np.int8),
            "scale": np.array([scale], np.float32),
            "statistics": self._statistics.astype(np.float32),
            "bias": np.array([self._bias], np.float32),
        }
        scratch = Path(path).with_name(f".{Path(path).name}.partial")
        scratch.write_bytes(save(saved))
        scratch.replace(path)

    def scores(self, pages: Pages) -> Values:
        """Each page's score from 0 to 1: the probability that it is good, were half of all pages good."""
        return _sigmoid(self.logits(features(pages)))

    def score(self, text: str) -> float:
        """The score of one text."""
        return float(self.scores(Pages([text]))[0])

    def logits(self, found: "Features") -> Values:
        """The score before the sigmoid, of each page of `found`."""
        mean, deviation, weights = self._statistics
        sums = np.bincount(found.page, self._votes[found.bucket], len(found.statistics))
        counted = np.bincount(found.page, minlength=len(found.statistics))
        statistics: Values = _standard(found.statistics, mean, deviation) @ weights
        return self._bias + sums / np.maximum(counted, 1) + statistics

    def explain(self, text: str) -> list[Vote]:
        """What each word, pair and statistic adds to the logit; the largest first, whatever their sign."""
        pages = Pages([text])
        found, words = features(pages), pages.words
        named = [pages.between(a, b).lower() for a, b in zip(words.start, words.end, strict=True)]
        named += [" ".join(named[first : first + 2]) for first in ngrams(words, 2).first]
        sums: dict[str, float] = {}
        for name, vote in zip(named, self._votes[found.bucket] / max(len(named), 1), strict=True):
            sums[name] = sums.get(name, 0.0) + float(vote)
        mean, deviation, weights = self._statistics
        shares = _standard(found.statistics[0], mean, deviation) * weights
        sums |= {f"({name})": float(share) for name, share in zip(STATISTICS, shares, strict=True)}
        return sorted((Vote(*vote) for vote in sums.items()), key=lambda vote: -abs(vote.logit))


class Features(NamedTuple):
    """bucket, page (n): of all words, then of all pairs. statistics (pages, 6)."""

    bucket: Whole
    page: Whole
    statistics: Values


def features(pages: Pages) -> Features:
    """What the classifier knows of each page."""
    words, keys = pages.words, pages.shapes
    pairs = ngrams(words, 2, keys)
    count = np.maximum(pages.per_page(words.page), 1)
    statistics = [
        pages.per_page(words.page, words.end - words.start),
        pages.per_page(words.page[_STOPS.find(keys) >= 0]),
        pages.per_page(words.page[_PERSONAL.find(keys) >= 0]),
        pages.per_page(words.page[pages.bytes[words.start] <= ord("9")]),
        pages.bytes_in(b".!?"),
        pages.bytes_in(b"!?"),
    ]
    bucket = np.concatenate([_bucket(keys), _bucket(pairs.key)])
    return Features(
        bucket, np.concatenate([words.page, pairs.page]), np.stack(statistics, 1) / count[:, None]
    )


def fit(
    texts: Sequence[str],
    good: Sequence[bool],
    weights: Sequence[float],
    decay: float = 3e-6,
    steps: int = 150,
) -> EducationalFilter:
    """Logistic regression by Adam on all pages at once.

    good: of each text. weights: how much each text counts; the kinds are made to count alike. decay: of the
    squared votes, the sum of which is added to the loss. A bucket that fewer than three texts share gets no
    vote. Raises InputError unless there are texts of both kinds.
    """
    target, pages = np.asarray(good, np.float64), Pages(texts)
    if not 0 < target.sum() < len(texts):
        raise InputError("A filter learns from good and from bad pages; these are all of one kind.")
    share = np.asarray(weights, np.float64)
    share = np.where(target > 0, share / share[target > 0].sum(), share / share[target == 0].sum()) / 2
    found = features(pages)
    mean, deviation = found.statistics.mean(0), found.statistics.std(0) + 1e-6
    statistics = _standard(found.statistics, mean, deviation)
    page, bucket, part = _parts(found)
    parameters = np.zeros((1 << BUCKETS) + len(STATISTICS) + 1)
    moments = np.zeros((2, len(parameters)))
    for step in tqdm(range(1, steps + 1), desc="classifier", leave=False, disable=None):
        votes, weight, bias = np.split(parameters, [1 << BUCKETS, len(parameters) - 1])
        logits = np.bincount(page, votes[bucket] * part, len(texts)) + statistics @ weight + bias
        error = share * (_sigmoid(logits) - target)
        gradient = np.bincount(bucket, error[page] * part, 1 << BUCKETS) + 2 * decay * votes
        whole = np.concatenate([gradient, error @ statistics, [error.sum()]])
        parameters = parameters - _adam(moments, whole, step)
    votes, weight, bias = np.split(parameters, [1 << BUCKETS, len(parameters) - 1])
    return EducationalFilter(_GAIN * votes, np.stack([mean, deviation, weight]), float(bias[0]))


def _parts(found: "Features", least: int = 3) -> tuple[Whole, Whole, Values]:
    """Page, bucket, and the bucket's part of the page's mean times the gain, where enough pages share it."""
    count = np.maximum(np.bincount(found.page, minlength=len(found.statistics)), 1)
    both, times = np.unique(found.page << BUCKETS | found.bucket, return_counts=True)
    page, bucket = both >> BUCKETS, both & (1 << BUCKETS) - 1
    shared = np.bincount(bucket, minlength=1 << BUCKETS)[bucket] >= least
    part: Values = _GAIN * times / count[page]
    return page[shared], bucket[shared], part[shared]


def _adam(moments: Values, gradient: Values, step: int, rate: float = 0.05) -> Values:
    """The step of Adam (arXiv 1412.6980, algorithm 1) with a falling rate; updates the moments (2 n)."""
    moments[0] += 0.1 * (gradient - moments[0])
    moments[1] += 0.001 * (gradient**2 - moments[1])
    first, second = moments[0] / (1 - 0.9**step), moments[1] / (1 - 0.999**step)
    change: Values = rate / np.sqrt(step / 10 + 1) * first / (np.sqrt(second) + 1e-12)
    return change


def _standard(statistics: Values, mean: Values, deviation: Values) -> Values:
    """In deviations from the mean, but at most three: a page full of "!" should not outvote its words."""
    return np.clip((statistics - mean) / deviation, -3, 3)


def _bucket(keys: Keys) -> Whole:
    return (mix(keys) >> np.uint64(64 - BUCKETS)).view(np.int64)


def _sigmoid(x: Values) -> Values:
    score: Values = 1 / (1 + np.exp(-np.clip(x, -500, 500)))
    return score


def _shipped() -> Path:
    return Path(str(files("tinyphi.data") / "weights" / "educational.safetensors"))
