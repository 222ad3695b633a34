"""Every cut against transformers' logits processor of the same name; draws against the distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tinyphi.errors import InputError
from tinyphi.generation.sampling import (
    Greedy,
    Sampler,
    cut_min_p,
    cut_top_k,
    cut_top_p,
    penalise_repetition,
)

SEEDS = st.integers(0, 10**6)
SHARES = st.floats(0.01, 0.99)


def random_logits(seed, rows=3, vocabulary=50):
    return 4 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def same_cut(mine, theirs):
    return torch.equal(mine.isneginf(), theirs.isneginf())


@given(SEEDS, st.integers(1, 60))
def test_top_k(seed, k):
    logits = random_logits(seed)
    assert same_cut(cut_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@given(SEEDS, SHARES)
def test_top_p(seed, p):
    logits = random_logits(seed)
    assert same_cut(cut_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.5, 0.99, 0.9999, 1.0])
def test_top_p_on_a_real_size_of_vocabulary(p):
    logits = random_logits(7, rows=2, vocabulary=49152)
    assert same_cut(cut_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


def test_adding_up_from_the_largest_would_be_noticed():
    logits = random_logits(7, rows=1, vocabulary=49152)
    shares = logits.softmax(-1).sort(descending=True).values
    assert int((shares.cumsum(-1) - shares >= 1.0).sum()) > 100  # tokens that p = 1 would wrongly lose


@given(SEEDS, SHARES)
def test_min_p(seed, share):
    logits = random_logits(seed)
    assert same_cut(cut_min_p(logits, share), MinPLogitsWarper(share)(None, logits))


@given(SEEDS, st.floats(0.5, 2.0))
def test_repetition_penalty(seed, penalty):
    logits = random_logits(seed)
    previous = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(seed))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(previous, logits.clone())
    torch.testing.assert_close(penalise_repetition(logits, previous, penalty), theirs)


def test_padding_is_not_penalised():
    logits = torch.ones(1, 5)
    penalised = penalise_repetition(logits, torch.tensor([[-1, -1, 2]]), 2.0)
    assert penalised.tolist() == [[1, 1, 0.5, 1, 1]]


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(0.3, 3.0), st.integers(1, 40), SHARES, SHARES, st.floats(0.7, 1.5))
def test_all_together_in_the_reference_s_order(seed, temperature, k, p, share, penalty):
    logits = random_logits(seed)
    previous = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(seed))
    sampler = Sampler(temperature, k, p, share, penalty, seed=0)
    choice = sampler.choose(logits, previous, torch.Generator().manual_seed(0))
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(temperature),
            TopKLogitsWarper(k),
            TopPLogitsWarper(p),
            MinPLogitsWarper(share),
        ]
    )(previous, logits.clone())
    assert torch.equal(choice.kept, ~theirs.isneginf())
    assert torch.equal(choice.before_temperature, penalise_repetition(logits, previous, penalty))
    torch.testing.assert_close(choice.logits[choice.kept], theirs[choice.kept])
    removed = torch.stack(list(choice.cuts.values()))
    assert torch.equal(removed.any(0), ~choice.kept)
    assert int(removed.sum(0).max()) <= 1  # each token is removed by one cut
    assert choice.kept.gather(1, choice.ids[:, None]).all()


def test_another_order_would_be_noticed():
    """With top-p before top-k a different set stays, so the test above can fail."""
    logits = torch.tensor([[3.0, 2.9, 2.8, 0.0, -1.0]])
    mine = cut_top_p(cut_top_k(logits, 2), 0.5)
    other = cut_top_k(cut_top_p(logits, 0.5), 2)
    assert not same_cut(mine, other)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(20000, -1)
    sampler = Sampler(temperature=1.5)
    ids = sampler.choose(logits, torch.empty(20000, 0), torch.Generator().manual_seed(1)).ids
    expected = (logits[0] / 1.5).softmax(-1)
    found = torch.bincount(ids, minlength=4) / 20000
    # Four standard deviations of a share estimated from 20,000 draws.
    assert ((found - expected).abs() < 4 * (expected * (1 - expected) / 20000).sqrt()).all()


def test_greedy_takes_the_best_and_the_first_of_equals():
    choice = Greedy().choose(torch.tensor([[1.0, 3.0, 3.0], [5.0, 1.0, 1.0]]), None, None)
    assert choice.ids.tolist() == [1, 0]
    assert choice.kept.sum(-1).tolist() == [1, 1]
    assert torch.equal(choice.cuts["greedy"], ~choice.kept)


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": 0},
        {"temperature": -1},
        {"temperature": 1e-40},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": 0},
        {"top_k": 1.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"seed": "x"},
    ],
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        Sampler(**arguments)
