"""Block-sparse attention of Phi-3-small beside dense attention on the same numbers. The command sparse."""

from collections.abc import Iterator
from functools import partial

import torch

from tinyphi.bench.long import Reach, lengths
from tinyphi.bench.timing import SPEEDS, in_turn, seconds, speed_rows
from tinyphi.config import BlockSparse, PhiConfig
from tinyphi.model.attention import fused_attention
from tinyphi.model.blocksparse import sparse_attention
from tinyphi.model.mask import Sight

SMALL = PhiConfig.preset("phi-3-small-8k")


@torch.inference_mode()
def bench_sparse(reach: Reach) -> Iterator[str]:
    """Yield a table for each dtype: attention of one layer of Phi-3-small over prompts that double."""
    rule = SMALL.block_sparse
    assert rule is not None
    heads, groups, c = SMALL.num_attention_heads, SMALL.num_key_value_heads, SMALL.head_dim
    yield (
        f"Attention of one layer of Phi-3-small, {heads} heads of {c} channels, random numbers: "
        "block-sparse, and dense with torch's fused kernel.\n"
    )
    yield SPEEDS
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for tokens in lengths(reach.longest):
            queries = torch.randn(1, heads, tokens, c, dtype=dtype)
            keys, values = torch.randn(2, 1, groups, tokens, c, dtype=dtype)
            yield from _rows(f"{name}, {tokens:,} tokens", queries, keys, values, rule, reach.runs)


def _rows(
    work: str,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rule: BlockSparse,
    runs: int,
) -> list[str]:
    """Both ways in turn: (1 h t c), (1 n t c), (1 n t c) → two rows."""
    everything = [Sight(slice(None), slice(None), None)]
    sides = {
        "block-sparse": partial(seconds, partial(sparse_attention, queries, keys, values, rule, everything)),
        "dense": partial(seconds, partial(fused_attention, queries, keys, values, None)),
    }
    return speed_rows(work, queries.shape[2], in_turn(sides, runs, work))
