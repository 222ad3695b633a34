"""The gates of the feed-forward network: which channels a token opens, and what passes through them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import column, finite, labels_for, row_of
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLOSED = 0.1  # a gate that passes less than this share of `up`, with either sign, counts as nearly closed
TOP = 12  # strongest channels shown
MOST_PLACES = 2048  # layers × tokens in the live face
_BINS = 60
_LINES = 16  # tokens in the digest


def mlp_gates(trace: Trace, labels: Sequence[str] | None = None, layer: int = 0, row: int = 0) -> View:
    """What each token's gates let pass in a layer's MLP, hidden = silu(gate) · up, of one row of the batch.

    The text has for each token the share of its gates below zero, the share nearly closed (|silu(gate)| below
    0.1), and its strongest channels by |hidden|. The live face goes through all layers of the trace and their
    first 64 tokens. Raises InputError for a trace without the layer, for a row that is not there, and for
    another gate than SwiGLU's (Phi-3-small has GEGLU).
    """
    layers = sorted(int(name.split(".")[1]) for name in trace if name.endswith(".mlp.gate"))
    if layer not in layers:
        found = f"it has {layers[0]} … {layers[-1]}" if layers else "run model(ids, trace=trace) first"
        raise InputError(f"this trace has no MLP of layer {layer!r}: {found}.")
    gate, up = _gate_and_up(trace, layer, row)
    names = labels_for(labels, len(gate))
    shown = min(len(gate), 64, max(1, MOST_PLACES // len(layers)))
    parts = [_summary(*_gate_and_up(trace, number, row), shown) for number in layers]
    data = {
        "layers": layers,
        "layer": layers.index(layer),
        "tokens": len(gate),
        "channels": gate.shape[1],
        "closedBelow": CLOSED,
        "labels": names[:shown],
        **{name: pack(torch.stack([part[name] for part in parts]), kind) for name, kind in _PACKING.items()},
    }
    head = f"mlp of layer {layer}, {len(gate)} tokens, {gate.shape[1]} channels"
    alt = f"The gates of the {head}: where they lie on the curve of silu, and the strongest channels."
    # Copies, and only of what is drawn: a view would keep the tensors of all tokens alive.
    last_gate, last_up, name = gate[-1].clone(), up[-1].clone(), names[-1]
    text = _digest(head, gate, up, names)
    return View(text, alt, lambda: _draw(last_gate, last_up, name), live=Live("mlp", data))


_PACKING = {
    "channel": "int32",  # (l t k) the strongest channels
    "gate": "float32",  # (l t k)
    "up": "float32",  # (l t k)
    "range": "float32",  # (l t 2) ends of the histogram
    "counts": "int32",  # (l t bins) gates in each part of it
    "negative": "float32",  # (l t) share of gates below zero
    "closed": "float32",  # (l t) share nearly closed
}


def _gate_and_up(trace: Trace, layer: int, row: int) -> tuple[Tensor, Tensor]:
    gate, up = (row_of(trace[f"layers.{layer}.mlp.{part}"], row) for part in ("gate", "up"))
    usage = f"mlp_gates() takes a trace of a forward pass; gate and up of layer {layer} are (b t f)"
    gate, up = finite(gate, 2, usage), finite(up, 2, usage)
    hidden = trace.get(f"layers.{layer}.mlp.hidden")
    if hidden is not None and not torch.allclose(row_of(hidden, row), silu(gate) * up, rtol=0.05, atol=0.05):
        raise InputError(
            "mlp_gates() draws SwiGLU, hidden = silu(gate) · up, and this trace has another, as that of "
            "Phi-3-small, whose gate is GEGLU."
        )
    return gate, up


def _summary(gate: Tensor, up: Tensor, tokens: int) -> dict[str, Tensor]:
    gate, up = gate[:tokens], up[:tokens]
    best = _strongest(gate, up, min(TOP, gate.shape[1]))
    ends, counts = zip(*(_histogram(one) for one in gate), strict=True)
    return {
        "channel": best,
        "gate": gate.gather(1, best),
        "up": up.gather(1, best),
        "range": torch.stack(ends),
        "counts": torch.stack(counts),
        **dict(zip(("negative", "closed"), _shares(gate), strict=True)),
    }


def _strongest(gate: Tensor, up: Tensor, count: int) -> Tensor:
    sizes = (silu(gate) * up).abs()
    return sizes.sort(dim=1, descending=True, stable=True).indices[:, :count]


def _shares(gate: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each token's gates that are below zero, and that are nearly closed: (t) each."""
    return (gate < 0).double().mean(dim=1), (silu(gate).abs() < CLOSED).double().mean(dim=1)


