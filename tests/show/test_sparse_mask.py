"""sparse_mask: patterns, shares and the union; a mask that leaves something out or looks ahead is caught."""

import pytest
import torch

from tinyphi.config import BlockSparse
from tinyphi.errors import InputError
from tinyphi.model.blocksparse import block_sparse_mask
from tinyphi.show import sparse_mask


def of_rule(rule, heads, blocks):
    """The model's own mask, by blocks: (h i j)."""
    first = torch.arange(0, blocks * rule.block_size, rule.block_size)[None]
    return block_sparse_mask(rule, heads, first, first)[0]


SMALL = of_rule(BlockSparse(4, 2, 3), 4, 9)


def test_patterns_shares_and_the_last_row():
    assert sparse_mask(SMALL, 4).text.splitlines() == [
        "sparse mask, 4 heads, 9 × 9 blocks of 4 tokens: a head reads 53.3 to 64.4 % of the blocks that are "
        "not in the future",
        "the last block of queries reads 4 to 5 of 9; every head reads the nearest 2",
        "all heads together read 100.0 %",
        "heads 0 3  53.3 % ··▪··▪·■■",
        "head 1     57.8 % ·▪··▪··■■",
        "head 2     64.4 % ▪··▪··▪■■",
    ]
    assert sparse_mask(SMALL, 4).live.data["heads"] == [0, 1, 2, 0]


def test_phi_3_small_at_its_full_length():
    lines = sparse_mask(of_rule(BlockSparse(), 32, 128), 64).text.splitlines()
    assert lines[1:4] == [
        "the last block of queries reads 30 of 128; every head reads the nearest 16",
        "all heads together read 100.0 %",
        "heads 0 8 16 24   32.3 % " + "·······▪" * 14 + "■" * 16,
    ]
    assert len(lines) == 3 + 8


def test_a_short_text_is_all_nearby():
    view = sparse_mask(of_rule(BlockSparse(), 32, 16), 64)
    assert "a head reads 100.0 % of" in view.text and "every head reads the nearest 16" in view.text
    assert view.text.splitlines()[3:] == ["heads 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 … 100.0 % " + "■" * 16]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("a local block too few", "every head reads the nearest 1\n"),
        ("the same stripes in all heads", "blocks are read by no head"),
        ("a look ahead", "1 blocks are read although they lie in the future"),
    ],
)
def test_a_planted_mistake_shows(change, says):
    wrong = SMALL.clone()
    if change == "a local block too few":
        wrong = of_rule(BlockSparse(4, 1, 3), 4, 9)
    elif change == "the same stripes in all heads":
        wrong[:] = SMALL[0]
    else:
        wrong[1, 2, 5] = True
    assert says in sparse_mask(wrong, 4).text and says not in sparse_mask(SMALL, 4).text


@pytest.mark.parametrize(
    ("mask", "size"),
    [
        (torch.ones(1, 1, 1).bool(), 1),
        (SMALL, 4),
        (~SMALL, 4),
        (torch.zeros(2, 3, 3).bool(), 7),
        (of_rule(BlockSparse(1, 3, 3), 6, 12), 1),
        (of_rule(BlockSparse(), 64, 128), 64),
        (torch.rand(64, 60, 60, generator=torch.Generator().manual_seed(0)) < 0.5, 64),
    ],
)
def test_faces(examine, mask, size):
    assert examine(lambda: sparse_mask(mask, size)).live is not None


@pytest.mark.parametrize(
    ("mask", "size", "message"),
    [
        (None, 4, "this is NoneType"),
        (SMALL.float(), 4, r"this is torch.float32 \(4, 9, 9\)"),
        (SMALL[0], 4, r"\(9, 9\)"),
        (SMALL[:, :4], 4, r"\(4, 4, 9\)"),
        (SMALL[:0], 4, r"\(0, 9, 9\)"),
        (torch.ones(1, 129, 129).bool(), 4, "1 and 129"),
        (torch.ones(65, 2, 2).bool(), 4, "65 and 2"),
        (SMALL, 0, "block_size is 0"),
        (SMALL, 4.0, "block_size is 4.0"),
    ],
)
def test_bad_input(mask, size, message):
    with pytest.raises(InputError, match=message):
        sparse_mask(mask, size)


def test_the_message_tells_how_to_make_blocks_of_tokens():
    rule, t = BlockSparse(4, 2, 3), torch.arange(36)[None]
    tokens = block_sparse_mask(rule, 4, t, t)[0]
    assert torch.equal(tokens[:, rule.block_size - 1 :: rule.block_size, :: rule.block_size], SMALL)
