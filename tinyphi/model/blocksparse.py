"""Block-sparse attention: in every other layer of Phi-3-small a head reads a third of the keys, at 8k tokens.

Queries and keys are cut into blocks of 64 tokens. A block of queries reads the 16 nearest blocks of keys, its
own included, and every eighth of those further back. Which eighth depends on the head:

    head 0    │ · · ■ · · ■ · · ■ ■ ▪       ■ read   · not read   ▪ the block of the query itself
    head 1    │ · ■ · · ■ · · ■ ■ ■ ▪
    head 2    │ ■ · · ■ · · ■ · ■ ■ ▪       (3 local blocks, every third of the others)

so the heads together read everything, and each one a fraction. The layers between are dense, and pass on what
a single head did not see. Blocks count from the start of a document: neither padding nor another document in
the row moves them.

Source: Phi-3 technical report (arXiv 2404.14219), sec. 2 and fig. 1; `modeling_phi3_small.py` beside the
published weights; `get_sparse_attn_mask` in vLLM 0.9.2.
"""

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.config import BlockSparse
from tinyphi.model.mask import Sight


def block_sparse_mask(rule: BlockSparse, heads: int, positions: Tensor, key_positions: Tensor) -> Tensor:
    """True where a head's query reads a key, by their positions: (b t), (b s) → (b h t s) bool.

    The block i of the query reads the block j of the key if it is local (in Phi-3-small i - j < 16) or one of
    every so many (8), counted from another start in each head. Within the blocks, a query sees no later key.
    """
    here, there = positions[:, None, :, None], key_positions[:, None, None]
    i, j = here // rule.block_size, there // rule.block_size
    starts = head_starts(rule, heads).to(positions.device)[:, None, None]
    local = i - j < rule.num_local_blocks
    strided = j % rule.vert_stride == starts
    return (local | strided) & (there <= here)


def head_starts(rule: BlockSparse, heads: int) -> Tensor:
    """The first block that each head reads of the strided ones: (h) int64.

    Head 0 starts at the last of the first `vert_stride` blocks, the next one a block earlier (or more,
    where there are few heads).
    """
    step = max(1, rule.vert_stride // heads)
    return (-1 - step * torch.arange(heads)) % rule.vert_stride


def documents(segments: Tensor, key_segments: Tensor) -> list[Sight]:
    """Each document for itself, of tokens (b t) and source tokens (b s). Padding belongs to none."""
    found = []
    for row, (mine, theirs) in enumerate(zip(segments, key_segments, strict=True)):
        for number in torch.unique(mine[mine > 0]):
            members = (mine == number).nonzero().flatten(), (theirs == number).nonzero().flatten()
            found.append(Sight(*members, mask=None, rows=slice(row, row + 1)))
    return found


def sparse_attention(
    queries: Tensor, keys: Tensor, values: Tensor, rule: BlockSparse, each: Iterable[Sight]
) -> Tensor:
    """Attention under the block-sparse rule: (b h t c), (b n s c), (b n s c) → (b h t c).

    The same as masked dense attention, but only the blocks that are read are multiplied. In bfloat16 the
    scores are rounded to it, as in `explicit_attention`.
    each: the documents. Their tokens here are the last ones of their keys; other tokens, padding, get zeros.
    """
    mixed = torch.zeros_like(queries)
    for here, there, _, rows in each:
        parts = queries[rows, :, here], keys[rows, :, there], values[rows, :, there]
        mixed[rows, :, here] = _document_attention(*parts, rule)
    return mixed


def _document_attention(queries: Tensor, keys: Tensor, values: Tensor, rule: BlockSparse) -> Tensor:
    """`sparse_attention` within one document, whose last t tokens are the queries: block by block.

    The local keys lie side by side, and the query heads of a group share them. The strided ones differ from
    head to head; they are gathered once for all blocks, of which the later ones read more.
    """
    size, heads, sources = rule.block_size, queries.shape[1], keys.shape[2]
    start = sources - queries.shape[2]
    places = _strided_places(rule, heads, sources).to(keys.device)
    of_head = torch.arange(heads, device=keys.device)[:, None] // (heads // keys.shape[1])
    far = [part[:, of_head, places.clamp(max=sources - 1)] for part in (keys, values)]  # b h s c
    mixed = []
    for i in range(start // size, (sources - 1) // size + 1):
        tokens = slice(max(start, i * size), min(sources, (i + 1) * size))
        nearest = _first_local(rule, i)
        local = slice(nearest * size, tokens.stop)
        strided = slice(0, -(-nearest // rule.vert_stride) * size)  # rounded up: a head may read less
        mixed.append(
            _two_part_attention(
                queries[:, :, tokens.start - start : tokens.stop - start],
                (keys[:, :, local], values[:, :, local]),
                (far[0][:, :, strided], far[1][:, :, strided]),
                too_near=places[:, strided] >= nearest * size,
            )
        )
    return torch.cat(mixed, dim=2)


def _two_part_attention(
    queries: Tensor, near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], too_near: Tensor
) -> Tensor:
    """One softmax over two sets of keys: (b h t c), near ones (b n s c), far ones of each head (b h m c).

    The queries belong to the last t of the near keys. too_near: (h m), far keys to leave out.
    """
    tokens = queries.shape[2]
    queries = queries * queries.shape[-1] ** -0.5
    grouped = rearrange(queries, "b (n g) t c -> b n (g t) c", n=near[0].shape[1])
    close = rearrange(grouped @ near[0].mT, "b n (g t) s -> b (n g) t s", t=tokens)
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=queries.device).triu(1)
    close[..., -tokens:].masked_fill_(later, float("-inf"))
    distant = (queries @ far[0].mT).masked_fill_(too_near[:, None], float("-inf"))
    scores = torch.cat((distant, close), dim=-1)
    exact = torch.promote_types(queries.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=exact).to(queries.dtype)
    of_distant, of_close = torch.split(weights, [distant.shape[-1], close.shape[-1]], dim=-1)
    of_close = rearrange(of_close, "b (n g) t s -> b n (g t) s", n=near[0].shape[1])
    mixed: Tensor = rearrange(of_close @ near[1], "b n (g t) c -> b (n g) t c", t=tokens)
    return mixed + of_distant @ far[1]


def _first_local(rule: BlockSparse, i: int) -> int:
    """The first of the local blocks that block i of the queries reads."""
    return max(0, i - rule.num_local_blocks + 1)


def _strided_places(rule: BlockSparse, heads: int, sources: int) -> Tensor:
    """The keys, as many for each head, that the last queries read besides the local ones: → (h m)."""
    nearest = _first_local(rule, (sources - 1) // rule.block_size)
    blocks = head_starts(rule, heads)[:, None] + torch.arange(0, nearest, rule.vert_stride)
    return (blocks[..., None] * rule.block_size + torch.arange(rule.block_size)).flatten(1)
