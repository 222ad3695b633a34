"""How good is a score? Precision, recall, the ROC curve, calibration, each from its definition."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyphi.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """What a yes-or-no decision got right and wrong."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        """Of what was flagged, the share that should be; 1 if nothing was."""
        flagged = self.true_positives + self.false_positives
        return self.true_positives / flagged if flagged else 1.0

    @property
    def recall(self) -> float:
        """Of what should be flagged, the share that was; 1 if there is nothing."""
        harmful = self.true_positives + self.false_negatives
        return self.true_positives / harmful if harmful else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return 2 * self.true_positives / max(1, 2 * self.true_positives + wrong)

    @property
    def false_positive_rate(self) -> float:
        """Of what is harmless, the share that was flagged."""
        harmless = self.false_positives + self.true_negatives
        return self.false_positives / harmless if harmless else 0.0


def counts(truth: ArrayLike, flagged: ArrayLike) -> Counts:
    """Both (n) bool. Raises InputError if their lengths differ."""
    truth, flagged = np.asarray(truth, bool), np.asarray(flagged, bool)
    _check(truth, flagged)
    return Counts(
        int((truth & flagged).sum()),
        int((~truth & flagged).sum()),
        int((truth & ~flagged).sum()),
        int((~truth & ~flagged).sum()),
    )


def roc(truth: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The ROC curve from (0, 0) to (1, 1): false positive rate, true positive rate, threshold of each point.

    A text is flagged when its score is at least the threshold. Raises InputError without both kinds of text.
    """
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    _check(truth, scores)
    if truth.all() or not truth.any():
        raise InputError("A ROC curve needs texts of both kinds, and these are all of one.")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of equal scores only the last is a point
    hits, alarms = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    rates = (alarms / alarms[-1], hits / hits[-1])
    return np.insert(rates[0], 0, 0), np.insert(rates[1], 0, 0), np.insert(scores[order][last], 0, np.inf)


def roc_auc(truth: ArrayLike, scores: ArrayLike) -> float:
    """The area under the ROC curve: the chance that a harmful text scores higher than a harmless one."""
    alarms, hits, _ = roc(truth, scores)
    return float(np.trapezoid(hits, alarms))


def roc_auc_interval(truth: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Where 95 % of the areas lie if the texts are drawn again, with replacement, from those at hand."""
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    low, high = np.quantile([roc_auc(truth[drawn], scores[drawn]) for drawn in _draws(truth)], (0.025, 0.975))
    return float(low), float(high)


def roc_auc_lead(truth: ArrayLike, ours: ArrayLike, theirs: ArrayLike) -> tuple[float, float, float]:
    """How far one score's area lies above another's on the same texts, and where 95 % of such leads lie.

    Both are measured on each draw, so that what is hard for both does not blur the difference.
    """
    truth, ours, theirs = np.asarray(truth, bool), np.asarray(ours), np.asarray(theirs)
    leads = [
        roc_auc(truth[drawn], ours[drawn]) - roc_auc(truth[drawn], theirs[drawn]) for drawn in _draws(truth)
    ]
    low, high = np.quantile(leads, (0.025, 0.975))
    return roc_auc(truth, ours) - roc_auc(truth, theirs), float(low), float(high)


def _draws(truth: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """500 times: places of as many harmful and harmless texts as there are, drawn with replacement."""
    chance = np.random.default_rng(0)
    kinds = (np.flatnonzero(truth), np.flatnonzero(~truth))
    for _ in range(500):
        yield np.concatenate([chance.choice(kind, len(kind)) for kind in kinds])


def calibration(
    truth: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> tuple[float, list[tuple[float, float, int]]]:
    """The expected calibration error, and of each tenth of the scale: mean probability, true share, texts.

    The error is the mean of |mean probability - true share|, weighted by the texts (Naeini et al. 2015).
    """
    truth, scores = np.asarray(truth, bool), np.asarray(probabilities, np.float64)
    _check(truth, scores)
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows = [
        (float(scores[place == b].mean()), float(truth[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]
    return sum(abs(said - true) * size for said, true, size in rows) / max(1, len(truth)), rows


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): sensible near 0 and 1, unlike ± 1.96 errors."""
    if of == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach: float = z * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _check(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise InputError(
            f"Labels and scores must be two lists of the same length, and are {one.shape} and {other.shape}."
        )
