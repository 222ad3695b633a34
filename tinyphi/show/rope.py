"""Rotary positions: the pairs of a head as clocks, and why only the distance of two tokens counts."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import digits, speeds_of_pairs, spread, two_decimals
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = 8  # pairs in the digest
_DISTANCES = (1, 4, 16, 64, 256)


def rope_pairs(speeds: Tensor, longer: Tensor | None = None) -> View:
    """The pairs of a head, each a clock whose hand turns by its speed at every token: speeds (r), in radians.

    A query turned to position p and a key turned to q meet in pair i at the angle (p − q) · speed i. Where
    both point the same way before they are turned, the pair adds the cosine of that angle to their product.
    The view shows these cosines and their sum: they stay when both tokens move together, and change with the
    distance of the two.

    longer (r) are other speeds to compare, such as LongRoPE's beyond the original context. Raises InputError
    for speeds that are not finite and above zero.
    """
    usage = "rope_pairs() takes speeds (r), one angle per token for each pair, in radians"
    first = speeds_of_pairs(speeds, usage)
    second = None if longer is None else speeds_of_pairs(longer, usage)
    if second is not None and second.shape != first.shape:
        raise InputError(f"{len(first)} speeds, but {len(second)} longer ones: give one per pair.")
    head = f"rope, {len(first)} pairs"
    turns = f"{_wave(first[0])} to {_wave(first[-1])} tokens for one turn"
    alt = f"{head}, {turns}; what each adds to a product at each distance, and their mean."
    data = {"speeds": pack(first), "longer": None if second is None else pack(second)}
    return View(_digest(head, first, second), alt, lambda: _draw(first, second), live=Live("rope", data))


def _wave(speed: Tensor) -> str:
    return digits(2 * math.pi / speed.item())


def _digest(head: str, speeds: Tensor, longer: Tensor | None) -> str:
    more = "" if longer is None else "  longer: rad/token  tokens/turn"
    lines = [head, f"{'pair':>4}  rad/token  tokens/turn{more}  cosine at distance" + _row(_DISTANCES)]
    count = len(speeds)
    for pair in spread(count, _LINES):
        speed = speeds[pair]
        also = "" if longer is None else f"  {digits(longer[pair].item()):>17}  {_wave(longer[pair]):>11}"
        cosines = [two_decimals(torch.cos(speed * distance)) for distance in _DISTANCES]
        lines.append(
            f"{pair:>4}  {digits(speed.item()):>9}  {_wave(speed):>11}{also}{' ' * 20}{_row(cosines)}"
        )
    for name, values in (("", speeds), (", longer", longer)):
        if values is not None:
            means = [two_decimals(torch.cos(values * distance).mean()) for distance in _DISTANCES]
            lines.append(
                f"{f'mean of all pairs{name}':<{26 if longer is None else 58}}{' ' * 20}{_row(means)}"
            )
    return "\n".join(lines)


def _row(cells: tuple[int, ...] | list[str]) -> str:
    return "".join(f"{cell:>7}" for cell in cells)


def _draw(speeds: Tensor, longer: Tensor | None) -> "Figure":
    figure = style.new_figure(7.6, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.05])
    shown = torch.cos(speeds[:, None] * torch.arange(65)).numpy()
    image = left.imshow(shown, cmap=style.DIVERGING, vmin=-1, vmax=1, aspect="auto")
    left.set(xlabel="distance of query and key (tokens)", ylabel="pair, fast to slow")
    left.set_title("what each pair adds", size=10)
    left.locator_params(integer=True)
    figure.colorbar(image, ax=left, label="cosine", ticks=[-1, 0, 1])

    distances = _distances(speeds if longer is None else torch.cat((speeds, longer)))
    for values, colour, name in ((speeds, style.BLUE, "these speeds"), (longer, style.ORANGE, "longer")):
        if values is not None:
            means = torch.cos(values[:, None] * distances).mean(dim=0)
            right.semilogx(distances.numpy(), means.numpy(), color=colour, linewidth=1.3, label=name)
    right.axhline(0, color=style.GREY, linewidth=0.8)
    right.set(xlabel="distance (tokens, log scale)", ylim=(-0.45, 1.05))
    right.set_title("mean of all pairs", size=10)
    if longer is not None:
        right.legend(fontsize=8.5)
    return figure


def _distances(speeds: Tensor) -> Tensor:
    """Whole distances, ever further apart, up to where the slowest pair is about to point away."""
    furthest = min(max(math.pi / speeds.min().item(), 64.0), 1e6)
    spread = torch.logspace(0, math.log10(furthest), 240, dtype=torch.float64).round()
    return spread[torch.cat((torch.tensor([True]), spread[1:] > spread[:-1]))]
