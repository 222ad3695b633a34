"""How large the residual stream grows from layer to layer, and what attention and the MLP add to it."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import labels_for, row_of, two_decimals
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS = 64
_PARTS = ("attention", "mlp")


def residual(trace: Trace, labels: Sequence[str] | None = None, row: int = 0) -> View:
    """The residual stream of one row: its norm at each token after every layer, and what each layer adds.

    What attention or the MLP adds is told by two numbers: its length relative to the stream it is added to,
    and its cosine with that stream. Near 0, it adds a new direction; above 0, it makes the stream longer;
    near −1, it takes away what is there. The first token, which in most models grows far beyond the rest,
    stands apart. The live face has the first 64 tokens. Raises InputError without a recorded forward pass.
    """
    layers = sum(
        name.startswith("layers.") and name.count(".") == 2 and name.endswith(".output") for name in trace
    )
    if "embedding" not in trace or layers == 0:
        raise InputError("this trace holds no forward pass: run model(ids, trace=trace) first.")
    norms, added, cosine = _measure(trace, layers, row)
    tokens = norms.shape[1]
    names = labels_for(labels, tokens)
    head = f"residual stream, {layers} layers, {tokens} tokens"
    alt = (
        f"Line chart of the norm of the {head}: from {_short(norms[0, 0])} to {_short(norms[-1, 0])} at the "
        "first token; and what attention and the MLP of each layer add."
    )
    shown = slice(0, MOST_TOKENS)
    data = {
        "labels": names[shown],
        "tokens": tokens,
        "norms": pack(norms[:, shown]),
        "added": pack(added[:, :, shown]),
        "cosine": pack(cosine[:, :, shown]),
    }
    text = _digest(head, norms, added, cosine)
    return View(text, alt, lambda: _draw(norms, added, cosine), live=Live("residual", data))


def _measure(trace: Trace, layers: int, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Norms of the stream (1 + l, t); relative length and cosine of what the two parts add (2 l t)."""
    norms = [row_of(trace["embedding"], row).norm(dim=-1)]
    added: list[list[Tensor]] = [[], []]
    cosine: list[list[Tensor]] = [[], []]
    for layer in range(layers):
        for part, (stream, more) in enumerate(_additions(trace, layer, row)):
            length, long = stream.norm(dim=-1).clamp_min(1e-30), more.norm(dim=-1)
            added[part].append(long / length)
            cosine[part].append((stream * more).sum(dim=-1) / (length * long.clamp_min(1e-30)))
        norms.append(row_of(trace[f"layers.{layer}.output"], row).norm(dim=-1))
    measured = (
        torch.stack(norms),
        *(torch.stack([torch.stack(one) for one in both]) for both in (added, cosine)),
    )
    if not all(numbers.isfinite().all() for numbers in measured):
        raise InputError("the residual stream of this trace has values that are not finite; nothing to draw.")
    return measured[0], measured[1], measured[2]


def _additions(trace: Trace, layer: int, row: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(stream, what is added to it), for attention and for the MLP: (t d) each."""
    before = "embedding" if layer == 0 else f"layers.{layer - 1}.output"
    for part, stream in zip(_PARTS, (before, f"layers.{layer}.after_attention"), strict=True):
        name = f"layers.{layer}.{part}.output"
        missing = [wanted for wanted in (stream, name) if wanted not in trace]
        if missing:
            raise InputError(f"this trace lacks {missing[0]!r}, which residual() needs of every layer.")
        yield row_of(trace[stream], row), row_of(trace[name], row)


def _short(value: Tensor) -> str:
    """Four digits, and always a decimal: processors may differ by one in the last digit of decimals only."""
    number = value.item()
    return fixed(number) if abs(number) < 1000 else f"{number:.1f}"


def _digest(head: str, norms: Tensor, added: Tensor, cosine: Tensor) -> str:
    columns = "norm: first  median  largest   attention adds  cosine   MLP adds  cosine"
    lines = [head, f"layer  {columns}"]
    others = slice(1, None) if norms.shape[1] > 1 else slice(0, None)
    for layer, here in enumerate(norms):
        rest = here[others]
        line = f"{'embed' if layer == 0 else layer - 1:>5}  {_short(here[0]):>11}"
        line += f" {_short(rest.median()):>7}  {_short(rest.max()):>7}"
        if layer > 0:
            numbers = [
                two_decimals(both[part, layer - 1, others].median())
                for part in (0, 1)
                for both in (added, cosine)
            ]
            line += f"  {numbers[0]:>15}  {numbers[1]:>6}  {numbers[2]:>9}  {numbers[3]:>6}"
        lines.append(line)
    which = "the other tokens" if norms.shape[1] > 1 else "the only token"
    return "\n".join([*lines, f"median, largest and what is added: of {which}; adds: relative to the stream"])


def _draw(norms: Tensor, added: Tensor, cosine: Tensor) -> "Figure":
    figure = style.new_figure(8.0, 4.6)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    above, below = parts
    _draw_norms(above.subplots(), norms)
    others = slice(1, None) if norms.shape[1] > 1 else slice(0, None)
    panels: Any = below.subplots(1, 2)
    titles = ("length added ÷ length of the stream", "cosine with the stream")
    for axes, numbers, title in zip(panels, (added, cosine), titles, strict=True):
        places = torch.arange(numbers.shape[1])
        for part, colour, marker in ((0, style.GREEN, "o"), (1, style.PURPLE, "s")):
            middle = numbers[part, :, others].median(dim=1).values
            axes.plot(places, middle, color=colour, marker=marker, markersize=3, linewidth=1)
        axes.set_xlabel("layer")
        axes.set_title(title, size=9.5)
        axes.grid(axis="y", color=style.PALE, linewidth=0.6)
        axes.locator_params(axis="x", integer=True)
    panels[0].set_yscale("log")
    panels[1].axhline(0, color=style.GREY, linewidth=0.8)
    panels[0].legend(["attention", "MLP"], fontsize=8.5)
    return figure


def _draw_norms(axes: Any, norms: Tensor) -> None:
    names = ["embed", *map(str, range(len(norms) - 1))]
    first, others = norms[:, 0].clamp_min(1e-12), norms[:, 1:].clamp_min(1e-12)
    places = range(len(names))
    axes.semilogy(places, first.numpy(), color=style.RED, marker="s", markersize=3.5, label="first token")
    if others.shape[1]:
        low, high = others.min(dim=1).values.numpy(), others.max(dim=1).values.numpy()
        name = "other tokens, smallest to largest"
        axes.fill_between(places, low, high, color=style.BLUE, alpha=0.2, linewidth=0, label=name)
        middle = others.median(dim=1).values.numpy()
        name = "other tokens, median"
        axes.semilogy(places, middle, color=style.BLUE, marker="o", markersize=3.5, label=name)
    every = math.ceil(len(names) / 16)
    axes.set_xticks(places[::every], names[::every], size=8)
    axes.set(xlabel="after layer", ylabel="norm (log scale)")
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)
    axes.legend(fontsize=8.5)
