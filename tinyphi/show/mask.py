"""Who may see whom, and for each hidden pair the reason."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import check_sources
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 48  # tokens in the text, and in a figure with a name at each
_MOST_CELLS = 512  # across the figure
_MOST_LIVE = 256
_ROWS_OF_TEXT = 24

# Reasons are bits, for a pair may be hidden for several; the first of these that applies gives the colour.
SEEN, FUTURE, PADDING, SEGMENT, WINDOW, HIDDEN = 32, 1, 4, 2, 8, 16
_KINDS = {  # bit: sign in the text, colour, words
    0: ("■", style.BLUE, "visible"),
    SEEN: ("!", style.INK, "visible against the rule"),
    FUTURE: ("·", "#E9E9E9", "in the future"),
    PADDING: ("p", "#9A9A9A", "padding"),
    SEGMENT: ("d", style.PURPLE, "in another document"),
    WINDOW: ("w", style.ORANGE, "outside the window"),
    HIDDEN: ("?", style.RED, "hidden for an unknown reason"),
}


def mask_map(
    mask: Tensor,
    labels: Sequence[str] | None = None,
    segments: Tensor | None = None,
    window: int | None = None,
) -> View:
    """A map of an attention mask (t s) bool: rows ask, columns answer, True may be seen.

    labels    (s) texts of the source tokens
    segments  (s) int, as for the model: 0 is padding; 1, 2, … number the documents
    window    how many tokens a query sees, itself included; None: read off the mask if it has a clean edge

    A hidden pair is coloured by its reason: the source lies in the future, is padding, belongs to another
    document or is outside the window. Where the mask shows what `segments`, `window` or time forbid, the
    pair stands out as "visible against the rule": a mask that is off by one does not get away. Of a long
    input the text has the last 48 tokens, the live view the last 256, the figure every 2nd, 3rd … pair.
    Raises InputError when shapes do not fit.
    """
    mask, numbers = _checked(mask, labels, segments)
    if window is not None and window < 1:
        raise InputError(f"window {window}: a query sees at least itself, so the smallest window is 1.")
    found = _window_of(mask, numbers) if window is None else window
    reasons = _reasons(mask, numbers, found)
    names = [str(number) for number in range(mask.shape[1])] if labels is None else list(labels)
    kinds = _kinds(reasons)
    counts = {bit: int((kinds == bit).sum()) for bit in _KINDS}
    words = {bit: _KINDS[bit][2] + (f" of {found}" if bit == WINDOW else "") for bit in _KINDS}
    used = {bit: words[bit] for bit in _KINDS if counts[bit]}
    first = _first_line(mask, [f"{counts[bit]} {what}" for bit, what in used.items()])
    legend = ", ".join(f"{_KINDS[bit][0]} {what}" for bit, what in used.items())
    rows = [[bit, _KINDS[bit][1], words[bit], counts[bit]] for bit in _KINDS]
    data = {"window": found, "kinds": rows, "counts": first}
    data |= _live_part(mask, reasons, names, None if segments is None else numbers)
    text = "\n".join([first, *_picture(kinds, names), legend])
    return View(text, f"Map of a {first}.", lambda: _draw(kinds, names, used), live=Live("mask", data))


def _first_line(mask: Tensor, pairs: list[str]) -> str:
    queries, sources = mask.shape
    line = f"mask, {queries} queries × {sources} sources: {', '.join(pairs)}"
    blind = int((~mask).all(dim=-1).sum())
    if blind:
        line += f"; {blind} of {queries} queries see nothing at all (their softmax would be NaN)"
    return line


def _live_part(mask: Tensor, reasons: Tensor, names: list[str], segments: Tensor | None) -> dict[str, Any]:
    """The last tokens, as many as the live view shows."""
    return {
        "labels": names[-_MOST_LIVE:],
        "skipped": max(0, len(names) - _MOST_LIVE),
        "segments": None if segments is None else segments[-_MOST_LIVE:].tolist(),
        "mask": pack(mask[-_MOST_LIVE:, -_MOST_LIVE:], "uint8"),
        "reasons": pack(reasons[-_MOST_LIVE:, -_MOST_LIVE:], "uint8"),
    }


def _checked(mask: Tensor, labels: Sequence[str] | None, segments: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mask (t s) and the segment of each source (s), all 1 when none are given."""
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.numel() == 0 or mask.dtype != torch.bool:
        what = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"mask_map() takes one mask (t s) of booleans, such as trace['mask'][0]; this is {what}. "
            "For a mask of 0 and minus infinity, give mask == 0."
        )
    queries, sources = mask.shape
    check_sources(queries, sources, labels)
    if segments is None:
        return mask.detach().cpu(), torch.ones(sources, dtype=torch.int64)
    if not isinstance(segments, Tensor) or segments.shape != (sources,) or segments.dtype.is_floating_point:
        kind = tuple(segments.shape) if isinstance(segments, Tensor) else type(segments).__name__
        raise InputError(
            f"segments are one whole number for each of the {sources} sources; these are {kind}."
        )
    return mask.detach().cpu(), segments.detach().cpu()


