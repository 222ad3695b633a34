"""ROC curves, and what a threshold is worth at the base rate where it will be used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import drawn_words, finite, shaped, words
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TEXTS, MOST_CURVES = 5000, 8
_LEAST_RATE, _MOST_RATE = 1e-4, 0.5


@dataclass(frozen=True)
class _Case:
    """One category: scores (n) float64, truth (n) bool, and the threshold from which a text is flagged."""

    name: str
    scores: Tensor
    truth: Tensor
    threshold: float

    def rates(self) -> tuple[float, float]:
        """The shares of harmful and of harmless texts that are flagged."""
        flagged = self.scores >= self.threshold
        return float(flagged[self.truth].double().mean()), float(flagged[~self.truth].double().mean())

    def curve(self) -> tuple[Tensor, Tensor]:
        """The ROC curve from (0, 0) to (1, 1): false alarms, hits. Equal scores make one point."""
        order = self.scores.argsort(descending=True, stable=True)
        scores, truth = self.scores[order], self.truth[order]
        last = torch.cat((scores[1:] != scores[:-1], torch.tensor([True])))
        sums = [side.cumsum(0)[last].double() / side.sum() for side in (~truth, truth)]
        start = torch.zeros(1, dtype=torch.float64)
        return torch.cat((start, sums[0])), torch.cat((start, sums[1]))

    def area(self) -> float:
        """The area below the curve."""
        alarms, hits = self.curve()
        return float(torch.trapezoid(hits, alarms))


def roc_explorer(
    scores: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    thresholds: Mapping[str, float] | float = 0.5,
    base_rate: float = 0.01,
) -> View:
    """ROC curves by category, and precision at any threshold and any base rate.

    scores      of each category, (texts): the higher, the likelier harmful. At most 8 categories, 5000 texts
    labels      of each category, (texts) bool or 0 and 1: whether the text is harmful; both must occur
    thresholds  from which score on a text is flagged, one for all or one for each category
    base_rate   the share of harmful texts where the filter will work, between 0.0001 and 0.5

    The curve (false alarms across, hits upwards) does not depend on how many texts are harmful; precision
    does: at a base rate r it is r·hits / (r·hits + (1 − r)·false alarms). Source: Fawcett 2006,
    doi 10.1016/j.patrec.2005.10.010. Raises InputError for other shapes, numbers that are not finite, labels
    of one kind only, and thresholds or base rates that do not fit.
    """
    cases = [_case(name, scores, labels, thresholds) for name in _names(scores, labels)]
    if not _LEAST_RATE <= base_rate <= _MOST_RATE:
        raise InputError(f"base_rate is {base_rate!r}; this view takes {_LEAST_RATE} to {_MOST_RATE}.")
    areas = ", ".join(f"{words(case.name)} {case.area():.2f}" for case in cases)
    data = {
        "cases": [
            {
                "name": words(case.name),
                "scores": pack(case.scores),
                "truth": pack(case.truth, "uint8"),
                "threshold": case.threshold,
            }
            for case in cases
        ],
        "rate": base_rate,
        "rates": [_LEAST_RATE, _MOST_RATE],
    }
    return View(
        "\n".join(_digest(cases, base_rate)),
        f"ROC curves with the area below each: {areas}.",
        lambda: _draw(cases, base_rate),
        live=Live("roc_explorer", data),
    )


def _names(scores: object, labels: object) -> list[str]:
    """The categories, which scores and labels must share."""
    if not isinstance(scores, Mapping) or not isinstance(labels, Mapping) or scores.keys() != labels.keys():
        raise InputError("roc_explorer() takes scores and labels by category, with the same categories.")
    if not 1 <= len(scores) <= MOST_CURVES:
        raise InputError(f"roc_explorer() shows 1 to {MOST_CURVES} categories; these are {len(scores)}.")
    return list(scores)


def _case(
    name: str,
    scores: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    thresholds: Mapping[str, float] | float,
) -> _Case:
    usage = f"roc_explorer() takes scores and labels of {name!r}, each (texts)"
    found = finite(scores[name], 1, usage).float().double()  # as the live face has them
    truth = shaped(labels[name], usage, 1).detach().to("cpu")
    if len(found) != len(truth) or len(found) > MOST_TEXTS:
        raise InputError(
            f"{usage}, as many of both, at most {MOST_TEXTS}; they are {len(found)}, {len(truth)}."
        )
    if not ((truth == 0) | (truth == 1)).all() or truth.min() == truth.max():
        raise InputError(f"The labels of {name!r} must be 0 and 1, and both must occur.")
    threshold = thresholds.get(name) if isinstance(thresholds, Mapping) else thresholds
    if not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise InputError(f"The threshold of {name!r} is {threshold!r}; it must be a number.")
    return _Case(name, found, truth.bool(), float(threshold))


def _precision(hits: float, alarms: float, rate: float) -> float:
    """Of what is flagged, the share that is harmful; 1 if nothing is flagged."""
    right, wrong = rate * hits, (1 - rate) * alarms
    return right / (right + wrong) if right + wrong else 1.0


def _digest(cases: list[_Case], rate: float) -> list[str]:
    here = f"at {100 * rate:g}%"
    lines = [
        f"{'':14} texts harmful   AUC threshold   hits false alarms precision {here:>8}",
    ]
    for case in cases:
        hits, alarms = case.rates()
        harmful = int(case.truth.sum())
        own = _precision(hits, alarms, harmful / len(case.truth))
        lines.append(
            f"{words(case.name)[:14]:14} {len(case.truth):5} {harmful:7}  {case.area():.2f} "
            f"{case.threshold:9.2f} {hits:6.1%} {alarms:12.1%} {own:9.1%} "
            f"{_precision(hits, alarms, rate):8.1%}"
        )
    return lines


def _draw(cases: list[_Case], rate: float) -> "Figure":
    figure = style.new_figure(8.6, 3.7)
    curves, shares = figure.subplots(1, 2)
    rates = torch.logspace(math.log10(_LEAST_RATE), math.log10(_MOST_RATE), 60).tolist()
    for number, case in enumerate(cases):
        mark, colour = style.MARKS[number % len(style.MARKS)]
        line = "-" if number < len(style.MARKS) else "--"
        hits, alarms = case.rates()
        alarms_along, hits_along = case.curve()
        label = f"{drawn_words(case.name, 16)}, {case.area():.2f}"
        curves.plot(alarms_along, hits_along, line, color=colour, linewidth=1.4)
        curves.plot([alarms], [hits], mark, color=colour, markersize=7, label=label)
        shares.plot(rates, [_precision(hits, alarms, one) for one in rates], line, color=colour)
        shares.plot([rate], [_precision(hits, alarms, rate)], mark, color=colour, markersize=7)
    curves.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.8, linestyle=":")
    curves.set(xlabel="false alarms: harmless texts flagged", ylabel="hits: harmful texts flagged")
    curves.legend(title="area below", fontsize=8.5, loc="lower right")
    shares.axvline(rate, color=style.GREY, linewidth=0.8, linestyle=":")
    shares.set(xscale="log", ylim=(0, 1.04), xlabel="base rate: share of harmful texts", ylabel="precision")
    return figure
