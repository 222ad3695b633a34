"""A generation as a time machine: at every step what was likely, what was cut, what was chosen.

The live face holds the recorded distributions, so that temperature, top-k, top-p and min-p can be changed
afterwards without the model. Of each step it gets the 64 most probable logits exactly, and the others as
groups of n neighbours in rank, with two numbers each: a centre m and a spread w, for which the group adds
n · exp(m/T + w/2T²) to the sum over the vocabulary. They are chosen so that this is exact at the temperatures
1 and 2, and on SmolLM2's distributions the sum is right to one part in 50,000 for all temperatures up to 2 (a
test holds it to that). A cut is exact as long as it falls among the 64; beyond, the number of tokens it
leaves is an estimate.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import in_bytes
from tinyphi.show.live import Live, pack
from tinyphi.show.probabilities import entropy_bits
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64  # steps in the digest and in the figure
MOST_LIVE = 500  # steps in the live face: 1.5 MB of HTML
TOP = 64  # logits of a step that the live face gets exactly
_WIDER = 1.25  # each group of the others is so many times as far from the top as the one before
_LENS = 5  # tokens of each layer
_PROMPT = 80  # tokens of the prompt
_FAR = 200.0  # a logit so far below the best counts as this far: e^−100 is nothing


@dataclass(frozen=True)
class _Row:
    token: str
    id: int
    probability: float
    entropy: float  # bits
    cut: float  # probability mass that the sampler took away
    cache: str
    settled: str  # the layer from which on the lens shows the chosen token


def generation(trace: Any, decode: Callable[[int], str]) -> View:
    """The steps of a `GenerationTrace` (of its first row); `decode` gives the text of one token id.

    Columns of the digest: the chosen token, its probability, the entropy of the distribution in bits, the
    probability mass the sampler cut, the size of the cache and, if the trace recorded the lens, the layer
    from which on the chosen token was the best. Digest and figure show the last 64 steps, the live face the
    last 500. Raises InputError for what is no trace and for one without steps.
    """
    steps = getattr(trace, "steps", None)
    if not isinstance(steps, Sequence):
        raise InputError(f"generation() takes a GenerationTrace; this is a {type(trace).__name__}.")
    if not steps:
        raise InputError("this trace has no steps yet: pass it to generate(…, trace=trace) first.")
    rows = [_row(step, decode) for step in steps[-MOST:]]
    first = len(steps) - len(rows)
    note = f", the last {MOST} shown" if first else ""
    head = f"{len(steps)} steps{note}"
    lens = rows[0].settled != ""
    lines = [
        f"{first + place:>4}  {row.probability:.3f}  {row.entropy:6.2f}  {row.cut:.3f}  {row.cache:>9}  "
        + (f"{row.settled:>7}  " if lens else "")
        + f"{row.id:>6} {style.visible(row.token)}"
        for place, row in enumerate(rows)
    ]
    columns = f"step  prob.    bits    cut      cache  {'settled  ' if lens else ''}    id token"
    text = "\n".join([head, columns, *lines])
    alt = f"A generation of {head}: " + "".join(row.token for row in rows)
    return View(text, alt, lambda: _draw(rows, first, note), live=Live("generation", _data(trace, decode)))


def _row(step: Any, decode: Callable[[int], str]) -> _Row:
    values = step.probabilities.detach().double().cpu()
    kept = step.kept.detach().cpu().bool()
    cut = values[~kept].sum().item()
    probability, entropy = values[step.id].item(), entropy_bits(values)
    size = in_bytes(step.cache_bytes)
    return _Row(decode(step.id), step.id, probability, entropy, cut, size, _settled(step))


def _settled(step: Any) -> str:
    if step.lens is None:
        return ""
    others = [layer for layer, best in enumerate(step.lens.ids[:, 0].tolist()) if best != step.id]
    layer = others[-1] + 1 if others else 0
    return str(layer) if layer < len(step.lens.ids) else "–"


def _data(trace: Any, decode: Callable[[int], str]) -> dict[str, Any]:
    """What show/js/generation.js needs. Letters: n steps, k top tokens, g groups of others, l layers."""
    steps = trace.steps[-MOST_LIVE:]
    heads, others = zip(*(_distribution(step.before_temperature) for step in steps), strict=True)
    ids = torch.stack([order for order, _ in heads])  # (n k)
    chosen = torch.tensor([step.id for step in steps])
    data = {
        "first": len(trace.steps) - len(steps),
        "vocabulary": steps[0].before_temperature.numel(),
        "ids": pack(ids, "int32"),
        "logits": pack(torch.stack([values for _, values in heads])),
        "counts": [end - start for start, end in _groups(steps[0].before_temperature.numel())],
        "others": pack(torch.stack(others)),  # (n g 2) centre and spread
        "chosen": chosen.tolist(),
        "chosenLogits": pack(torch.stack([step.before_temperature[step.id].detach() for step in steps])),
        "chosenRanks": [int((s.before_temperature > s.before_temperature[s.id]).sum()) for s in steps],
        "cache": [in_bytes(step.cache_bytes) for step in steps],
        "milliseconds": [round(1000 * step.seconds, 1) for step in steps],
        "settings": _settings(trace.sampler),
        "lens": _lens(steps),
    }
    prompt = trace.prompts[0] if trace.prompts else []
    data["prompt"] = [decode(token) for token in prompt[-_PROMPT:]]
    data["promptHidden"] = max(0, len(prompt) - _PROMPT)
    seen = {*ids.flatten().tolist(), *chosen.tolist()}
    if steps[0].lens is not None:
        seen.update(token for step in steps for token in step.lens.ids[:, :_LENS].flatten().tolist())
    data["texts"] = {token: decode(token) for token in sorted(seen)}
    return data


def _groups(vocabulary: int) -> list[tuple[int, int]]:
    """The ranks below the top, in groups that grow with the distance from it."""
    edges = [min(TOP, vocabulary)]
    while edges[-1] < vocabulary:
        edges.append(min(vocabulary, math.ceil(edges[-1] * _WIDER)))
    return list(itertools.pairwise(edges))


def _distribution(logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Logits (v) → ids and logits of the top (k), of equals the lower id first; of the groups the (g 2)."""
    values, order = logits.detach().float().cpu().sort(descending=True, stable=True)
    values = values.clamp(min=values[0].item() - _FAR)
    groups = [_group(values[start:end].double()) for start, end in _groups(len(values))]
    return (order[:TOP], values[:TOP]), torch.tensor(groups).reshape(-1, 2)


def _group(logits: Tensor) -> tuple[float, float]:
    """Centre m and spread w, so that m/T + w/2T² is the logarithm of the mean of exp(logit/T) at T = 1, 2."""
    cold, warm = ((logits * beta).logsumexp(0).item() - math.log(len(logits)) for beta in (1.0, 0.5))
    return 4 * warm - cold, max(0.0, 4 * (cold - 2 * warm))


def _settings(sampler: Any) -> dict[str, Any]:
    """The sampler's settings under their own names; a greedy one has none."""
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    found = {name: getattr(sampler, name, None) for name in names}
    return {**found, "greedy": sampler is not None and found["temperature"] is None}


def _lens(steps: Sequence[Any]) -> dict[str, Any] | None:
    if steps[0].lens is None:
        return None
    return {
        "ids": pack(torch.stack([step.lens.ids[:, :_LENS] for step in steps]), "int32"),
        "probabilities": pack(torch.stack([step.lens.probabilities[:, :_LENS] for step in steps]), "float16"),
    }


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