def _distances(mask: Tensor) -> Tensor:
    """(t s) int64: how many tokens back each source is; negative in the future. The queries come last."""
    queries, sources = mask.shape
    return torch.arange(sources - queries, sources)[:, None] - torch.arange(sources)


def _window_of(mask: Tensor, segments: Tensor) -> int | None:
    """The window that explains the whole mask; None when no window does, or none is needed."""
    distance, asks = _distances(mask), segments[-len(mask) :, None]
    real = asks != 0  # nobody reads what a padding token saw
    earlier = (asks == segments) & (distance >= 0) & real
    seen = mask & real
    window = int(distance[seen].max()) + 1 if seen.any() else 0
    explained = torch.equal(seen, earlier & (distance < window))
    return window if explained and window > 0 and bool((earlier & ~seen).any()) else None


def _reasons(mask: Tensor, segments: Tensor, window: int | None) -> Tensor:
    """(t s) int64: 0 where a visible source may be seen, else the sum of all reasons against it."""
    distance, asks = _distances(mask), segments[-len(mask) :, None]
    reasons = FUTURE * (distance < 0) + PADDING * ((segments == 0) | (asks == 0))
    reasons += SEGMENT * ((asks != segments) & (asks != 0) & (segments != 0))
    if window is not None:
        reasons += WINDOW * (distance >= window)
    reasons *= ~(mask & (asks == 0))  # nobody reads what a padding token saw, so it may see anything
    return reasons + torch.where(mask, SEEN * (reasons > 0), HIDDEN * (reasons == 0))


def _kinds(reasons: Tensor) -> Tensor:
    """The first reason of each pair, 0 for a visible one: (t s) → (t s) uint8, for the view keeps it."""
    kinds = torch.zeros_like(reasons, dtype=torch.uint8)
    for bit in reversed(_KINDS):
        kinds = torch.where((reasons & bit) > 0, bit, kinds)
    return kinds


def _picture(kinds: Tensor, names: list[str]) -> list[str]:
    """The map in letters: a line for each of the last queries, a sign for each of the last sources."""
    rows = kinds[-_ROWS_OF_TEXT:, -MOST:].tolist()
    labels = [style.visible(name)[:12] for name in names[-len(rows) :]]
    width = max(len(label) for label in labels)
    lines = [
        f"{label:>{width}} {''.join(_KINDS[kind][0] for kind in row)}"
        for label, row in zip(labels, rows, strict=True)
    ]
    cut = len(rows) < len(kinds) or len(rows[0]) < kinds.shape[1]
    return [f"the last {len(rows)} queries and {len(rows[0])} sources:", *lines] if cut else lines


def _draw(kinds: Tensor, names: list[str], words: dict[int, str]) -> "Figure":
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    order = list(_KINDS)
    rows, columns = kinds.shape
    every = math.ceil(columns / _MOST_CELLS)
    codes = torch.tensor(order).eq(kinds[::every, ::every, None]).int().argmax(-1)
    colours = ListedColormap([_KINDS[bit][1] for bit in order])
    side = min(5.6, max(2.6, 0.32 * columns))
    figure = style.new_figure(side + 3.4, max(1.6, side * rows / columns) + 1.0)
    axes = figure.add_subplot()
    axes.imshow(
        codes.numpy(),
        cmap=colours,
        vmin=-0.5,
        vmax=len(order) - 0.5,
        extent=(0, columns, rows, 0),
    )
    axes.set(xlabel="may see (source)", ylabel="token (query)")
    axes.spines[:].set_visible(False)
    if columns <= MOST:
        _name_cells(axes, names, rows, columns)
    else:
        first = columns - rows
        axes.yaxis.set_major_formatter(lambda place, _: f"{place + first:.0f}")
    patches = [Patch(facecolor=_KINDS[bit][1], label=text) for bit, text in words.items()]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0, fontsize=9)
    return figure


def _name_cells(axes: Any, names: list[str], rows: int, columns: int) -> None:
    """White lines between the cells and a text at each row and column."""
    axes.hlines(range(1, rows), 0, columns, color="white", linewidth=0.8)
    axes.vlines(range(1, columns), 0, rows, color="white", linewidth=0.8)
    axes.tick_params(length=0)
    every = 1 if columns <= 32 else 2
    font: Any = {"family": style.MONO, "size": 9 if columns <= 24 else 7}
    shown = [style.drawable(name, 12) for name in names]
    centres = [number + 0.5 for number in range(columns)]
    turned = 90 if max(map(len, shown)) > 2 else 0
    axes.set_xticks(centres[::every], shown[::every], rotation=turned, **font)
    axes.set_yticks(centres[:rows:every], shown[columns - rows :: every], **font)
