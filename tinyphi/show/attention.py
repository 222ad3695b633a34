"""Where attention looks: one head large, or many heads side by side."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.probabilities import entropy_bits
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS, MOST_HEADS = 64, 16
MOST_TOKENS_SMALL = 32  # in the small pictures of many heads
_ROWS_OF_TEXT = 12


def attention_head(weights: Tensor, labels: Sequence[str]) -> View:
    """One head's attention weights (t s) as a heat map; each row says where one token looks.

    labels (s) are the texts of the source tokens; the queries are the last t of them. Of a long input the
    last 64 tokens are shown. Raises InputError when shapes do not fit.
    """
    values = _checked(weights, 2, "attention_head() takes one head (t s), such as weights[0, head]")
    if len(labels) != values.shape[1]:
        raise InputError(
            f"{len(labels)} labels for {values.shape[1]} source tokens: give one per source token."
        )
    window = values[-MOST_TOKENS:, -MOST_TOKENS:]
    columns = list(labels)[-MOST_TOKENS:]
    rows = list(labels)[-window.shape[0] :]
    note = _note(values, window)
    head = f"attention, {values.shape[0]} queries × {values.shape[1]} sources{note}; {_habits(values)}"
    looks = [_looks_at(row, query, columns) for row, query in zip(window, rows, strict=True)]
    alt = f"Heat map of {head}. " + "; ".join(looks[-3:])
    text = "\n".join([head, *looks[-_ROWS_OF_TEXT:]])
    return View(text, alt, lambda: _draw_head(window, rows, columns, note))


def attention_heads(weights: Tensor, labels: Sequence[str] | None = None) -> View:
    """The heads of one layer (h t s) as small heat maps. At most 16 heads and the last 32 tokens are shown.

    The text gives for each head the mean entropy of its rows in bits, and how much goes to the first source
    token, to the token before and to the token itself. Raises InputError when shapes do not fit.
    """
    values = _checked(weights, 3, "attention_heads() takes one row's heads (h t s), such as weights[0]")
    if labels is not None and len(labels) != values.shape[2]:
        raise InputError(
            f"{len(labels)} labels for {values.shape[2]} source tokens: give one per source token."
        )
    window = values[:MOST_HEADS, -MOST_TOKENS_SMALL:, -MOST_TOKENS_SMALL:]
    note = _note(values[0], window[0])
    if len(window) < len(values):
        note += f", the first {len(window)} of {len(values)} heads"
    head = f"attention, {values.shape[0]} heads, {values.shape[1]} queries × {values.shape[2]} sources{note}"
    lines = [f"head {number}: {_habits(one)}" for number, one in enumerate(values[:MOST_HEADS])]
    names = list(labels)[-MOST_TOKENS_SMALL:] if labels is not None else None
    return View("\n".join([head, *lines]), f"Heat maps of {head}.", lambda: _draw_heads(window, names, note))


def _checked(weights: Tensor, axes: int, usage: str) -> Tensor:
    if not isinstance(weights, Tensor) or weights.dim() != axes or weights.numel() == 0:
        shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise InputError(f"{usage}; this is {shape}.")
    if weights.shape[-2] > weights.shape[-1]:
        raise InputError(f"{weights.shape[-2]} queries but only {weights.shape[-1]} source tokens.")
    return weights.detach().to("cpu", torch.float64)


def _note(values: Tensor, window: Tensor) -> str:
    return f", the last {window.shape[-1]} tokens shown" if window.shape != values.shape else ""


def _habits(head: Tensor) -> str:
    """What a head (t s) mostly does, as four means over its queries."""
    queries, sources = head.shape
    itself = torch.arange(sources - queries, sources)
    has_previous = itself > 0
    rows = torch.arange(queries)
    before = head[rows[has_previous], itself[has_previous] - 1]
    entropy = sum(entropy_bits(row) for row in head) / queries
    previous = before.mean().item() if len(before) else 0.0
    return (
        f"entropy {entropy:.2f} bits, to first token {head[:, 0].mean().item():.3f}, "
        f"token before {previous:.3f}, itself {head[rows, itself].mean().item():.3f}"
    )


def _looks_at(row: Tensor, query: str, sources: Sequence[str]) -> str:
    best = torch.sort(row, descending=True, stable=True).indices[:3].tolist()
    found = [f"{style.visible(sources[i])} {row[i].item():.3f}" for i in best if row[i] >= 0.0005]
    return f"{style.visible(query)} → {', '.join(found)}"


def _draw_head(values: Tensor, rows: list[str], columns: list[str], note: str) -> "Figure":
    count = len(columns)
    side = min(7.0, max(3.2, 0.3 * count))
    figure = style.new_figure(side + 1.9, side * max(0.25, len(rows) / count) + 1.2)
    axes = figure.add_subplot()
    image = _heat(axes, values)
    every = 1 if count <= 32 else 2  # label every other token where there is no room for all
    font: Any = {"family": style.MONO, "size": 9 if count <= 24 else 7}
    names = [style.drawable(label, 12) for label in columns]
    axes.set_xticks(range(0, count, every), names[::every], rotation=90, **font)
    names = [style.drawable(label, 12) for label in rows]
    axes.set_yticks(range(0, len(rows), every), names[::every], **font)
    axes.set_xlabel("looks at (source token)")
    axes.set_ylabel("token (query)")
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
    if note:
        axes.set_title(note.removeprefix(", "))
    return figure


def _draw_heads(values: Tensor, labels: list[str] | None, note: str) -> "Figure":
    across = min(4, len(values))
    down = math.ceil(len(values) / across)
    figure = style.new_figure(1.85 * across + 0.7, 1.85 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(values):
            axes.set_axis_off()
            continue
        _heat(axes, values[number])
        axes.set_title(f"head {number}", size=9)
        axes.set(xticks=[], yticks=[])
    if labels is not None and len(labels) <= 16:
        corner = grid[-1, 0] if (down - 1) * across < len(values) else grid[0, 0]
        corner.set_xticks(
            range(len(labels)), [style.drawable(label, 8) for label in labels], rotation=90, size=6
        )
    figure.colorbar(grid[0, 0].images[0], ax=grid, label="attention weight", shrink=0.8)
    if note:
        figure.suptitle(note.removeprefix(", "), size=9)
    return figure


def _heat(axes: Any, values: Tensor) -> Any:
    """The cells of one head. Colour follows the square root of the weight, so that 0.02 can still be seen."""
    from matplotlib.colors import PowerNorm

    axes.spines[:].set(visible=True, color=style.PALE)
    return axes.imshow(values.numpy(), norm=PowerNorm(0.5, 0, 1), cmap=style.SEQUENTIAL, aspect="auto")
