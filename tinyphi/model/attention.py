"""Grouped-query attention: every token asks, every earlier token may answer.

    one key/value head per query head     groups of query heads share one
    Q Q Q Q Q Q Q Q                       Q Q Q Q Q Q Q Q
    K K K K K K K K    (Phi-3-mini)       K       K          (Phi-3-medium: 40 heads, 10 groups)
    V V V V V V V V                       V       V

Sharing shrinks the cache, not the number of questions.
"""

from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.config import PhiConfig
from tinyphi.model.blocksparse import sparse_attention
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.linear import Linear
from tinyphi.model.mask import Sight
from tinyphi.model.rope import rotate
from tinyphi.model.trace import Trace


class Attention(nn.Module):
    """Multi-head attention with rotated queries and keys; queries, keys and values come from one matrix.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1; Ainslie et al. 2023 (arXiv 2305.13245) for the
    groups; `Phi3Attention` in transformers.
    """

    def __init__(self, config: PhiConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.head_counts = [
            config.num_attention_heads,
            config.num_key_value_heads,
            config.num_key_value_heads,
        ]
        sparse = config.block_sparse
        self.block_sparse = sparse if sparse is not None and sparse.rules(layer) else None
        self.query_scale = config.query_scale
        outputs = sum(self.head_counts) * config.head_dim
        self.qkv_proj = Linear(config.hidden_size, outputs, config.linear_bias)
        self.o_proj = Linear(config.hidden_size, config.hidden_size, config.linear_bias)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        sights: Sequence[Sight],
        cache: KeyValueCache | None,
        trace: Trace,
    ) -> Tensor:
        """x (b t d), cos and sin (b t r), who sees whom → (b t d)."""
        batch, tokens, _ = x.shape
        heads = self.qkv_proj(x).view(batch, tokens, -1, self.head_dim).transpose(1, 2)  # b heads t c
        queries, keys, values = torch.split(heads, self.head_counts, dim=1)
        turned = rotate(
            heads[:, : -self.head_counts[2]], cos, sin
        )  # queries and keys turn by the same angles
        rotated_queries, rotated_keys = torch.split(turned, self.head_counts[:2], dim=1)
        if trace:
            trace.record("queries", queries, "b h t c")
            trace.record("keys", keys, "b n t c")
            trace.record("values", values, "b n t c")
            trace.record("rotated_queries", rotated_queries, "b h t c")
            trace.record("rotated_keys", rotated_keys, "b n t c")
        if self.query_scale != 1:
            rotated_queries = rotated_queries * self.query_scale
        keys = rotated_keys
        if cache is not None:
            keys, values = cache.update(self.layer, keys, values)
        if trace:
            (everything,) = sights
            assert everything.mask is not None  # for a trace the model always has one, for all tokens
            mixed = explicit_attention(rotated_queries, keys, values, everything.mask(), trace)
        elif self.block_sparse is not None:
            mixed = sparse_attention(rotated_queries, keys, values, self.block_sparse, sights)
        else:
            mixed = attention_in_pieces(rotated_queries, keys, values, sights)
        output: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        trace.record("output", output, "b t d")
        return output


def explicit_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, trace: Trace) -> Tensor:
    """Scores, mask, softmax, mix: each step visible. (b h t c), (b n s c), (b n s c), (b t s) → (b h t c).

    The mask may also be one for each head, (b h t s); it is then recorded here. The softmax is taken in
    float32, as the reference's "eager" attention does.
    """
    if mask.ndim == 3:
        mask = mask[:, None]
    else:
        trace.record("mask", mask, "b h t s")
    grouped = rearrange(queries, "b (n g) t c -> b n g t c", n=keys.shape[1])
    products = einsum(grouped, keys, "b n g t c, b n s c -> b n g t s") * queries.shape[-1] ** -0.5
    scores = rearrange(products, "b n g t s -> b (n g) t s")
    masked_scores = scores.masked_fill(~mask, float("-inf"))
    weights = masked_scores.softmax(dim=-1, dtype=torch.float32).to(queries.dtype)
    grouped_weights = rearrange(weights, "b (n g) t s -> b n g t s", n=keys.shape[1])
    mixed = einsum(grouped_weights, values, "b n g t s, b n s c -> b n g t c")
    trace.record("scores", scores, "b h t s")
    trace.record("weights", weights, "b h t s")
    all_heads: Tensor = rearrange(mixed, "b n g t c -> b (n g) t c")
    trace.record("mixed", all_heads, "b h t c")
    return all_heads


def attention_in_pieces(queries: Tensor, keys: Tensor, values: Tensor, sights: Sequence[Sight]) -> Tensor:
    """Fused attention, some queries at a time with the keys that they see; shapes as in `fused_attention`.

    In a long text a mask for all queries at once would take more memory than everything else.
    """
    mixed = []
    for tokens, seen, mask, _ in sights:
        visible = keys[:, :, seen], values[:, :, seen], None if mask is None else mask()
        mixed.append(fused_attention(queries[:, :, tokens], *visible))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=2)


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """The same result from one call that never stores the scores; shapes as in `explicit_attention`."""
    tokens, groups = queries.shape[2], queries.shape[1] // keys.shape[1]
    assert mask is not None or tokens in (1, keys.shape[2])  # else torch would align the causal mask wrongly
    if tokens == 1 and groups > 1:
        # One token has no earlier queries to hide from: let the g heads of a group be g queries of one head.
        grouped = queries.view(queries.shape[0], -1, groups, queries.shape[-1])  # b n g c
        mixed = F.scaled_dot_product_attention(grouped, keys, values, mask if mask is None else mask[:, None])
        return mixed.flatten(1, 2).unsqueeze(2)
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if mask is None else mask[:, None],
        is_causal=mask is None and tokens > 1,
        enable_gqa=groups > 1,
    )
