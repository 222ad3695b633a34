"""A cache across LongRoPE's boundary: keys turned by the old speeds, a query turned by the new ones."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import speeds_of_pairs, spread, two_decimals
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS = 131_072
_COLUMNS, _CELLS = 64, 8  # bins of key positions in the figure; rows and columns of the digest


def stale_cache(before: Tensor, after: Tensor, tokens: int) -> View:
    """What stale keys do to a query: it stands at position `tokens` and is turned by `after`, the keys of the
    `tokens` positions before it by `before`; both are speeds (r) in radians.

    Where query and key point the same way before they are turned, pair i adds cos((p − q) · after) to their
    product if all is right, and cos(p · after − q · before) if the key is stale. The map shows how far the
    two are apart, from 0 to 2, on average over some neighbouring positions; the curves are the mean of all
    pairs. In the live face the query may move on, with right keys between it and the stale ones.
    Source: this project, from the rule in arXiv 2402.13753, sec. 3.3. Raises InputError for speeds that are
    not finite and above zero, and for less than 8 tokens.
    """
    usage = "stale_cache() takes speeds (r), radians per token, before and after"
    old, new = speeds_of_pairs(before, usage), speeds_of_pairs(after, usage)
    if len(old) != len(new):
        raise InputError(f"{len(old)} speeds before, but {len(new)} after: give one per pair.")
    if not isinstance(tokens, int) or not _CELLS <= tokens <= MOST_TOKENS:
        raise InputError(f"tokens is {tokens!r}; give a whole number from {_CELLS} to {MOST_TOKENS}.")
    right, stale = _cosines(old, new, tokens)
    error = (right - stale).abs()
    text = "\n".join(_digest(error, right.mean(0), stale.mean(0)))
    alt = (
        f"Error of the cosine of {len(old)} pairs at {tokens} stale keys, {two_decimals(error.mean())} on "
        "average, and the mean cosine by distance, right and stale."
    )
    live = Live("stale_cache", {"before": pack(old), "after": pack(new), "tokens": tokens})
    return View(text, alt, lambda: _draw(error, right.mean(0), stale.mean(0)), live=live)


def _cosines(old: Tensor, new: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """(r s) each: what the pairs add with right keys and with stale ones."""
    keys = torch.arange(tokens, dtype=torch.float64)
    return torch.cos((tokens - keys) * new[:, None]), torch.cos(tokens * new[:, None] - keys * old[:, None])


def _binned(values: Tensor, columns: int) -> Tensor:
    """The mean over bins of positions: (r s) → (r columns)."""
    return torch.nn.functional.adaptive_avg_pool1d(values, min(columns, values.shape[1]))


def _digest(error: Tensor, right: Tensor, stale: Tensor) -> list[str]:
    count, tokens = error.shape
    cells = _binned(error, _CELLS)
    lines = [f"stale cache, {count} pairs, {tokens} keys: error of the cosine, {two_decimals(error.mean())}"]
    starts = [column * tokens // _CELLS for column in range(_CELLS)]
    lines.append("pair  keys from" + "".join(f"{start:>7}" for start in starts))
    for pair in spread(count, _CELLS):
        lines.append(f"{pair:>4}{' ' * 11}" + "".join(f"{two_decimals(x):>7}" for x in cells[pair]))
    distances = [2**power for power in range(0, int(math.log2(tokens)) + 1, 2)]
    lines.append("distance       " + "".join(f"{distance:>7}" for distance in distances))
    for name, mean in (("right", right), ("stale", stale)):
        lines.append(f"{name:<15}" + "".join(f"{two_decimals(mean[-d]):>7}" for d in distances))
    return lines


def _draw(error: Tensor, right: Tensor, stale: Tensor) -> "Figure":
    figure = style.new_figure(8.8, 3.5)
    left, curves = figure.subplots(1, 2)
    count, tokens = error.shape
    image = left.imshow(
        _binned(error, _COLUMNS).numpy(),
        cmap=style.SEQUENTIAL,
        vmin=-0.4,  # no error is a tint, not white
        vmax=2,
        aspect="auto",
        extent=(0, tokens, count - 0.5, -0.5),
    )
    left.set(xlabel="position of the key", ylabel="pair, fast to slow")
    left.set_title("error of what each pair adds", size=10)
    figure.colorbar(image, ax=left, ticks=[0, 1, 2]).ax.set_ylim(0, 2)
    rounded = torch.logspace(0, math.log10(tokens), 200, dtype=torch.float64).round().long().tolist()
    spread = torch.tensor(sorted(set(rounded)))
    for name, mean, colour in (("right keys", right, style.BLUE), ("stale keys", stale, style.ORANGE)):
        curves.semilogx(
            spread.numpy(), mean[tokens - spread].numpy(), color=colour, label=name, linewidth=1.3
        )
    curves.axhline(0, color=style.GREY, linewidth=0.8)
    curves.set(xlabel="distance (tokens, log scale)", ylim=(-0.45, 1.05))
    curves.set_title("mean of all pairs", size=10)
    curves.legend(fontsize=8.5)
    return figure
