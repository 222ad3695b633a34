"""Documents that a filter kept or dropped: read them, ask why, and move the threshold."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import drawn_words, finite, spread, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST, LONGEST = 400, 2000  # documents, and letters of each in the live face
_LISTED, _LETTERS = 4, 70  # documents of each kind in the digest, letters of one there
_REASONS, _NAME = 8, 24  # reasons that are counted by name, letters of a name
_BINS = 20

Spans = Sequence[tuple[int, int]]


def document_browser(
    texts: Sequence[str],
    scores: Sequence[float],
    threshold: float = 0.5,
    reasons: Sequence[str] | None = None,
    good: Sequence[bool] | None = None,
    marks: Sequence[Spans] | None = None,
) -> View:
    """Documents with the score and the reasons by which a filter keeps or drops them.

    texts      at most 400; the live face shows 2000 letters of each
    scores     of each document, from 0 to 1; those below the threshold are dropped
    reasons    of each document the rule that drops it whatever its score, "" if none does
    good       of each document whether it should be kept, if that is known; gives precision and recall
    marks      of each document the letters to mark, (begin, end) pairs such as the runs that matched a rule

    In the live face a slider moves the threshold, and every document is judged again. Raises InputError for
    no document, too many, another number of entries, scores outside and marks outside of their text.
    """
    found = _checked(texts, scores, reasons, good, marks)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold!r}; scores, and so it, go from 0 to 1.")
    why = list(reasons) if reasons is not None else [""] * len(texts)
    kept = [not reason and score >= threshold for reason, score in zip(why, found, strict=True)]
    labels = list(map(bool, good)) if good is not None else None
    ranks = sorted(range(len(texts)), key=lambda place: -found[place])
    data = {
        "texts": [text[:LONGEST] for text in texts],
        "whole": [len(text) for text in texts],
        "scores": found,
        "reasons": why,
        "good": labels,
        "marks": [_shown(spans) for spans in marks] if marks is not None else None,
        "threshold": threshold,
    }
    alt = f"{len(texts)} documents, of which {sum(kept)} are kept at a threshold of {threshold:g}"
    alt += f": {_quality(kept, labels)}." if labels else "."
    lines = _digest(texts, found, why, kept, labels, ranks, threshold)
    return View(
        "\n".join(lines),
        alt,
        lambda: _draw(found, why, labels, threshold),
        live=Live("document_browser", data),
    )


def _checked(
    texts: Sequence[str],
    scores: Sequence[float],
    reasons: Sequence[str] | None,
    good: Sequence[bool] | None,
    marks: Sequence[Spans] | None,
) -> list[float]:
    """The scores as numbers, if everything fits together."""
    if isinstance(texts, str) or not 0 < len(texts) <= MOST:
        raise InputError(
            f"document_browser() takes 1 to {MOST} texts; these are {len(texts)}. Choose some of them."
        )
    for name, given in (("scores", scores), ("reasons", reasons), ("good", good), ("marks", marks)):
        if given is not None and len(given) != len(texts):
            raise InputError(f"{name} has {len(given)} entries for {len(texts)} texts: one for each.")
    found: list[float] = finite(
        torch.as_tensor(scores, dtype=torch.float64), 1, "document_browser() takes one score for each text"
    ).tolist()
    if min(found) < 0 or max(found) > 1:
        raise InputError(f"Scores go from 0 to 1; these go from {min(found):g} to {max(found):g}.")
    for place, spans in enumerate(marks or ()):
        for begin, end in spans:
            if not 0 <= begin < end <= len(texts[place]):
                raise InputError(
                    f"marks of text {place}: ({begin}, {end}) is no stretch of its "
                    f"{len(texts[place])} letters."
                )
    return found


def _shown(spans: Spans) -> list[list[int]]:
    """Marked stretches in order, joined where they overlap, as far as their text is shown."""
    joined: list[list[int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return [[begin, min(end, LONGEST)] for begin, end in joined if begin < LONGEST]


def _quality(kept: Sequence[bool], good: Sequence[bool]) -> str:
    """Precision and recall as percentages; a share of nothing is –."""
    both = sum(one and other for one, other in zip(kept, good, strict=True))
    shares = [f"{both / whole:.0%}" if whole else "–" for whole in (sum(kept), sum(good))]
    return f"precision {shares[0]}, recall {shares[1]}"


def _why(reason: str, is_kept: bool) -> str:
    return reason or ("kept" if is_kept else "score")


def _digest(
    texts: Sequence[str],
    scores: Sequence[float],
    reasons: Sequence[str],
    kept: Sequence[bool],
    good: Sequence[bool] | None,
    ranks: Sequence[int],
    threshold: float,
) -> list[str]:
    lines = [f"{len(texts)} documents, threshold {threshold:.2f}: {sum(kept)} kept"]
    dropped = Counter(_why(reason, False) for reason, one in zip(reasons, kept, strict=True) if not one)
    for reason, count in dropped.most_common(_REASONS):
        lines.append(f"  dropped by {words(reason)[:_NAME]:{_NAME}} {count:5}")
    if good is not None:
        for limit in sorted({0.25, 0.5, 0.75, 0.9, threshold}):
            at = [not reason and score >= limit for reason, score in zip(reasons, scores, strict=True)]
            lines.append(f"  at {limit:.2f}: {sum(at):4} kept, {_quality(at, good)}")
    for wanted, name in ((True, "kept"), (False, "dropped")):
        places = [place for place in ranks if kept[place] == wanted]
        for place in [places[i] for i in spread(len(places), _LISTED)] if len(places) > _LISTED else places:
            sign = "" if good is None else " ✓" if good[place] == wanted else " ✗"
            why = "" if wanted else f" by {words(_why(reasons[place], False))[:_NAME]}"
            line = words(texts[place][: 4 * _LETTERS])[:_LETTERS]
            lines.append(f"{name}{sign} {scores[place]:.2f}{why}: {line}")
    return lines


def _draw(
    scores: Sequence[float], reasons: Sequence[str], good: Sequence[bool] | None, threshold: float
) -> "Figure":
    named = Counter(reason for reason in reasons if reason).most_common(_REASONS)
    figure = style.new_figure(8.4 if named else 6.0, 3.0)
    every: Any = figure.subplots(1, 2 if named else 1, squeeze=False)
    axes = every[0, 0]
    groups = (("good", style.BLUE, True), ("not good", style.ORANGE, False))
    parts = (
        [
            ([score for score, label in zip(scores, good, strict=True) if label == wanted], colour, name)
            for name, colour, wanted in groups
        ]
        if good is not None
        else [(list(scores), style.BLUE, "documents")]
    )
    edges = [place / _BINS for place in range(_BINS + 1)]
    axes.hist(
        [values for values, _, _ in parts], edges, color=[colour for _, colour, _ in parts],
        label=[f"{name} ({len(values)})" for values, _, name in parts], stacked=True,
    )  # fmt: skip
    axes.axvline(threshold, color=style.INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:g}")
    axes.set(xlabel="score", ylabel="documents", xlim=(0, 1))
    axes.legend(fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.2)
    if named:
        names = [drawn_words(reason, _NAME) for reason, _ in named]
        bars = every[0, 1].barh(range(len(named)), [count for _, count in named], color=style.GREY)
        every[0, 1].bar_label(bars, padding=3, fontsize=8.5)
        every[0, 1].set_yticks(range(len(named)), names)
        every[0, 1].set_ylim(max(4, len(named)) - 0.5, -0.5)
        every[0, 1].set(xlabel="documents dropped, whatever their score")
        every[0, 1].xaxis.get_major_locator().set_params(integer=True)
    return figure
