"""What it takes to read a prompt: seconds and memory by its length, for several programs side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import digits, drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SIDES, MOST_LENGTHS = 6, 32
Cost = tuple[int, float, float]  # tokens of the prompt, seconds, and megabytes at most


def reading_costs(sides: Mapping[str, Sequence[Cost]]) -> View:
    """Time and memory by the length of a prompt, both axes logarithmic: a straight line is a power.

    sides: label → (tokens, seconds, MB) of each prompt, such as `tinyphi bench long` measures; at most 6
        sides and 32 lengths.

    The live face compares the sides at the length under the pointer, each with itself at half of it: twice
    the time is a linear cost, four times a quadratic one. Raises InputError for no side or too many, for
    lengths that do not grow, and for numbers that are not above zero.
    """
    given = {label: _checked(label, costs) for label, costs in sides.items()}
    lengths = sorted({tokens for costs in given.values() for tokens, _, _ in costs})
    if not 0 < len(given) <= MOST_SIDES or len(lengths) > MOST_LENGTHS:
        raise InputError(
            f"reading_costs() draws 1 to {MOST_SIDES} sides with {MOST_LENGTHS} lengths at most; these are "
            f"{len(given)} with {len(lengths)}."
        )
    ends = "; ".join(
        f"{words(label)} {digits(costs[-1][1])} s and {digits(costs[-1][2])} MB for {costs[-1][0]} tokens"
        for label, costs in given.items()
    )
    data = {
        "sides": [{"label": label, "costs": [list(cost) for cost in costs]} for label, costs in given.items()]
    }
    text = "\n".join(_digest(given, lengths))
    alt = f"Seconds and memory to read a prompt, by its length: {ends}."
    return View(text, alt, lambda: _draw(given), live=Live("reading_costs", data))


def _checked(label: str, costs: Sequence[Cost]) -> list[Cost]:
    usage = f"reading_costs() takes for {label!r} a list of (tokens, seconds, MB), lengths growing"
    found = list(costs)
    if not found or any(len(cost) != 3 or not all(0 < x < math.inf for x in cost) for cost in found):
        raise InputError(f"{usage}, all above zero.")
    if sorted({tokens for tokens, _, _ in found}) != [tokens for tokens, _, _ in found]:
        raise InputError(f"{usage}.")
    return found


def _digest(given: Mapping[str, Sequence[Cost]], lengths: Sequence[int]) -> list[str]:
    lines = [f"reading prompts, {len(given)} sides, seconds and MB at most"]
    lines.append(f"{'tokens':>8}" + "".join(f" {words(label)[:24]:>25}" for label in given))
    for length in lengths:
        cells = []
        for costs in given.values():
            here = [cost for cost in costs if cost[0] == length]
            cells.append(f"{digits(here[0][1])} s {digits(here[0][2]):>6} MB" if here else "–")
        lines.append(f"{length:>8}" + "".join(f" {cell:>25}" for cell in cells))
    return lines


def _draw(given: Mapping[str, Sequence[Cost]]) -> "Figure":
    figure = style.new_figure(9.2, 3.6)
    panels: Any = figure.subplots(1, 2)
    for (label, costs), (marker, colour) in zip(given.items(), style.MARKS, strict=False):
        tokens = [cost[0] for cost in costs]
        for place, axes in enumerate(panels, 1):
            look = {"marker": marker, "color": colour, "markersize": 6, "linewidth": 1.4}
            axes.loglog(tokens, [cost[place] for cost in costs], label=drawn_words(label, 28), **look)
    for axes, title in zip(panels, ("seconds", "MB at most, beyond the loaded model"), strict=True):
        axes.set(xlabel="tokens of the prompt")
        axes.set_title(title, size=10)
        axes.grid(which="major", color=style.PALE, linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ticks = sorted({cost[0] for costs in given.values() for cost in costs})
        axes.set_xticks(ticks, minor=False)
        axes.tick_params(axis="x", rotation=60 if len(ticks) > 5 else 0)
        axes.minorticks_off()
    panels[0].legend(fontsize=8.5)
    return figure
