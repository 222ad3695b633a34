"""The logit lens: what each layer would have answered, had it been the last.

The final norm and the head, applied to the residual stream after an earlier layer, give logits as well. They
say what is *readable* there in the head's own terms, not all that is known.
Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import shaped
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS, MOST_LAYERS = 12, 33  # in the figure: 32 layers and the embedding
MOST_TOKENS_LIVE, MOST_LAYERS_LIVE = 64, 65
_IN_A_LINE = 3  # tokens of a layer in the digest


class _Grid(NamedTuple):
    """What is left of the logits: for each layer and token the best tokens, and three numbers."""

    ids: Tensor  # (l t k)
    probabilities: Tensor  # (l t k)
    entropies: Tensor  # (l t) bits
    ranks: Tensor  # (l t) the place, from 1, of the last layer's best token
    final: Tensor  # (l t) its probability


def logit_lens(
    logits: Tensor,
    labels: Sequence[str],
    decode: Callable[[int], str],
    names: Sequence[str] | None = None,
    top: int = 5,
) -> View:
    """A grid layer × token of what each layer would have said comes next, and how surely.

    logits  (l t v): `model.logits(model.norm(x))` of the residual stream after each layer, the last one last
    labels  (t) the texts of the tokens that were read
    decode  gives the text of one token id
    names   (l) what to call the layers; None: 0, 1, 2, …
    top     how many tokens of each cell a hover shows; at most 10

    The digest has a line for each layer at the last token. The figure shows the last 12 tokens, the live face
    64; of more than 33 (65) layers it shows every second, third, … and the last. Raises InputError for
    logits of another shape and for labels or names of another number.
    """
    names = _checked(logits, labels, names, top)
    layers, count, vocabulary = logits.shape
    shown = _spread(layers, MOST_LAYERS_LIVE)
    grid = _grid(logits[:, -MOST_TOKENS_LIVE:], shown, min(top, vocabulary))
    names, labels = [names[layer] for layer in shown], list(labels)[-MOST_TOKENS_LIVE:]
    seen = {token: decode(token) for token in sorted(set(grid.ids.flatten().tolist()))}
    note = f"the last {len(labels)} shown" if len(labels) < count else ""
    head = f"logit lens, {layers} layers, {count} tokens{', ' if note else ''}{note}; "
    answer = style.visible(seen[int(grid.ids[-1, -1, 0])])
    head += f"after {style.visible(labels[-1])} the answer is {answer}"
    text = "\n".join([head, *_lines(grid, names, seen)])
    alt = f"Grid of the {head}. " + _first_time(grid, names)
    data = {"names": names, "labels": labels, "texts": seen, "vocabulary": vocabulary, "note": note}
    live = Live("logit_lens", {**data, **_packed(grid)})
    return View(text, alt, lambda: _draw(grid, names, labels, seen), live=live)


def _checked(logits: Tensor, labels: Sequence[str], names: Sequence[str] | None, top: int) -> list[str]:
    """The names of all layers, once everything fits together."""
    layers, count, _ = shaped(logits, "logit_lens() takes logits (layers tokens vocabulary)", 3).shape
    names = [str(layer) for layer in range(layers)] if names is None else list(names)
    for what, given, wanted in (("labels", labels, count), ("names", names, layers)):
        if len(given) != wanted:
            raise InputError(f"{len(given)} {what} for logits of shape {tuple(logits.shape)}: give {wanted}.")
    if type(top) is not int or not 1 <= top <= 10:
        raise InputError(f"top is {top!r}; it must be a whole number from 1 to 10.")
    return names


def _packed(grid: _Grid) -> dict[str, Any]:
    """The grid for the live face: whole numbers as they are, the others in half precision."""
    return {
        name: pack(part, "float16" if part.is_floating_point() else "int32")
        for name, part in grid._asdict().items()
    }


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` layers, evenly, the last one among them."""
    every = -(-count // most)
    return list(range(count - 1, -1, -every))[::-1]


def _grid(logits: Tensor, layers: list[int], top: int) -> _Grid:
    """One layer at a time, because the softmax of all at once would need several times the memory."""
    answers = logits[-1].detach().float().argmax(dim=-1, keepdim=True)  # (t 1)
    rows = []
    for layer in layers:
        values = logits[layer].detach().float()  # (t v)
        if bool(values.isnan().any()):
            raise InputError(f"the logits of layer {layer} are not numbers (NaN): nothing can be ranked.")
        probabilities = values.softmax(dim=-1)
        best, order = probabilities.topk(top, dim=-1)
        entropies = torch.special.entr(probabilities).sum(dim=-1) / math.log(2)
        ranks = 1 + (values > values.gather(1, answers)).sum(dim=-1)
        final = probabilities.gather(1, answers)[:, 0]
        rows.append((order, best, entropies, ranks, final))
    return _Grid(*(torch.stack(parts).cpu() for parts in zip(*rows, strict=True)))


def _lines(grid: _Grid, names: Sequence[str], seen: dict[int, str]) -> list[str]:
    width = max(len(name) for name in names)
    lines = []
    for layer, name in enumerate(names):
        best = [
            f"{style.visible(seen[token])} {probability:.3f}"
            for token, probability in zip(
                grid.ids[layer, -1, :_IN_A_LINE].tolist(),
                grid.probabilities[layer, -1, :_IN_A_LINE].tolist(),
                strict=True,
            )
        ]
        lines.append(f"{name:>{width}}: {', '.join(best)}; answer at rank {_rank(grid, layer)}")
    return lines


def _rank(grid: _Grid, layer: int) -> str:
    """In the crowd of improbable tokens places change with the last bits, so there two digits have to do."""
    rank = int(grid.ranks[layer, -1])
    return str(rank) if rank < 100 else f"{float(f'{rank:.1e}'):.0f}"


def _first_time(grid: _Grid, names: Sequence[str]) -> str:
    first = next(layer for layer in range(len(names)) if (grid.ranks[layer:, -1] == 1).all())
    return f"The answer is the best from layer {names[first]} on."


def _draw(grid: _Grid, names: Sequence[str], labels: Sequence[str], seen: dict[int, str]) -> "Figure":
    layers, count = _spread(len(names), MOST_LAYERS), min(len(labels), MOST_TOKENS)
    best = grid.probabilities[layers, -count:, 0]
    width = min(1.15, 8.2 / count) if count > 5 else 1.15
    figure = style.new_figure(width * count + 1.8, 0.235 * len(layers) + 1.5)
    axes: Any = figure.add_subplot()
    image = axes.imshow(best.numpy(), cmap=style.SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    letters = max(3, int(width / 0.07))  # that fit into a cell
    for row, layer in enumerate(layers):
        for column in range(count):
            text = style.drawable(seen[int(grid.ids[layer, column - count, 0])], letters)
            colour = "white" if best[row, column] > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", family=style.MONO, size=8, color=colour)
    axes.set_xticks(
        range(count),
        [style.drawable(label, 14) for label in list(labels)[-count:]],
        family=style.MONO,
        size=8.5,
        rotation=90 if count > 8 else 0,
    )
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(layers)), [names[layer] for layer in layers], size=8)
    axes.tick_params(length=0)
    axes.set_xticks([column - 0.5 for column in range(1, count)], minor=True)
    axes.set_yticks([row - 0.5 for row in range(1, len(layers))], minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel("layer")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="probability of the best token", shrink=0.7, aspect=30)
    note = f"the last {count} tokens" if count < len(labels) else "what would come next, after each layer"
    axes.set_title(note, size=9.5)
    return figure
