"""Where attention looks: every head of a forward pass, or one head of your own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, pad

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import check_sources, finite
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS, MOST_HEADS = 64, 12  # in a figure
MOST_TOKENS_SMALL = 32  # in the small pictures of many heads
_ROWS_OF_TEXT = 12
_THUMBNAIL_BYTES = 300_000  # small pictures of all heads of all layers
_EXACT_BYTES = 1_500_000  # queries and keys that travel with the page; base64 makes a third more of them
_PARTS = ("rotated_queries", "rotated_keys", "scores", "weights")
_PATTERNS = {  # how the text and the ranking call them
    "entropy": "entropy",
    "first": "first token",
    "previous": "token before",
    "itself": "itself",
    "induction": "induction",
}


def attention(
    trace: Mapping[str, Tensor], labels: Sequence[str], layer: int = 0, head: int = 0, row: int = 0
) -> View:
    """The explorer: all heads of all layers of one forward pass, and the arithmetic of every single weight.

    trace   of `model(ids, trace=trace)`; of a batch, `row` is shown
    labels  (s) the texts of the source tokens; the queries are the last t of them
    layer, head   where to begin

    The live view has a picture of every head, one head large (cells or lines), the way of a cell from q·k to
    its weight, and a ranking of all heads by what they do. Without a kernel it holds the exact numbers of the
    chosen layer and of the top heads as far as they fit into 2 MB, and says so where it has only the picture.
    The text gives a line for each head of the layer, the top heads of all layers, and where the last tokens
    look. Raises InputError when the trace holds no attention or something is out of range.
    """
    run = _Pass.read(trace, labels, row)
    weights = run.weights(layer, head)
    found = [head_patterns(run.layer(number), run.labels) for number in range(run.layers)]
    size = f"{run.heads} heads, {weights.shape[0]} queries × {weights.shape[1]} sources"
    first = f"attention, layer {layer} of 0–{run.layers - 1}, {size}"
    lines = [f"head {number}: {_habits(found[layer], number)}" for number in range(run.heads)]
    looks = _looks(weights[-_ROWS_OF_TEXT:], run.labels)
    large = f"layer {layer}, head {head}:"
    if difference := run.differs(layer, head):
        large += (
            f" (not the softmax of the recorded q·k under the mask: they differ by up to {difference:.2f})"
        )
    text = "\n".join([first, *lines, f"top heads: {_top_heads(found)}", large, *looks])
    alt = f"Heat maps of {first}; head {head} large. " + "; ".join(looks[-3:])
    return View(
        text,
        alt,
        lambda: _draw_explorer(run, layer, head),
        live=Live("attention", _explorer_data(run, found, layer, head), run.answer),
    )


def attention_head(weights: Tensor, labels: Sequence[str]) -> View:
    """One head's attention weights (t s) as a heat map; each row says where one token looks.

    labels (s) are the texts of the source tokens; the queries are the last t of them. Of a long input the
    last 64 tokens are shown. Raises InputError when shapes do not fit.
    """
    values = finite(weights, 2, "attention_head() takes one head (t s), such as weights[0, head]")
    check_sources(values.shape[0], values.shape[1], labels)
    if not bool(((values >= 0) & (values <= 1.001)).all()):
        raise InputError(
            f"attention weights lie between 0 and 1, not {values.min():.4g} to {values.max():.4g}; "
            "if they are scores, take the softmax first."
        )
    window = values[-MOST_TOKENS:, -MOST_TOKENS:].clone()  # a view would keep all of a long text alive
    columns = list(labels)[-MOST_TOKENS:]
    rows = columns[-window.shape[0] :]
    note = f", the last {window.shape[1]} tokens shown" if window.shape != values.shape else ""
    habits = _habits(head_patterns(values[None], None), 0)
    first = f"attention, {values.shape[0]} queries × {values.shape[1]} sources{note}; {habits}"
    looks = _looks(window, columns)
    alt = f"Heat map of {first}. " + "; ".join(looks[-3:])
    text = "\n".join([first, *looks[-_ROWS_OF_TEXT:]])
    data = {
        "title": f"{values.shape[0]} queries × {values.shape[1]} sources{note}",
        "rows": rows,
        "columns": columns,
        "weights": pack(window, "float32"),
        "sums": [float(f"{one:.6g}") for one in values[-window.shape[0] :].sum(dim=-1).tolist()],
        "cut": note != "",
    }
    return View(text, alt, lambda: _draw_head(window, rows, columns, note), live=Live("attention_head", data))


def head_patterns(weights: Tensor, labels: Sequence[str] | None) -> dict[str, Tensor]:
    """What each head mostly does: weights (h t s) → scores, each (h), as means over its queries.

    entropy    of a row, in bits: 0 looks at one token, log2(s) at all alike
    first      weight on source 0, where heads with nothing to do park it (the attention sink)
    previous   weight on the token before the query
    itself     weight on the query's own token
    induction  weight on the tokens that followed an earlier copy of the query's token, as
               `induction_targets` finds them; missing when no token has one, or without labels
    """
    weights = weights.detach().cpu().float()
    queries, sources = weights.shape[-2:]
    rows, own = torch.arange(queries), torch.arange(sources - queries, sources)
    later = own > 0
    before = weights[:, rows[later], own[later] - 1]
    scores = {
        "entropy": torch.xlogy(weights, weights).sum(-1).mean(-1).abs() / math.log(2),
        "first": weights[:, :, 0].mean(-1),
        "previous": before.mean(-1) if before.shape[1] else torch.zeros(len(weights)),
        "itself": weights[:, rows, own].mean(-1),
    }
    targets = induction_targets(labels)[-queries:] if labels is not None else torch.zeros(0, 1).bool()
    asked = targets.any(dim=-1)
    if asked.any():
        scores["induction"] = (weights[:, asked] * targets[asked]).sum(-1).mean(-1)
    return scores


def induction_targets(labels: Sequence[str]) -> Tensor:
    """(s s) bool: True at [i, j] when token j−1 is an earlier copy of token i, so that j followed it. j < i.

    Olsson et al. 2022 (arXiv 2209.11895): a head that looks there can repeat what came next the last time.
    """
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    ids = torch.tensor([numbers[label] for label in labels])
    same = ids[:, None] == ids[None, :]
    return torch.cat([torch.zeros(len(ids), 1, dtype=torch.bool), same[:, :-1]], dim=1).tril(-1)


@dataclass(frozen=True)
class _Pass:
    """The attention of one row of a forward pass."""

    parts: Mapping[str, Tensor]  # those of _PARTS, of all layers
    labels: list[str]
    row: int
    layers: int
    heads: int
    mask: Tensor  # (t s) bool

    @classmethod
    def read(cls, trace: Mapping[str, Tensor], labels: Sequence[str], row: int) -> "_Pass":
        if not isinstance(trace, Mapping) or "layers.0.attention.weights" not in trace:
            raise InputError(
                "attention() takes a trace that holds attention weights: trace = tinyphi.Trace(), then "
                "model(ids, trace=trace). For weights of your own there is attention_head()."
            )
        layers = 0
        while f"layers.{layers}.attention.weights" in trace:
            layers += 1
        batch, heads, queries, sources = trace["layers.0.attention.weights"].shape
        if not 0 <= row < batch:
            raise InputError(f"row {row} of a batch of {batch}: rows count from 0.")
        check_sources(queries, sources, labels)
        mask = trace["mask"][row].detach().cpu()
        # Not the whole trace: the view keeps what it needs for as long as its widget's kernel runs.
        parts = {name: trace[name] for name in trace if name.rpartition(".")[2] in _PARTS}
        return cls(parts, list(labels), row, layers, heads, mask)

    def layer(self, layer: int) -> Tensor:
        """The weights (h t s) of a layer."""
        weights = self.part(layer, "weights")
        if not weights.isfinite().all():
            raise InputError(
                f"the attention weights of layer {layer} are not finite. Follow the trace with show() to see "
                "where NaN or infinity first appears."
            )
        return weights

    def weights(self, layer: int, head: int) -> Tensor:
        """The weights (t s) of one head."""
        if not 0 <= layer < self.layers or not 0 <= head < self.heads:
            raise InputError(
                f"layer {layer}, head {head}: this trace has layers 0–{self.layers - 1} with heads "
                f"0–{self.heads - 1}."
            )
        return self.layer(layer)[head].double()

    def part(self, layer: int, name: str) -> Tensor:
        return self.parts[f"layers.{layer}.attention.{name}"][self.row].detach().cpu()

    def exact(self, layer: int, head: int) -> dict[str, Tensor]:
        """What the weights of a head can be computed from: queries (t c) and keys (s c).

        Behind a cache the trace lacks the earlier keys; then it is the scores (t s), which it has.
        """
        keys = self.part(layer, "rotated_keys")  # n t c
        if keys.shape[1] != len(self.labels):
            return {"scores": self.part(layer, "scores")[head]}
        group = self.heads // len(keys)
        return {"queries": self.part(layer, "rotated_queries")[head], "keys": keys[head // group]}

    def scale(self) -> float:
        """What q·k is multiplied with: 1/√c, unless the scores in the trace say otherwise."""
        usual = 1 / math.sqrt(self.part(0, "rotated_queries").shape[-1])
        parts = self.exact(0, 0)
        if "scores" in parts:
            return usual
        products = parts["queries"].double() @ parts["keys"].double().T
        largest = products.abs().flatten().argmax()
        if products.flatten()[largest] == 0:
            return usual
        found = float(self.part(0, "scores")[0].flatten()[largest] / products.flatten()[largest])
        return usual if math.isclose(found, usual, rel_tol=0.02) else found  # bfloat16 rounds by 0.4 %

    def differs(self, layer: int, head: int) -> float:
        """How far the recorded weights of a head are from those that its queries, keys and the mask give.

        0 when they are no further than rounding explains: of scores near 40, bfloat16 keeps no tenths.
        """
        parts = {name: part.double() for name, part in self.exact(layer, head).items()}
        scores = parts["scores"] if "scores" in parts else parts["queries"] @ parts["keys"].T * self.scale()
        computed = scores.masked_fill(~self.mask, -math.inf).softmax(dim=-1)
        recorded = self.part(layer, "weights")[head]
        near = 0.02 if recorded.dtype == torch.float32 else 0.1
        difference = float((computed - recorded.double()).abs().max())
        return difference if difference > near else 0.0

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The numbers of one head in float32, for a live view that has a kernel."""
        layer, head = int(question["layer"]), int(question["head"])
        tensors = {name: pack(part, "float32") for name, part in self.exact(layer, head).items()}
        return {"tensors": tensors, "differs": self.differs(layer, head) > 0}


