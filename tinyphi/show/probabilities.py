"""What could come next: the distribution over the vocabulary, and what the sampler cut from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import shaped
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 40  # bars


@dataclass(frozen=True)
class _Bar:
    text: str
    id: int
    probability: float
    rank: int  # from 1
    cut: str  # by which of the sampler's cuts, or by "the sampler" where that is not known; "" for none
    chosen: bool


def probabilities(
    step_or_tensor: Any, decode: Callable[[int], str], top: int = 12, kept: Tensor | None = None
) -> View:
    """The `top` most probable next tokens as bars, and the chosen one where it is not among them.

    step_or_tensor  probabilities (v), or a step with `.probabilities` (v) and, if it knows, `.kept` and `.id`
    decode          gives the text of one token id
    top             how many; at most 40 are shown
    kept            (v) bool: which tokens the sampler left to choose from; the others are hatched

    The entropy is that of the whole distribution, in bits. Raises InputError when the values are none.
    """
    if type(top) is not int or top < 1:
        raise InputError(f"top is {top!r}; it must be a whole number of at least 1.")
    values = _distribution(getattr(step_or_tensor, "probabilities", step_or_tensor))
    kept = getattr(step_or_tensor, "kept", None) if kept is None else kept
    kept = torch.ones_like(values, dtype=torch.bool) if kept is None else kept.detach().cpu().bool()
    if kept.shape != values.shape:
        raise InputError(f"kept has shape {tuple(kept.shape)} but there are {values.numel()} probabilities.")
    bars = _bars(values, kept, decode, min(top, MOST), step_or_tensor)
    rest = abs(1.0 - sum(bar.probability for bar in bars))
    head = f"next token, {len(bars)} of {values.numel()} shown; entropy {entropy_bits(values):.2f} bits"
    if not kept.all():
        head += f"; sampler kept {int(kept.sum())}, cut {values[~kept].sum().item():.3f}"
    rows = [
        f"{bar.probability:6.3f} {'cut' if bar.cut else '   '} {bar.id:>6} {style.visible(bar.text)}"
        f"{_remark(bar, top)}"
        for bar in bars
    ]
    text = "\n".join([head, *rows, f"{rest:6.3f}            all others"])
    alt = f"Bar chart. {head}. Most probable: " + ", ".join(
        f"{bar.text!r} {bar.probability:.3f}" for bar in bars[:3]
    )
    data = {
        "bars": [{**vars(bar), "bytes": list(bar.text.encode(errors="replace"))} for bar in bars],
        "head": head,
        "vocabulary": values.numel(),
        "rest": rest,
        "kept": values[kept].sum().item(),
    }
    return View(text, alt, lambda: _draw(bars, head, top), live=Live("probabilities", data))


def entropy_bits(values: Tensor) -> float:
    """−Σ p log₂ p of probabilities (v); what has probability 0 adds nothing."""
    positive = values[values > 0].double()
    return abs(float(-(positive * positive.log2()).sum()))


def _distribution(given: Any) -> Tensor:
    tensor = shaped(given, "probabilities() takes one distribution, a tensor (v) or a step", 1)
    values = tensor.detach().to("cpu", torch.float64)
    total = values.sum().item()
    if not (values >= 0).all() or abs(total - 1) > 0.01:
        raise InputError(
            f"these are no probabilities: they sum to {total:.4g}. Apply softmax to logits first."
        )
    return values


def _bars(values: Tensor, kept: Tensor, decode: Callable[[int], str], top: int, step: Any) -> list[_Bar]:
    """The most probable tokens, of equals the lower id first; then the chosen one if not among them."""
    order = torch.sort(values, descending=True, stable=True).indices.tolist()
    chosen, cuts = getattr(step, "id", None), getattr(step, "cuts", {})
    ids = order[:top]
    ids += [] if chosen is None or chosen in ids else [chosen]
    bars = []
    for i in ids:
        cut = next((name for name, removed in cuts.items() if removed[i]), "the sampler")
        rank = order.index(i) + 1
        bars.append(_Bar(decode(i), i, values[i].item(), rank, "" if kept[i] else cut, i == chosen))
    return bars


def _remark(bar: _Bar, top: int) -> str:
    return ("  ← chosen" + f", rank {bar.rank}" * (bar.rank > min(top, MOST))) * bar.chosen


def _draw(bars: list[_Bar], head: str, top: int) -> "Figure":
    figure = style.new_figure(6.4, 0.27 * len(bars) + 0.9)
    axes = figure.add_subplot()
    places = range(len(bars))
    drawn = axes.barh(places, [bar.probability for bar in bars], color=style.BLUE, height=0.75)
    for patch, bar in zip(drawn, bars, strict=True):
        if bar.cut:
            patch.set(facecolor=style.PALE, hatch="////", edgecolor=style.GREY)
        note = f" {bar.probability:.3f}" + "  cut" * bool(bar.cut) + _remark(bar, top)
        axes.annotate(note, (bar.probability, patch.get_y() + patch.get_height() / 2), va="center", size=9)
    axes.set_yticks(places, [style.drawable(bar.text) for bar in bars], family=style.MONO)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.25 * max(bar.probability for bar in bars)), ylim=(len(bars) - 0.4, -0.6))
    axes.set_xlabel("probability")
    axes.set_title(head, size=9.5)
    return figure
