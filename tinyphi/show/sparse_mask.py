"""Which blocks of keys each head reads, and what all heads read together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BLOCKS, MOST_HEADS = 128, 64
_PANELS = 3  # patterns that the figure shows beside the union
_ROWS = 8  # patterns in the digest
_IN_A_LINE = 16  # numbers of heads

# What a cell is, for the colours.
_FUTURE, _UNREAD, _LOCAL, _FAR, _AGAINST = range(5)
_COLOURS = ("#FFFFFF", "#E3E3E3", style.BLUE, style.ORANGE, style.INK)
_WORDS = ("in the future", "not read", "read, nearby", "read, further back", "read in the future")
_SIGNS = " ·■▪!"


@dataclass(frozen=True)
class _Pattern:
    """Heads that read the same, and what they read."""

    heads: list[int]
    reads: Tensor  # (i j) bool
    kinds: Tensor  # (i j) uint8


def sparse_mask(blocks: Tensor, block_size: int) -> View:
    """A block-sparse mask (h i j) bool: True where queries of block i read keys of block j in head h.

    block_size   tokens in a block, to tell which tokens a cell stands for

    Queries and keys are cut into the same blocks. "Nearby" are the blocks before a query's own, it included,
    that every head reads without a gap; they are read off the mask. Heads that read the same are one pattern.
    The digest has the share of the blocks that are not in the future, for each pattern and for all heads
    together; and, in signs, what the last block of queries reads. A cell that is read in the future stands
    out. The live face shows every head, and who else reads a cell.
    Source of such masks: Phi-3 technical report (arXiv 2404.14219), fig. 1. Raises InputError for other
    shapes, and for more than 128 blocks or 64 heads.
    """
    blocks = _checked(blocks, block_size)
    heads, count, _ = blocks.shape
    near = _nearby(blocks)
    patterns = _patterns(blocks, near)
    causal = torch.ones(count, count, dtype=torch.bool).tril()
    readers = blocks.sum(0)
    shares = [float((pattern.reads & causal).sum() / causal.sum()) for pattern in patterns]
    together = float(((readers > 0) & causal).sum() / causal.sum())
    one = _range([f"{100 * share:.1f}" for share in shares]) + " %"
    last = _range([str(int(pattern.reads[-1].sum())) for pattern in patterns])
    head = (
        f"sparse mask, {_counted(heads, 'head')}, {count} × {count} blocks of {block_size} tokens: a head "
        f"reads {one} of the blocks that are not in the future"
    )
    text = "\n".join(
        [
            head,
            f"the last block of queries reads {last} of {count}; every head reads the nearest {near}",
            f"all heads together read {100 * together:.1f} %",
            *_against(readers, causal),
            *_lines(patterns, shares),
        ]
    )
    alt = f"Maps of a {head}; all together read {100 * together:.1f} %."
    data = {
        "size": block_size,
        "near": near,
        "heads": [next(p for p, found in enumerate(patterns) if h in found.heads) for h in range(heads)],
        "kinds": pack(torch.stack([pattern.kinds for pattern in patterns]), "uint8"),
        "readers": pack(readers, "uint8"),
        "colours": _COLOURS,
        "words": _WORDS,
        "shares": [round(100 * share, 1) for share in (*shares, together)],
    }
    return View(text, alt, lambda: _draw(patterns, readers, near), live=Live("sparse_mask", data))


def _checked(blocks: Tensor, block_size: int) -> Tensor:
    if (
        not isinstance(blocks, Tensor)
        or blocks.dtype != torch.bool
        or blocks.dim() != 3
        or blocks.numel() == 0
        or blocks.shape[1] != blocks.shape[2]
    ):
        what = (
            f"{blocks.dtype} {tuple(blocks.shape)}" if isinstance(blocks, Tensor) else type(blocks).__name__
        )
        raise InputError(
            "sparse_mask() takes a mask (h i j) of booleans, for as many blocks of queries as of keys; this "
            f"is {what}. Of a mask of tokens (h t t) in whole blocks, give mask[:, size - 1 :: size, ::size]."
        )
    if blocks.shape[0] > MOST_HEADS or blocks.shape[1] > MOST_BLOCKS:
        raise InputError(
            f"sparse_mask() shows up to {MOST_HEADS} heads and {MOST_BLOCKS} blocks; these are "
            f"{blocks.shape[0]} and {blocks.shape[1]}. Give some of the heads, or a shorter text."
        )
    if not isinstance(block_size, int) or isinstance(block_size, bool) or block_size < 1:
        raise InputError(f"block_size is {block_size!r}; it is a whole number of tokens, at least 1.")
    return blocks.detach().cpu()


def _distances(count: int) -> Tensor:
    """(i j): how many blocks back the keys are; negative in the future."""
    return torch.arange(count)[:, None] - torch.arange(count)


def _nearby(blocks: Tensor) -> int:
    """How many of the nearest blocks every head reads, in every block of queries that has so many."""
    read, distance = blocks.all(0), _distances(blocks.shape[1])
    missing = distance[~read & (distance >= 0)]
    return int(missing.min()) if missing.numel() else blocks.shape[1]


def _patterns(blocks: Tensor, near: int) -> list[_Pattern]:
    """The heads, put together where they read the same, in the order of the first of each."""
    heads: dict[bytes, list[int]] = {}
    for head, reads in enumerate(blocks):
        heads.setdefault(reads.numpy().tobytes(), []).append(head)
    return [_Pattern(same, blocks[same[0]], _kinds(blocks[same[0]], near)) for same in heads.values()]


def _kinds(reads: Tensor, near: int) -> Tensor:
    distance = _distances(len(reads))
    kinds = torch.where(reads, torch.where(distance < near, _LOCAL, _FAR), _UNREAD)
    return torch.where(distance < 0, torch.where(reads, _AGAINST, _FUTURE), kinds).to(torch.uint8)


def _against(readers: Tensor, causal: Tensor) -> list[str]:
    """Warnings: what nobody reads, what somebody reads too early."""
    unread, early = int(((readers == 0) & causal).sum()), int(((readers > 0) & ~causal).sum())
    lines = [f"{unread} blocks are read by no head"] if unread else []
    return [*lines, f"{early} blocks are read although they lie in the future"] if early else lines


def _lines(patterns: list[_Pattern], shares: list[float]) -> list[str]:
    """The heads of the first patterns, their share, and the last row in signs."""
    shown = patterns[:_ROWS]
    names = [_names(pattern.heads) for pattern in shown]
    width = max(len(name) for name in names)
    lines = [
        f"{name:<{width}} {100 * share:5.1f} % {''.join(_SIGNS[kind] for kind in pattern.kinds[-1].tolist())}"
        for name, pattern, share in zip(names, shown, shares, strict=False)
    ]
    more = len(patterns) - len(shown)
    return [*lines, f"and {_counted(more, 'other pattern')}"] if more else lines


def _names(heads: list[int]) -> str:
    shown = " ".join(str(head) for head in heads[:_IN_A_LINE])
    return f"head{'s' if len(heads) > 1 else ''} {shown}{' …' if len(heads) > _IN_A_LINE else ''}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _range(values: list[str]) -> str:
    """What is shown for all heads; the smallest and the largest where they differ."""
    low, high = min(values, key=float), max(values, key=float)
    return low if low == high else f"{low} to {high}"


def _draw(patterns: list[_Pattern], readers: Tensor, near: int) -> "Figure":
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    shown = patterns if len(patterns) <= _PANELS else [*patterns[: _PANELS - 1], patterns[-1]]
    count = len(readers)
    figure = style.new_figure(2.5 * (len(shown) + 1) + 0.7, 3.5)
    panels: Any = figure.subplots(1, len(shown) + 1, sharey=True)
    for axes, pattern in zip(panels, shown, strict=False):
        colours: Any = {"cmap": ListedColormap(_COLOURS), "vmin": -0.5, "vmax": len(_COLOURS) - 0.5}
        axes.imshow(pattern.kinds.numpy(), extent=(0, count, count, 0), **colours)
        axes.set_title(_names(pattern.heads[:4]) + (" …" if len(pattern.heads) > 4 else ""), size=10)
    heads = sum(len(pattern.heads) for pattern in patterns)
    causal = torch.ones(count, count).tril().bool()
    counts = readers.double().masked_fill(~causal & (readers == 0), float("nan"))
    image = panels[-1].imshow(
        counts.numpy(), extent=(0, count, count, 0), cmap=style.SEQUENTIAL, vmin=-0.15 * heads, vmax=heads
    )
    panels[-1].set_title("heads that read it", size=10)
    bar = figure.colorbar(image, ax=panels[-1], shrink=0.62, pad=0.03, ticks=sorted({0, heads // 2, heads}))
    bar.ax.set_ylim(0, heads)
    for axes in panels:
        axes.set_xlabel("block of keys")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("block of queries")
    used = {kind for pattern in shown for kind in pattern.kinds.flatten().tolist()} - {_FUTURE}
    names = {**dict(enumerate(_WORDS)), _LOCAL: f"read, the nearest {near}"}
    patches = [Patch(facecolor=_COLOURS[kind], label=names[kind]) for kind in sorted(used)]
    figure.legend(handles=patches, loc="outside lower left", ncols=len(patches), fontsize=9)
    return figure