def _histogram(gate: Tensor) -> tuple[Tensor, Tensor]:
    """Ends that hold every gate and the bend of the curve, and how many gates lie in each part between."""
    ends = torch.stack((gate.min().clamp_max(-6).floor(), gate.max().clamp_min(4).ceil()))
    return ends, torch.histc(gate, bins=_BINS, min=ends[0].item(), max=ends[1].item())


def _digest(head: str, gate: Tensor, up: Tensor, names: list[str]) -> str:
    rows = range(max(0, len(names) - _LINES), len(names))
    hidden = (silu(gate) * up)[rows.start :]
    scale = 10 * hidden.abs().max().item()  # three digits of the largest
    negative, closed = _shares(gate)
    best = _strongest(gate, up, 3).tolist()
    note = "" if rows.start == 0 else f", the last {_LINES} listed"
    columns = f"{'token':<14} gate < 0  |silu| < {CLOSED}  strongest channels: hidden value"
    lines = [head + note, columns]
    for token, values in zip(rows, hidden, strict=True):
        top = ", ".join(f"{channel}: {fixed(values[channel].item(), scale)}" for channel in best[token])
        shares = f"{negative[token].item():>8.0%}  {closed[token].item():>12.0%}"
        lines.append(f"{column(names[token])} {shares}  {top}")
    return "\n".join(lines)


def _draw(gate: Tensor, up: Tensor, name: str) -> "Figure":
    """The figure of one token: its gate and up (f)."""
    figure = style.new_figure(8.0, 3.7)
    parts: Any = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    left, right = parts
    best = _strongest(gate[None], up[None], min(TOP, len(gate)))[0]
    panels: Any = left.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    _draw_curve(panels, gate, best, name)
    _draw_channels(right.subplots(1, 3, sharey=True), gate[best], up[best], best)
    return figure


def _draw_curve(panels: Any, gate: Tensor, best: Tensor, name: str) -> None:
    ends, counts = _histogram(gate)
    x = torch.linspace(ends[0].item(), ends[1].item(), 300)
    curve, below = panels
    curve.axhspan(-CLOSED, CLOSED, color=style.PALE, alpha=0.6, linewidth=0, label="nearly closed")
    curve.plot(x.numpy(), silu(x).numpy(), color=style.INK, linewidth=1.2, label="silu")
    chosen = gate[best]
    curve.plot(chosen.numpy(), silu(chosen).numpy(), "o", color=style.ORANGE, label="strongest channels")
    curve.set_ylabel("silu(gate)")
    curve.set_title(f"token {style.drawable(name, 14)}", size=10)
    curve.legend(fontsize=8, loc="upper left")
    edges = torch.linspace(ends[0].item(), ends[1].item(), _BINS + 1)
    below.stairs(counts.numpy(), edges.numpy(), fill=True, color=style.BLUE)
    below.set(xlabel="gate", ylabel="channels")


def _draw_channels(panels: Any, gate: Tensor, up: Tensor, channels: Tensor) -> None:
    passed = silu(gate)
    parts = [
        ("silu(gate)", passed, style.ORANGE),
        ("× up", up, style.BLUE),
        ("= hidden", passed * up, style.INK),
    ]
    for axes, (name, values, colour) in zip(panels, parts, strict=True):
        places = list(range(len(channels)))
        axes.barh(places, values.numpy(), color=colour, height=0.7)
        axes.axvline(0, color=style.GREY, linewidth=0.8)
        axes.set_title(name, size=10)
        axes.set_yticks(places, [str(channel) for channel in channels.tolist()], size=8)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("channel")
