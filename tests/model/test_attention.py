"""Explicit and fused attention against each other and against torch."""

import pytest
import torch

from tinyphi.model.attention import explicit_attention, fused_attention
from tinyphi.model.trace import NO_TRACE, Trace

SHAPES = [(1, 4, 4, 9, 9), (2, 6, 2, 9, 9), (3, 6, 2, 1, 9), (2, 6, 1, 4, 11), (2, 4, 4, 1, 5)]


def inputs(batch, heads, key_heads, tokens, sources, channels=8):
    torch.manual_seed(0)
    queries = 3 * torch.randn(batch, heads, tokens, channels)
    keys, values = 3 * torch.randn(2, batch, key_heads, sources, channels)
    mask = torch.ones(batch, tokens, sources, dtype=torch.bool).tril(sources - tokens)
    return queries, keys, values, mask


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_equals_explicit(shape):
    queries, keys, values, mask = inputs(*shape)
    mask[:, :, 0] = False
    mask[:, 0, 0] = True
    explicit = explicit_attention(queries, keys, values, mask, NO_TRACE)
    torch.testing.assert_close(fused_attention(queries, keys, values, mask), explicit, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[3] in (1, shape[4])])
def test_no_mask_is_the_causal_mask(shape):
    queries, keys, values, mask = inputs(*shape)
    torch.testing.assert_close(
        fused_attention(queries, keys, values, None), fused_attention(queries, keys, values, mask)
    )


def test_neighbouring_query_heads_share_a_key_head():
    queries, keys, values, mask = inputs(1, 6, 2, 5, 5)
    mixed = explicit_attention(queries, keys, values, mask, NO_TRACE)
    for head in range(6):
        alone = explicit_attention(
            queries[:, head : head + 1],
            keys[:, head // 3][:, None],
            values[:, head // 3][:, None],
            mask,
            NO_TRACE,
        )
        torch.testing.assert_close(mixed[:, head : head + 1], alone)


def test_the_trace_holds_scores_and_weights():
    queries, keys, values, mask = inputs(2, 6, 2, 9, 9)
    trace = Trace()
    explicit_attention(queries, keys, values, mask, trace)
    assert trace["weights"].shape == (2, 6, 9, 9)
    torch.testing.assert_close(trace["weights"].sum(-1), torch.ones(2, 6, 9))
    assert not trace["weights"].masked_select(~mask[:, None]).any()
    expected = queries[0, 4, 3] @ keys[0, 1, 2] / 8**0.5
    torch.testing.assert_close(trace["scores"][0, 4, 3, 2], expected)
