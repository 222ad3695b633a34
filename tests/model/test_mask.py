"""One rule for causality, padding, packing and the window, against a slow and obvious one."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyphi.model.mask import is_one_document, positions_within, visible

ROWS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def obvious(segments, window):
    """Count by hand, token by token."""
    seen = [[False] * len(segments) for _ in segments]
    for query, mine in enumerate(segments):
        for key in range(len(segments)):
            between = sum(number == mine for number in segments[key:query])
            if segments[key] == mine and key <= query and (window is None or between < window):
                seen[query][key] = True
    return torch.tensor(seen)


@given(ROWS, st.sampled_from([None, 1, 2, 5]))
def test_equals_the_obvious_rule_for_real_tokens(row, window):
    segments = torch.tensor([row])
    positions = positions_within(segments)
    mask = visible(segments, positions, segments, positions, window)[0]
    real = segments[0] > 0
    assert torch.equal(mask[real], obvious(row, window)[real])
    assert mask.diagonal().all()  # nobody is left with nothing to see


@given(ROWS)
def test_positions_count_within_a_segment(row):
    positions = positions_within(torch.tensor([row]))[0].tolist()
    for place, number in enumerate(row):
        assert positions[place] == (row[:place].count(number) if number else 0)


def test_the_window_counts_the_token_itself():
    segments = torch.ones(1, 10, dtype=torch.int64)
    positions = positions_within(segments)
    assert visible(segments, positions, segments, positions, 4)[0, -1].sum() == 4


def test_segment_numbers_may_be_huge():
    assert positions_within(torch.tensor([[2**40, 2**40, 5]])).tolist() == [[0, 1, 0]]


def test_one_document():
    assert is_one_document(torch.tensor([[1, 1], [2, 2]]))
    assert not is_one_document(torch.tensor([[1, 2]]))
    assert not is_one_document(torch.tensor([[0, 0]]))
