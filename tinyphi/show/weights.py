"""What a weight matrix looks like: a map of its values and how they are distributed."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import digest
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 64  # cells of the map along each side
_BINS = 61


def weight_map(tensor: Tensor) -> View:
    """A heat map of a matrix (rows columns) and a histogram of its values; a vector counts as one row.

    A matrix of more than 64 rows or columns is drawn in blocks, each as the root mean square of its values,
    since plain means would all fade to zero. Raises InputError for other shapes and for values not finite.
    """
    if not isinstance(tensor, Tensor) or tensor.dim() not in (1, 2) or tensor.numel() == 0:
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"weight_map() takes a matrix (rows columns) or a vector; this is {shape}.")
    matrix = tensor.detach().to("cpu", torch.float32)
    matrix = matrix[None] if matrix.dim() == 1 else matrix
    if not matrix.isfinite().all():
        raise InputError(f"weight_map() needs finite values; this tensor is {digest(tensor)}")
    deviation = matrix.std(correction=0)
    far = (matrix.sub(matrix.mean()).abs() > 6 * deviation).sum().item()
    text = f"{digest(tensor, 'weights')}\nbeyond 6 standard deviations: {far} of {matrix.numel()}"
    return View(text, f"Heat map and histogram of {text}", lambda: _draw(matrix))


def _draw(matrix: Tensor) -> "Figure":
    figure = style.new_figure(7.6, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    rows, columns = matrix.shape
    shape = (min(rows, MOST_CELLS), min(columns, MOST_CELLS))
    if shape == (rows, columns):
        limit = matrix.abs().max().item()
        image = left.imshow(matrix.numpy(), cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        label = "value"
    else:
        blocks = adaptive_avg_pool2d(matrix.square()[None], shape)[0].sqrt()
        image = left.imshow(
            blocks.numpy(), cmap=style.SEQUENTIAL, aspect="auto", extent=(0, columns, rows, 0)
        )
        label = f"root mean square, {shape[0]} × {shape[1]} blocks"
    figure.colorbar(image, ax=left, label=label)
    left.set(xlabel="column", ylabel="row")
    left.locator_params(integer=True)

    low, high = matrix.min().item(), matrix.max().item()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(matrix, bins=_BINS, min=low, max=high)
    edges = torch.linspace(low, high, _BINS + 1)
    right.stairs(counts.numpy(), edges.numpy(), fill=True, color=style.BLUE)
    right.set(yscale="log", xlabel="value", ylabel="how many (log scale)")
    return figure
