"""What a weight matrix looks like: a map of its values and how they are distributed."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import digest
from tinyphi.show.given import shaped
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 64  # cells of the map along each side
MOST_CELLS_LIVE = 128
_BINS = 61


def weight_map(tensor: Tensor) -> View:
    """A heat map of a matrix (rows columns) and a histogram of its values; a vector counts as one row.

    A large matrix is drawn in blocks, each as the root mean square of its values, since plain means would all
    fade to zero: more than 64 rows or columns in the figure, more than 128 in the live face. Raises
    InputError for other shapes and for values not finite.
    """
    tensor = shaped(tensor, "weight_map() takes a matrix (rows columns) or a vector", 1, 2)
    matrix = tensor.detach().to("cpu", torch.float32)
    matrix = matrix[None] if matrix.dim() == 1 else matrix
    if not matrix.isfinite().all():
        raise InputError(f"weight_map() needs finite values; this tensor is {digest(tensor)}")
    deviation = matrix.std(correction=0)
    far = (matrix.sub(matrix.mean()).abs() > 6 * deviation).sum().item()
    text = f"{digest(tensor, 'weights')}\nbeyond 6 standard deviations: {far} of {matrix.numel()}"
    cells, pooled = _cells(matrix, MOST_CELLS_LIVE)
    fewer, coarse = _cells(matrix, MOST_CELLS)
    shape = matrix.shape
    counts, edges = _histogram(matrix)
    data = {
        "shape": list(shape),
        "cells": pack(cells),
        "pooled": pooled,
        "counts": counts.long().tolist(),
        "edges": [edges[0].item(), edges[-1].item()],
    }
    alt = f"Heat map and histogram of {text}"
    return View(text, alt, lambda: _draw(shape, fewer, coarse, counts, edges), live=Live("weights", data))


def _cells(matrix: Tensor, most: int) -> tuple[Tensor, bool]:
    """The values, or the root mean squares of blocks where a side has more than `most`; and which of both.

    Always a copy: a view shows a weight as it was, and does not keep a large matrix.
    """
    shape = (min(matrix.shape[0], most), min(matrix.shape[1], most))
    if shape == matrix.shape:
        return matrix.clone(), False
    return adaptive_avg_pool2d(matrix.square()[None], shape)[0].sqrt(), True


def _histogram(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """How many values lie in each of 61 equal parts of their range, and the 62 ends of the parts."""
    low, high = matrix.min().item(), matrix.max().item()
    if low == high:
        low, high = low - 0.5, high + 0.5
    return torch.histc(matrix, bins=_BINS, min=low, max=high), torch.linspace(low, high, _BINS + 1)


def _draw(shape: tuple[int, ...], cells: Tensor, pooled: bool, counts: Tensor, edges: Tensor) -> "Figure":
    """shape (rows columns) of the matrix; counts and edges of its histogram."""
    figure = style.new_figure(7.6, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1], gridspec_kw={"wspace": 0.08})
    rows, columns = shape
    if pooled:
        image = left.imshow(cells.numpy(), cmap=style.SEQUENTIAL, aspect="auto", extent=(0, columns, rows, 0))
        label = f"root mean square, {cells.shape[0]} × {cells.shape[1]} blocks"
    else:
        limit = cells.abs().max().item()
        image = left.imshow(cells.numpy(), cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        label = "value"
    figure.colorbar(image, ax=left, label=label)
    left.set(xlabel="column", ylabel="row")
    left.locator_params(integer=True)
    right.stairs(counts.numpy(), edges.numpy(), fill=True, color=style.BLUE)
    right.set(yscale="log", xlabel="value", ylabel="how many (log scale)")
    return figure
