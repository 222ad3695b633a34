"""Perplexity by position: where in a text a model still gains from what it read, and where it gets lost."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES, MOST_BANDS = 8, 32
_STEEP = 30.0  # largest ÷ smallest perplexity from which the axis is logarithmic


class Band(Protocol):
    """The positions start … end − 1, as `tinyphi.longcontext.perplexity` returns them."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def perplexity(self) -> float: ...


def perplexity(lines: Mapping[str, Sequence[Band]], trained: int | None = None) -> View:
    """Perplexity in bands of positions, a line for each model or method, one level for each band.

    lines    label → bands of `tinyphi.longcontext.perplexity.perplexity_by_position`; at most 8 lines, and 32
             different bands in them
    trained  the longest text the model was trained on, in tokens: a line marks it

    Where the worst perplexity is more than 30 times the best, the axis is logarithmic. A band without tokens
    is left out. The live face compares the lines in the band under the pointer. Raises InputError for no line
    or too many, and for bands that do not follow each other.
    """
    given = {label: _checked(label, bands) for label, bands in lines.items()}
    different = {(band.start, band.end) for bands in given.values() for band in bands}
    if not 0 < len(given) <= MOST_LINES or len(different) > MOST_BANDS:
        raise InputError(
            f"perplexity() draws 1 to {MOST_LINES} lines of {MOST_BANDS} different bands; these are "
            f"{len(given)} of {len(different)}."
        )
    text = "\n".join(_digest(given, trained))
    ends = "; ".join(
        f"{label} from {_short(bands[0].perplexity)} to {_short(bands[-1].perplexity)}"
        for label, bands in given.items()
    )
    alt = f"Perplexity by position, up to {max(b[-1].end for b in given.values())} tokens: {ends}."
    data = {
        "lines": [
            {"label": label, "bands": [[b.start, b.end, b.tokens, _number(b.perplexity)] for b in bands]}
            for label, bands in given.items()
        ],
        "trained": trained,
        "log": _is_steep(given),
    }
    return View(text, alt, lambda: _draw(given, trained), live=Live("perplexity", data))


def _checked(label: str, bands: Sequence[Band]) -> list[Band]:
    bands = list(bands)
    good = bands and all(
        hasattr(b, "perplexity") and 0 <= b.start < b.end and not b.perplexity < 0 for b in bands
    )
    if not good or any(one.end != other.start for one, other in pairwise(bands)):
        raise InputError(
            f"the line {label!r} is not a list of bands that follow each other; "
            "tinyphi.longcontext.perplexity.perplexity_by_position returns such lists."
        )
    return bands


def _number(value: float) -> float | None:
    """For JSON, which knows neither infinity nor NaN."""
    return value if math.isfinite(value) else None


def _short(value: float) -> str:
    """Three digits; "–" for none."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else fixed(value, 10 * abs(value))


def _is_steep(given: Mapping[str, Sequence[Band]]) -> bool:
    known = [b.perplexity for bands in given.values() for b in bands if math.isfinite(b.perplexity)]
    return bool(known) and max(known) > _STEEP * min(known)


def _digest(given: Mapping[str, Sequence[Band]], trained: int | None) -> list[str]:
    edges = sorted({(b.start, b.end) for bands in given.values() for b in bands})
    names = [words(label)[:20] for label in given]
    note = "" if trained is None else f"; trained on {trained} tokens"
    lines = [f"perplexity by position, {len(given)} lines, {len(edges)} bands{note}"]
    lines.append(f"{'positions':>15}" + "".join(f" {name:>20}" for name in names))
    for start, end in edges:
        found = [[b for b in bands if (b.start, b.end) == (start, end)] for bands in given.values()]
        cells = "".join(f" {_short(here[0].perplexity) if here else '–':>20}" for here in found)
        lines.append(f"{f'{start}–{end - 1}':>15}{cells}")
    return lines


def _draw(given: Mapping[str, Sequence[Band]], trained: int | None) -> "Figure":
    figure = style.new_figure(8.0, 3.8)
    axes: Any = figure.subplots()
    edges = sorted({edge for bands in given.values() for b in bands for edge in (b.start, b.end)})
    for edge in edges:
        axes.axvline(edge, color=style.PALE, linewidth=0.6, zorder=0)
    for number, (label, bands) in enumerate(given.items()):
        marker, colour = style.MARKS[number % len(style.MARKS)]
        inside = colour if number < len(style.MARKS) else "white"
        known = [b for b in bands if math.isfinite(b.perplexity)]
        middles, values = [(b.start + b.end) / 2 for b in known], [b.perplexity for b in known]
        axes.hlines(values, [b.start for b in known], [b.end for b in known], color=colour, linewidth=2.2)
        look: Any = {"color": colour, "mfc": inside, "mec": colour, "linewidth": 0.8, "markersize": 6}
        axes.plot(middles, values, marker=marker, linestyle=(0, (3, 2)), label=drawn_words(label, 28), **look)
    if _is_steep(given):
        axes.set_yscale("log", subs=(2, 5))
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}")
    if trained is not None and trained <= edges[-1]:
        axes.axvline(
            trained, color=style.INK, linewidth=1.4, linestyle=(0, (5, 2)), label=f"trained: {trained}"
        )
    axes.set(xlim=(edges[0], edges[-1]), xlabel="position in the text, in tokens", ylabel="perplexity")
    axes.xaxis.set_major_formatter(lambda place, _: f"{place:,.0f}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8.5)
    return figure