def _habits(scores: dict[str, Tensor], head: int) -> str:
    """One head's scores as text."""
    words = [
        f"entropy {scores['entropy'][head].item():.2f} bits",
        f"to first token {scores['first'][head].item():.3f}",
    ]
    others = [name for name in ("previous", "itself", "induction") if name in scores]
    return ", ".join(words + [f"{_PATTERNS[name]} {scores[name][head].item():.3f}" for name in others])


def _ranking(found: list[dict[str, Tensor]], pattern: str) -> list[tuple[int, int]]:
    """(layer, head) of all heads, from the highest score down."""
    scores = torch.stack([scores[pattern] for scores in found])  # layers h
    order = torch.sort(scores.flatten(), descending=True, stable=True).indices
    return [divmod(int(place), scores.shape[1]) for place in order]


def _top_heads(found: list[dict[str, Tensor]]) -> str:
    tops = []
    for pattern, name in list(_PATTERNS.items())[1:]:
        if pattern in found[0]:
            layer, head = _ranking(found, pattern)[0]
            tops.append(f"{name} {found[layer][pattern][head].item():.3f} (layer {layer}, head {head})")
    return "; ".join(tops)


def _looks(weights: Tensor, labels: Sequence[str]) -> list[str]:
    """For each query of (t s) the three sources it looks at most; the queries are the last t labels."""
    lines = []
    for row, query in zip(weights, labels[len(labels) - len(weights) :], strict=True):
        best = torch.sort(row, descending=True, stable=True).indices[:3].tolist()
        seen = [f"{style.visible(labels[i])} {row[i].item():.3f}" for i in best if row[i] >= 0.0005]
        lines.append(f"{style.visible(query)} → {', '.join(seen)}")
    return lines


