"""What could come next: the distribution over the vocabulary, and what the sampler cut from it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def probabilities(
    step_or_tensor: Any, decode: Callable[[int], str], top: int = 12, kept: Tensor | None = None
) -> View:
    """The `top` most probable next tokens as bars.

    step_or_tensor  probabilities (v), or a step with `.probabilities` (v) and, if it knows, `.kept` and `.id`
    decode          gives the text of one token id
    kept            (v) bool: which tokens the sampler left to choose from; the others are hatched

    The entropy is that of the whole distribution, in bits. Raises InputError when the values are none.
    """
    given = getattr(step_or_tensor, "probabilities", step_or_tensor)
    kept = getattr(step_or_tensor, "kept", None) if kept is None else kept
    chosen = getattr(step_or_tensor, "id", None)
    values = _distribution(given)
    kept = torch.ones_like(values, dtype=torch.bool) if kept is None else kept.detach().cpu().bool()
    if kept.shape != values.shape:
        raise InputError(f"kept has shape {tuple(kept.shape)} but there are {values.numel()} probabilities.")

    ids = torch.sort(values, descending=True, stable=True).indices[:top].tolist()
    bars = [(decode(i), i, values[i].item(), bool(kept[i])) for i in ids]
    rest = 1.0 - sum(value for _, _, value, _ in bars)
    head = f"next token, {len(bars)} of {values.numel()} shown; entropy {entropy_bits(values):.2f} bits"
    if not kept.all():
        head += f"; sampler kept {int(kept.sum())}, cut {values[~kept].sum().item():.3f}"
    rows = [
        f"{value:6.3f} {'   ' if left else 'cut'} {i:>6} {style.visible(text)}{'  ← chosen' * (i == chosen)}"
        for text, i, value, left in bars
    ]
    text = "\n".join([head, *rows, f"{abs(rest):6.3f}            all others"])
    alt = f"Bar chart. {head}. Most probable: " + ", ".join(
        f"{t!r} {value:.3f}" for t, _, value, _ in bars[:3]
    )
    return View(text, alt, lambda: _draw(bars, head, chosen))


def entropy_bits(values: Tensor) -> float:
    """−Σ p log₂ p of probabilities (v); what has probability 0 adds nothing."""
    positive = values[values > 0].double()
    return abs(float(-(positive * positive.log2()).sum()))


def _distribution(given: Any) -> Tensor:
    if not isinstance(given, Tensor) or given.dim() != 1:
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"probabilities() takes one distribution, a tensor (v) or a step; this is {shape}.")
    values = given.detach().to("cpu", torch.float64)
    total = values.sum().item()
    if not (values >= 0).all() or abs(total - 1) > 0.01:
        raise InputError(
            f"these are no probabilities: they sum to {total:.4g}. Apply softmax to logits first."
        )
    return values


def _draw(bars: list[tuple[str, int, float, bool]], head: str, chosen: int | None) -> "Figure":
    figure = style.new_figure(6.4, 0.27 * len(bars) + 0.9)
    axes = figure.add_subplot()
    places = range(len(bars))
    drawn = axes.barh(places, [value for _, _, value, _ in bars], color=style.BLUE, height=0.75)
    for bar, (_, i, value, left) in zip(drawn, bars, strict=True):
        if not left:
            bar.set(facecolor=style.PALE, hatch="////", edgecolor=style.GREY)
        note = f" {value:.3f}" + "  cut" * (not left) + "  ← chosen" * (i == chosen)
        axes.annotate(note, (value, bar.get_y() + bar.get_height() / 2), va="center", size=9)
    axes.set_yticks(places, [style.drawable(text) for text, *_ in bars], family=style.MONO)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.25 * max(value for _, _, value, _ in bars)), ylim=(len(bars) - 0.4, -0.6))
    axes.set_xlabel("probability")
    axes.set_title(head, size=9.5)
    return figure
