"""A generation, step by step: what was chosen, how sure the model was, what was cut, how the cache grew."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.probabilities import entropy_bits
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64  # steps shown


@dataclass(frozen=True)
class _Row:
    token: str
    id: int
    probability: float
    entropy: float  # bits
    cut: float  # probability mass that the sampler took away
    cache: str


def generation(trace: Any, decode: Callable[[int], str]) -> View:
    """A table of the steps of a `GenerationTrace`; `decode` gives the text of one token id.

    Columns: the chosen token, its probability, the entropy of the distribution in bits, the probability mass
    the sampler cut, and the size of the cache. The last 64 steps are shown. Raises InputError without steps.
    """
    steps: Sequence[Any] = trace.steps
    if not steps:
        raise InputError("this trace has no steps yet: pass it to generate(…, trace=trace) first.")
    rows = [_row(step, decode) for step in steps[-MOST:]]
    first = len(steps) - len(rows)
    note = f", the last {MOST} shown" if first else ""
    head = f"{len(steps)} steps{note}"
    lines = [
        f"{first + place:>4}  {row.probability:.3f}  {row.entropy:6.2f}  {row.cut:.3f}  {row.cache:>9}  "
        f"{row.id:>6} {style.visible(row.token)}"
        for place, row in enumerate(rows)
    ]
    columns = "step  prob.    bits    cut      cache      id token"
    text = "\n".join([head, columns, *lines])
    alt = f"A generation of {head}: " + "".join(row.token for row in rows)
    return View(text, alt, lambda: _draw(rows, first, note), _markup(rows, first, head))


def _row(step: Any, decode: Callable[[int], str]) -> _Row:
    values = step.probabilities.detach().double().cpu()
    kept = step.kept.detach().cpu().bool()
    cut = values[~kept].sum().item()
    return _Row(
        decode(step.id), step.id, values[step.id].item(), entropy_bits(values), cut, _size(step.cache_bytes)
    )


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


def _markup(rows: Sequence[_Row], first: int, head: str) -> str:
    titles = ("step", "token", "id", "probability", "", "entropy (bits)", "cut", "cache")
    lines = ["".join(f"<th>{title}</th>" for title in titles)]
    for place, row in enumerate(rows):
        token = html.escape(style.visible(row.token))
        width = round(row.probability * 60)
        bar = f'<div style="height:9px;width:{width}px;background:{style.BLUE}"></div>'
        numbers = [f"{row.probability:.3f}", bar, f"{row.entropy:.2f}", f"{row.cut:.3f}", row.cache]
        cells = "".join(f"<td>{entry}</td>" for entry in [str(row.id), *numbers])
        look = f"text-align:left;background:{style.TINTS[place % len(style.TINTS)]}"
        lines.append(f'<td>{first + place}</td><td style="{look}">{token}</td>{cells}')
    body = "".join(f'<tr style="background:#fff;text-align:right">{line}</tr>' for line in lines)
    return (
        '<div style="background:#fff;color:#222;padding:6px;max-height:420px;overflow:auto;'
        f'font-family:monospace"><div>{html.escape(head)}</div>'
        f'<table cellpadding="3" style="color:#222">{body}</table></div>'
    )


def _draw(rows: Sequence[_Row], first: int, note: str) -> "Figure":
    figure = style.new_figure(min(8.5, max(4.5, 0.32 * len(rows) + 1.2)), 4.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    places = range(first, first + len(rows))
    upper.bar(
        places, [row.probability for row in rows], color=style.BLUE, label="probability of the chosen token"
    )
    cuts = [row.cut for row in rows]
    upper.bar(
        places,
        [-cut for cut in cuts],
        color=style.PALE,
        hatch="////",
        edgecolor=style.GREY,
        label="cut by the sampler",
    )
    upper.axhline(0, color=style.GREY, linewidth=0.8)
    upper.set(ylim=(-1.05 if max(cuts) > 0.35 else -0.4 if max(cuts) > 0 else 0, 1.02), ylabel="probability")
    upper.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.1f}")  # cuts hang below the line
    upper.margins(x=0.02)
    lower.plot(places, [row.entropy for row in rows], color=style.RED, marker="o", markersize=3)
    lower.set(ylim=(0, None), ylabel="entropy (bits)")
    names = [style.drawable(row.token, 12) for row in rows]
    lower.set_xticks(places, names, rotation=90, family=style.MONO, size=8 if len(rows) <= 40 else 6)
    figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    if note:
        lower.set_xlabel(f"steps{note}")
    return figure
