"""The search for LongRoPE's factors: how the candidates get better, and what the best one looks like."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import drawn_words, finite, spread, words
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CANDIDATES, MOST_GENERATIONS, MOST_BASELINES, MOST_PAIRS = 20_000, 1000, 5, 1024
_LINES, _SHOWN_PAIRS = 8, 8  # generations and pairs in the digest
_DASHES = ("--", "-.", ":", (0, (5, 1)), (0, (1, 3)))


def longrope_search(
    generations: Sequence[Sequence[float]],
    baselines: Mapping[str, float],
    factors: Mapping[str, Sequence[float]],
) -> View:
    """The perplexity of all candidates by generation, and the factors of the best one beside the baselines.

    generations  the perplexities of the new candidates of each; a generation may be empty, the first not
    baselines    name → perplexity of a method that the search has to beat, up to 5
    factors      name → what divides the frequency of each pair, rising or not: the found ones and the
                 baselines', up to 6, all of one length

    The scale of perplexities shows the better half; candidates above it stand at its upper edge. The live
    face walks through the generations. Source: LongRoPE (arXiv 2402.13753), fig. 2. Raises InputError for
    lists that are empty or too long, and for numbers that are not finite and above 0.
    """
    found = [_numbers(f"generation {number}", values) for number, values in enumerate(generations)]
    total = sum(map(len, found))
    if not found or not len(found[0]) or len(found) > MOST_GENERATIONS or total > MOST_CANDIDATES:
        raise InputError(
            f"{total} candidates in {len(found)} generations: give 1 to {MOST_GENERATIONS} generations, the "
            f"first not empty, and up to {MOST_CANDIDATES} candidates."
        )
    lines = {name: float(_numbers(f"baseline {name!r}", [value])) for name, value in baselines.items()}
    rows = {name: _numbers(f"factors of {name!r}", values) for name, values in factors.items()}
    counts = {len(row) for row in rows.values()}
    if len(lines) > MOST_BASELINES or not 0 < len(rows) <= MOST_BASELINES + 1:
        raise InputError(f"{len(lines)} baselines, {len(rows)} lists of factors: up to 5, and 1 to 6.")
    if len(counts) > 1 or not 0 < min(counts) <= MOST_PAIRS:
        raise InputError(f"The lists of factors have {sorted(counts)} entries; give one per pair in each.")
    best = torch.stack([_least(values) for values in found]).cummin(0).values
    text = "\n".join(_digest(found, best, lines, rows))
    alt = (
        f"{total} candidates in {len(found)} generations, the best at {_short(best[-1])}, and the factors "
        f"of {', '.join(map(words, rows))} by pair."
    )
    live = Live("longrope_search", _data(found, lines, rows))
    return View(text, alt, lambda: _draw(found, best, lines, rows), live=live)


def _numbers(name: str, values: object) -> Tensor:
    try:
        numbers = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is not a list of numbers: {error}") from error
    if numbers.dim() == 1 and not len(numbers):
        return numbers
    numbers = finite(numbers, 1, f"{name} is a list of numbers")
    if numbers.min() <= 0:
        raise InputError(f"{name} has {numbers.min():g}; all numbers must be above 0.")
    return numbers


def _least(values: Tensor) -> Tensor:
    return values.min() if len(values) else torch.tensor(torch.inf, dtype=torch.float64)


def _short(value: Tensor | float) -> str:
    return fixed(float(value))


def _digest(
    found: list[Tensor], best: Tensor, baselines: dict[str, float], factors: dict[str, Tensor]
) -> list[str]:
    lines = [f"longrope search, {sum(map(len, found))} candidates in {len(found)} generations"]
    lines += [f"{words(name)[:20]:<20} {_short(value):>10}" for name, value in baselines.items()]
    lines.append(f"{'generation':<10} {'new':>9} {'their best':>10} {'median':>10} {'best so far':>12}")
    for number in spread(len(found), _LINES):
        values = found[number]
        ends = (_short(values.min()), _short(values.median())) if len(values) else ("–", "–")
        lines.append(f"{number:<10} {len(values):>9} {ends[0]:>10} {ends[1]:>10} {_short(best[number]):>12}")
    pairs = spread(len(next(iter(factors.values()))), _SHOWN_PAIRS)
    lines.append(f"{'factors of pair':<20}" + "".join(f"{pair:>8}" for pair in pairs))
    for name, row in factors.items():
        lines.append(f"{words(name)[:20]:<20}" + "".join(f"{row[pair]:>8.2f}" for pair in pairs))
    return lines


def _scale(found: list[Tensor], baselines: dict[str, float]) -> tuple[float, float]:
    """The range of perplexities to draw: the better half of candidates and of baselines, and some more."""
    everyone, given = torch.cat(found), torch.tensor(list(baselines.values()), dtype=torch.float64)
    low = float(torch.cat((everyone, given)).min())
    half = [float(values.median()) for values in (everyone, given) if len(values)]
    room = max(*half, 1.001 * low) - low
    return low - 0.1 * room, low + 1.3 * room


def _marks(baselines: Mapping[str, float], factors: Mapping[str, Tensor]) -> dict[str, int]:
    """Which of `style.MARKS` a name has: its baseline's, or one that is free; from the seventh on, hollow."""
    marks = {name: number for number, name in enumerate(baselines)}
    last = len(style.MARKS) - 1  # black, for what was found
    free = iter([last, *range(len(marks), last), *range(last + 1, last + 1 + len(factors))])
    return marks | {name: next(free) for name in factors if name not in marks}


