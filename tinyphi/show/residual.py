"""How large the residual stream grows from layer to layer."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def residual_norms(trace: Trace) -> View:
    """The Euclidean norm of the residual stream at each token, after the embedding and after every layer.

    Drawn are the first token, which in most models grows far beyond the rest, and the smallest, median and
    largest of the other tokens; of a batch, its first row. Raises InputError without a recorded forward pass.
    """
    streams = _streams(trace)
    norms = torch.stack(
        [stream[0].detach().to("cpu", torch.float64).norm(dim=-1) for stream in streams.values()]
    )
    names = ["embed" if name == "embedding" else name.split(".")[1] for name in streams]
    first, others = norms[:, 0], norms[:, 1:]
    head = f"norm of the residual stream, {len(names) - 1} layers, {norms.shape[1]} tokens"
    lines = [f"{'layer':>5} {'first token':>12} {'median of others':>17} {'largest of others':>18}"]
    for name, one, rest in zip(names, first, others, strict=True):
        middle, largest = (_short(rest.median()), _short(rest.max())) if len(rest) else ("–", "–")
        lines.append(f"{name:>5} {_short(one):>12} {middle:>17} {largest:>18}")
    alt = f"Line chart of the {head}: from {_short(first[0])} to {_short(first[-1])} at the first token."
    return View("\n".join([head, *lines]), alt, lambda: _draw(names, first, others))


def _streams(trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The residual stream's states in order: `embedding`, then `layers.N.output`."""
    wanted = [name for name in trace if name == "embedding" or _is_layer_output(name)]
    if "embedding" not in wanted or len(wanted) < 2:
        raise InputError("this trace holds no forward pass: run model(ids, trace=trace) first.")
    return {name: trace[name] for name in wanted}


def _is_layer_output(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 and parts[0] == "layers" and parts[2] == "output"


def _short(value: Tensor) -> str:
    return fixed(value.item())


def _draw(names: list[str], first: Tensor, others: Tensor) -> "Figure":
    figure = style.new_figure(6.4, 3.3)
    axes = figure.add_subplot()
    places = range(len(names))
    axes.semilogy(places, first.numpy(), color=style.RED, marker="s", markersize=3.5, label="first token")
    if others.shape[1]:
        low, high = others.min(dim=1).values.numpy(), others.max(dim=1).values.numpy()
        axes.fill_between(
            places, low, high, color=style.BLUE, alpha=0.2, label="other tokens, smallest to largest"
        )
        middle = others.median(dim=1).values.numpy()
        axes.semilogy(
            places, middle, color=style.BLUE, marker="o", markersize=3.5, label="other tokens, median"
        )
    every = math.ceil(len(names) / 16)
    axes.set_xticks(places[::every], names[::every], size=8)
    axes.set(xlabel="after layer", ylabel="norm (log scale)")
    axes.grid(axis="y", color=style.PALE)
    axes.legend(fontsize=8.5)
    return figure
