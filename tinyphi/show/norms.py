"""What a norm does to each token's vector: the length goes, the profile of the channels stays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import column, digits, finite, labels_for
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS = 64
MOST_CHANNELS = 8192
_VALUES = 150_000  # of each of the two tensors, at most, in the live face


def norms(before: Tensor, after: Tensor, labels: Sequence[str] | None = None) -> View:
    """The vectors of a text before and after a norm, (t d) each: their lengths, and one token's channels.

    Lengths are root mean squares, a length that does not grow with the number of channels; RMSNorm divides
    each vector by its own. The first 64 tokens and 8192 channels are shown, fewer tokens where channels are
    many. Raises InputError when shapes differ.
    """
    usage = "norms() takes one row's vectors (t d), such as trace['layers.0.output'][0]"
    old, new = finite(before, 2, usage), finite(after, 2, usage)
    if old.shape != new.shape:
        raise InputError(f"before is {tuple(old.shape)} and after {tuple(new.shape)}: they must be alike.")
    names = labels_for(labels, len(old))
    lengths = torch.stack((_length(old), _length(new)))
    longest = int(lengths[0].argmax())
    text = _digest(names, old, lengths, longest)
    channels = min(old.shape[1], MOST_CHANNELS)
    shown = min(len(old), MOST_TOKENS, max(1, _VALUES // channels))
    data = {
        "labels": names[:shown],
        "tokens": len(old),
        "channels": old.shape[1],
        "lengths": pack(lengths[:, :shown]),
        "before": pack(old[:shown, :channels]),
        "after": pack(new[:shown, :channels]),
    }
    alt = f"Lengths of {len(old)} tokens before and after a norm, and the channels of one of them."
    token = int(lengths[0].sort(stable=True).indices[len(old) // 2])  # a typical one, for the figure
    vectors = torch.stack((old[token], new[token]))  # the figure needs no others
    return View(text, alt, lambda: _draw(names, lengths, token, vectors), live=Live("norms", data))


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().mean(dim=1).sqrt()


def _digest(names: list[str], old: Tensor, lengths: Tensor, longest: int) -> str:
    lines = [f"norm, {len(names)} tokens of {old.shape[1]} channels"]
    lines.append(f"{'root mean square':<17}{'smallest':>10}{'median':>10}{'largest':>10}")
    for name, one in zip(("before", "after"), lengths, strict=True):
        numbers = [digits(value.item()) for value in (one.min(), one.median(), one.max())]
        lines.append(f"{name:<17}" + "".join(f"{number:>10}" for number in numbers))
    squares = old[longest].square()
    share = squares.max() / squares.sum().clamp_min(1e-300)
    old_length, new_length = (digits(length.item()) for length in lengths[:, longest])
    lines.append(
        f"longest before: token {longest} {column(names[longest]).strip()}, {old_length} → {new_length}; "
        f"{share.item():.0%} of its square is channel {int(squares.argmax())}"
    )
    return "\n".join(lines)


def _draw(names: list[str], lengths: Tensor, token: int, vectors: Tensor) -> "Figure":
    """lengths (2 t) of all tokens before and after; vectors (2 d) of one of them."""
    figure = style.new_figure(8.0, 3.6)
    parts: Any = figure.subfigures(1, 2, width_ratios=[1, 1.15])
    left, right = parts
    _draw_lengths(left.subplots(), names, lengths)
    panels: Any = right.subplots(2, 1, sharex=True)
    for axes, vector, colour, name in zip(
        panels, vectors, (style.BLUE, style.ORANGE), ("before", "after"), strict=True
    ):
        shown = vector[:MOST_CHANNELS].numpy()
        axes.vlines(range(len(shown)), 0, shown, color=colour, linewidth=0.9)
        axes.axhline(0, color=style.GREY, linewidth=0.6)
        axes.set_title(f"{name}, root mean square {digits(_length(vector[None]).item())}", size=9)
    panels[1].set_xlabel(f"channel of token {token}, {style.drawable(names[token], 12)}")
    return figure


def _draw_lengths(axes: Any, names: list[str], lengths: Tensor) -> None:
    shown = min(len(names), MOST_TOKENS)
    old, new = lengths[:, :shown].clamp_min(1e-12).numpy()
    places = range(shown)
    axes.vlines(places, new, old, color=style.PALE, linewidth=2)
    axes.plot(places, old, "o", color=style.BLUE, markersize=4.5, label="before")
    axes.plot(places, new, "s", color=style.ORANGE, markersize=4.5, label="after")
    every = -(-shown // 24)
    axes.set_xticks(
        places[::every],
        [style.drawable(name, 10) for name in names[:shown:every]],
        rotation=90,
        family=style.MONO,
        size=8,
    )
    axes.set(yscale="log", ylabel="root mean square (log scale)")
    axes.margins(y=0.12)
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)
    axes.legend(fontsize=8.5, loc="best")