def _look(mark: int) -> dict[str, Any]:
    """For matplotlib."""
    marker, colour = style.MARKS[mark % len(style.MARKS)]
    inside = colour if mark < len(style.MARKS) else "white"
    return {"marker": marker, "color": colour, "mfc": inside}


def _data(found: list[Tensor], baselines: dict[str, float], factors: dict[str, Tensor]) -> dict[str, Any]:
    marks = _marks(baselines, factors)
    return {
        "counts": [len(values) for values in found],
        "perplexities": pack(torch.cat(found)),
        "scale": _scale(found, baselines),
        "baselines": [{"label": name, "value": value} for name, value in baselines.items()],
        "factors": [
            {"label": name, "mark": marks[name], "row": row.tolist()} for name, row in factors.items()
        ],
    }


def _draw(
    found: list[Tensor], best: Tensor, baselines: dict[str, float], factors: dict[str, Tensor]
) -> "Figure":
    figure = style.new_figure(8.6, 3.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    low, high = _scale(found, baselines)
    for number, values in enumerate(found):
        # Within a generation the candidates stand side by side in the order in which they were tried.
        places = number + 0.6 * ((torch.arange(len(values)) + 0.5) / max(len(values), 1) - 0.5)
        inside = values.clamp(max=high)
        left.plot(places.numpy(), inside.numpy(), "o", color=style.GREY, alpha=0.5, markersize=3, mew=0)
    left.plot(best.numpy(), color=style.INK, linewidth=1.6, label="best so far")
    marks = _marks(baselines, factors)
    for (name, value), dashes in zip(baselines.items(), _DASHES, strict=False):
        label = f"{drawn_words(name, 16)} {_short(value)}" + (", above" if value > high else "")
        left.axhline(value, color=_look(marks[name])["color"], linestyle=dashes, linewidth=1.6, label=label)
    left.set(xlabel="generation", ylabel="perplexity", ylim=(low, high))
    left.set_title("each dot is a candidate", size=10)
    left.locator_params(axis="x", integer=True)
    left.legend(fontsize=8, loc="upper right", framealpha=0.9, frameon=True)

    for name, row in factors.items():
        look = {"markersize": 3, "linewidth": 1.2, "label": drawn_words(name, 16), **_look(marks[name])}
        right.plot(row.numpy(), **look)
    right.set(xlabel="pair, fast to slow", ylabel="factor λ that slows it down")
    right.set_title("how much each pair is slowed down", size=10)
    right.locator_params(axis="x", integer=True)
    right.legend(fontsize=8)
    return figure