def _explorer_data(run: _Pass, found: list[dict[str, Tensor]], layer: int, head: int) -> dict[str, Any]:
    """What the script attention.js needs; the exact numbers of as many heads as there is room for."""
    scores = {
        name: [[round(value, 4) for value in one[name].tolist()] for one in found]
        for name in _PATTERNS
        if name in found[0]
    }
    edges = torch.diff(pad(run.mask.int(), (1, 1)), dim=1)  # 1 where a run of True begins, −1 behind its end
    starts, ends = (edges == 1).nonzero(), (edges == -1).nonzero()
    runs = torch.cat([starts, ends[:, 1:]], dim=1)  # query, first source, one past the last
    return {
        "labels": run.labels,
        "layer": layer,
        "head": head,
        "layers": run.layers,
        "heads": run.heads,
        "groups": len(run.part(0, "rotated_keys")),
        "queries": run.mask.shape[0],
        "channels": run.part(0, "rotated_queries").shape[-1],
        "scale": run.scale(),
        "visible": pack(runs, "int32"),
        "names": _PATTERNS,
        "scores": scores,
        "thumbnails": pack(_thumbnails(run), "uint8"),
        **_exact_heads(run, found, layer, head),
    }


def _thumbnails(run: _Pass) -> Tensor:
    """(layers h y x) uint8: 255 times the square root of the largest weight of each block."""
    room = math.isqrt(_THUMBNAIL_BYTES // (run.layers * run.heads))
    sides = [max(1, min(size, room, 32)) for size in run.mask.shape]
    small = [adaptive_max_pool2d(run.layer(number).float(), sides) for number in range(run.layers)]
    return torch.stack(small).clamp(0, 1).sqrt().mul(255).round()


def _exact_heads(run: _Pass, found: list[dict[str, Tensor]], layer: int, head: int) -> dict[str, Any]:
    """Queries and keys (or scores) in float16: of the chosen layer first, then of the top heads."""
    ranks = [_ranking(found, name) for name in found[0]]
    ranks.append(ranks[0][::-1])  # the lowest entropy
    top = [one for places in zip(*ranks, strict=True) for one in places]
    wanted = [(layer, head), *((layer, other) for other in range(run.heads)), *top]
    tensors: dict[str, Any] = {}
    sent = []
    room = _EXACT_BYTES
    for at, number in dict.fromkeys(wanted):
        group = number * len(run.part(at, "rotated_keys")) // run.heads
        parts = {
            f"{name} {at} {group if name == 'keys' else number}": part
            for name, part in run.exact(at, number).items()
        }
        new = {name: part for name, part in parts.items() if name not in tensors}
        cost = sum(2 * part.numel() for part in new.values())
        if cost <= room:
            room -= cost
            sent.append((at, number))
            tensors |= {name: pack(part, "float16") for name, part in new.items()}
    differing = [f"{at} {number}" for at, number in sent if run.differs(at, number)]
    return {"exact": tensors, "differs": differing}


def _draw_explorer(run: _Pass, layer: int, head: int) -> "Figure":
    """The heads of the layer as small pictures beside the chosen one with its labels."""
    weights = run.layer(layer).masked_fill(~run.mask, torch.nan)
    first = max(0, min(head - MOST_HEADS // 2, run.heads - MOST_HEADS))
    shown = range(first, min(run.heads, first + MOST_HEADS))
    across = math.ceil(math.sqrt(len(shown)))
    down = math.ceil(len(shown) / across)
    figure = style.new_figure(9.6, 4.9)
    parts: Any = figure.subfigures(1, 2, width_ratios=[0.42, 0.58])
    left, right = parts
    grid = left.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for number, axes in zip(shown, grid.flat, strict=False):
        _heat(axes, weights[number, -MOST_TOKENS_SMALL:, -MOST_TOKENS_SMALL:])
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.set_title(f"head {number}", size=9, weight="bold" if number == head else "normal")
        if number == head:
            axes.spines[:].set(color=style.RED, linewidth=2.5)
    some = "" if len(shown) == run.heads else f" {shown[0]}–{shown[-1]} of {run.heads}"
    left.suptitle(f"heads{some} of layer {layer}", size=10)

    window = weights[head, -MOST_TOKENS_SMALL:, -MOST_TOKENS_SMALL:]
    names = run.labels[-window.shape[1] :]
    image = _label(right.add_subplot(), window, names[-window.shape[0] :], names)
    right.colorbar(image, ax=right.axes, label="attention weight", shrink=0.8)
    note = (
        "" if window.shape == run.mask.shape else f", the last {window.shape[1]} of {len(run.labels)} tokens"
    )
    right.suptitle(f"layer {layer}, head {head}{note}", size=10)
    return figure


def _draw_head(values: Tensor, rows: list[str], columns: list[str], note: str) -> "Figure":
    side = min(7.0, max(3.2, 0.3 * len(columns)))
    figure = style.new_figure(side + 1.9, side * max(0.25, len(rows) / len(columns)) + 1.2)
    axes = figure.add_subplot()
    figure.colorbar(_label(axes, values, rows, columns), ax=axes, label="attention weight", shrink=0.8)
    if note:
        axes.set_title(note.removeprefix(", "))
    return figure


def _label(axes: Any, values: Tensor, rows: list[str], columns: list[str]) -> Any:
    """A heat map (t s) with the texts of its tokens; every other one where there is no room for all."""
    image = _heat(axes, values)
    every = 1 if len(columns) <= 32 else 2
    font: Any = {"family": style.MONO, "size": 9 if len(columns) <= 24 else 7}
    for labels, set_ticks, turned in ((columns, axes.set_xticks, 90), (rows, axes.set_yticks, 0)):
        names = [style.drawable(label, 12) for label in labels]
        set_ticks(range(0, len(labels), every), names[::every], rotation=turned, **font)
    axes.set_xlabel("looks at (source token)")
    axes.set_ylabel("token (query)")
    return image


def _heat(axes: Any, values: Tensor) -> Any:
    """The cells of one head; hidden ones (NaN) are grey.

    Colour follows the square root of the weight, so that 0.02 can still be seen.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    colours = colormaps[style.SEQUENTIAL].with_extremes(bad="#E9E9E9")
    axes.spines[:].set(visible=True, color=style.PALE)
    return axes.imshow(values.numpy(), norm=PowerNorm(0.5, 0, 1), cmap=colours, aspect="auto")
