"""The block-sparse rule against a slow and obvious one, the sparse attention against masked dense attention.

The masks of vLLM's `get_sparse_attn_mask` for three of `SHAPES` were compared once as well, and are equal.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tinyphi.config import BlockSparse
from tinyphi.errors import ConfigError
from tinyphi.model import blocksparse
from tinyphi.model.attention import explicit_attention
from tinyphi.model.blocksparse import block_sparse_mask, documents, head_starts, sparse_attention
from tinyphi.model.mask import Sight, positions_within, visible
from tinyphi.model.trace import NO_TRACE, Trace

SHAPES = {  # heads, tokens, rule
    "paper": (4, 40, BlockSparse(4, 2, 3)),
    "eight heads": (8, 64, BlockSparse(4, 3, 8)),
    "fewer heads than the stride": (2, 90, BlockSparse(4, 2, 8)),
    "phi-3-small": (32, 2048, BlockSparse()),
}
ALL = [Sight(slice(None), slice(None), None)]


def obvious(rule, heads, tokens):
    """The mask, written block by block: (h t t)."""
    size, step = rule.block_size, max(1, int(rule.vert_stride / heads))
    blocks = -(-tokens // size)
    mask = torch.zeros(heads, blocks * size, blocks * size, dtype=torch.bool)
    for head in range(heads):
        for i in range(blocks):
            for j in range(i + 1):
                if i - j < rule.num_local_blocks or (j + head * step + 1) % rule.vert_stride == 0:
                    mask[head, i * size : (i + 1) * size, j * size : (j + 1) * size] = True
    return mask.tril()[:, :tokens, :tokens]


def rule_mask(rule, heads, tokens):
    positions = torch.arange(tokens)[None]
    return block_sparse_mask(rule, heads, positions, positions)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_obvious_rule(shape):
    heads, tokens, rule = SHAPES[shape]
    assert torch.equal(rule_mask(rule, heads, tokens), obvious(rule, heads, tokens))


def test_the_numbers_of_phi_3_small():
    """What its last token reads of 2,048 and of 8,192, and the share of all blocks at 8,192."""
    last = block_sparse_mask(BlockSparse(), 32, torch.tensor([[2047]]), torch.arange(2048)[None])
    assert last.sum(-1).unique().tolist() == [1152]  # 16 local blocks and 2 of the other 16
    i = torch.arange(0, 8192, 64)[None]
    blocks = block_sparse_mask(BlockSparse(), 32, i, i)[0]
    assert blocks[:, -1].sum(-1).unique().tolist() == [30]  # of 128
    assert blocks.sum() / (32 * 128 * 129 / 2) == pytest.approx(0.32933623)


def test_up_to_1024_tokens_it_is_dense():
    assert torch.equal(rule_mask(BlockSparse(), 32, 1024)[5], torch.ones(1024, 1024).tril().bool())
    assert not torch.equal(rule_mask(BlockSparse(), 32, 1088)[5], torch.ones(1088, 1088).tril().bool())


def test_all_heads_together_read_everything():
    assert torch.equal(rule_mask(BlockSparse(), 8, 2048).any(0), torch.ones(2048, 2048).tril().bool())


def inputs(batch, heads, key_heads, tokens, sources, dtype=torch.float64):
    torch.manual_seed(0)
    queries = 3 * torch.randn(batch, heads, tokens, 16, dtype=dtype)
    return queries, *(3 * torch.randn(2, batch, key_heads, sources, 16, dtype=dtype))


def dense(queries, keys, values, mask):
    return F.scaled_dot_product_attention(queries, keys, values, mask, enable_gqa=True)


@settings(max_examples=60, deadline=None)
@given(
    rule=st.builds(BlockSparse, st.integers(1, 5), st.integers(1, 4), st.integers(1, 6)),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (8, 8)]),
    sources=st.integers(1, 60),
    tokens=st.integers(1, 60),
)
def test_one_document(rule, heads, sources, tokens):
    """Prefill, decoding one token, and anything between."""
    tokens = min(tokens, sources)
    given_ = inputs(2, *heads, tokens, sources)
    positions = torch.arange(sources)[None]
    expected = dense(*given_, block_sparse_mask(rule, heads[0], positions[:, sources - tokens :], positions))
    assert (sparse_attention(*given_, rule, ALL) - expected).abs().max() < 1e-10


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=40, max_size=40), min_size=1, max_size=3),
    cut=st.integers(0, 39),
)
def test_padding_and_packing(rows, cut):
    """Documents in any order, even one within another; blocks count from the start of each."""
    rule, segments = BlockSparse(3, 2, 3), torch.tensor(rows)
    queries, keys, values = inputs(len(rows), 4, 2, 40 - cut, 40)
    positions = positions_within(segments)
    mask = visible(segments[:, cut:], positions[:, cut:], segments, positions, None)[:, None]
    mask = mask & block_sparse_mask(rule, 4, positions[:, cut:], positions)
    mixed = sparse_attention(queries, keys, values, rule, documents(segments[:, cut:], segments))
    real = segments[:, None, cut:, None] > 0
    assert ((mixed - dense(queries, keys, values, mask)) * real).abs().max() < 1e-10
    assert not (mixed * ~real).any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 0.1)])
def test_phi_3_smalls_own_shape(dtype, tolerance):
    """Also in bfloat16, where scores are rounded as in explicit attention."""
    given_ = inputs(1, 32, 8, 1500, 1500, dtype)
    expected = explicit_attention(*given_, rule_mask(BlockSparse(), 32, 1500)[None], NO_TRACE)
    assert (sparse_attention(*given_, BlockSparse(), ALL) - expected).abs().max() < tolerance


@pytest.mark.parametrize("change", [1, -1])
def test_a_start_off_by_one_is_noticed(monkeypatch, change):
    right, given_ = head_starts, inputs(1, 4, 2, 60, 60)
    expected = dense(*given_, obvious(BlockSparse(3, 2, 3), 4, 60)[None])
    monkeypatch.setattr(blocksparse, "head_starts", lambda rule, heads: (right(rule, heads) + change) % 3)
    assert (sparse_attention(*given_, BlockSparse(3, 2, 3), ALL) - expected).abs().max() > 0.1


def test_fewer_products_than_dense_attention(monkeypatch):
    """What is multiplied at 4,096 tokens, counted; the clock would depend on the machine."""
    products, original = [], blocksparse._two_part_attention

    def counted(queries, near, far, too_near):
        products.append(queries.shape[2] * (near[0].shape[2] + far[0].shape[2]))
        return original(queries, near, far, too_near)

    monkeypatch.setattr(blocksparse, "_two_part_attention", counted)
    sparse_attention(*inputs(1, 2, 1, 4096, 4096, torch.float32), BlockSparse(), ALL)
    assert sum(products) < 0.55 * 4096 * 4097 / 2


def test_the_trace_has_a_mask_for_each_head(make_model):
    model = make_model(block_sparse=BlockSparse(2, 2, 3))
    ids, trace = torch.arange(20)[None], Trace()
    with torch.no_grad():
        traced = model(ids, trace=trace)
        torch.testing.assert_close(model(ids), traced, atol=1e-5, rtol=1e-5)
    assert trace["mask"].shape == (1, 20, 20)
    assert torch.equal(trace["layers.0.attention.mask"][0], obvious(BlockSparse(2, 2, 3), 6, 20))
    assert trace.axes("layers.0.attention.mask") == "b h t s"
    assert "layers.1.attention.mask" not in trace  # dense
    assert not trace["layers.0.attention.weights"][~trace["layers.0.attention.mask"]].any()


@pytest.mark.parametrize("values", [(0, 2, 3), (4, 2.0, 3), (4, 2, True)])
def test_impossible_rules_are_refused(values):
    with pytest.raises(ConfigError, match="whole number"):
        BlockSparse(*values)
