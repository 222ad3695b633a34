"""Scores equal a plain computation of one text after another, whatever the batch; texts are cut rightly."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.evaluate import likelihood
from tinyphi.evaluate.likelihood import Request, encode_pair, log_likelihoods, windows
from tinyphi.model.transformer import Phi3

BOS = 1


def plain(model, request):
    """log P(continuation | context), by the definition, and whether greedy decoding would say it."""
    ids = torch.tensor([[*request.context, *request.continuation]])
    with torch.no_grad():  # the last token is not read: nothing after it is asked for
        logs = model(ids[:, :-1])[0].double().log_softmax(-1)
    places = range(len(request.context), ids.shape[1])
    total = sum(float(logs[place - 1, ids[0, place]]) for place in places)
    return total, all(int(logs[place - 1].argmax()) == ids[0, place] for place in places)


def scored(model, requests, most=None):
    found = dict(one for batch in log_likelihoods(model, requests, most) for one in batch)
    assert sorted(found) == list(range(len(requests)))
    return [found[place] for place in range(len(requests))]


@pytest.fixture
def model(make_model):
    return make_model()


def requests_of(lengths, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return [
        Request(
            tuple(torch.randint(61, (context,), generator=chance).tolist()),
            tuple(torch.randint(61, (continuation,), generator=chance).tolist()),
        )
        for context, continuation in lengths
    ]


@pytest.mark.parametrize("most", [1, 40, 2048])
def test_batches_change_nothing(model, monkeypatch, most):
    monkeypatch.setattr(likelihood, "MOST_TOKENS", most)
    requests = requests_of([(1, 1), (5, 3), (20, 7), (3, 3), (11, 1), (2, 9), (5, 3)])
    for mine, request in zip(scored(model, requests), requests, strict=True):
        total, greedy = plain(model, request)
        assert mine.log_probability == pytest.approx(total, abs=1e-4) and mine.greedy == greedy


def test_greedy_continuations_are_recognised(model):
    ids = [3, 7, 9]
    for _ in range(4):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    wrong = [*ids[:-1], (ids[-1] + 1) % 61]
    found = scored(model, [Request(tuple(row[:3]), tuple(row[3:])) for row in (ids, wrong)])
    assert [one.greedy for one in found] == [True, False]


def test_the_same_tokens_are_read_once(model, monkeypatch):
    rows = []
    hidden = Phi3.hidden
    monkeypatch.setattr(
        Phi3, "hidden", lambda self, ids, *rest: rows.append(ids.shape[0]) or hidden(self, ids, *rest)
    )
    context = (4, 5, 6, 7)
    requests = [Request(context, (answer,)) for answer in range(10)] + [Request(context[:2], (6, 7, 1))]
    found = scored(model, requests)
    assert rows == [1]
    for mine, request in zip(found, requests, strict=True):
        assert mine.log_probability == pytest.approx(plain(model, request)[0], abs=1e-4)


def test_a_long_context_is_cut_at_its_beginning(model):
    (request,) = requests_of([(50, 4)])
    (cut,) = scored(model, [request], most=16)
    ids = (*request.context, *request.continuation)[-17:]
    assert cut.log_probability == pytest.approx(plain(model, Request(ids[:-4], ids[-4:]))[0], abs=1e-4)


def test_what_cannot_be_scored_is_said(model):
    for context, continuation in (((), (1,)), ((1,), ()), ((1,), tuple(range(20)))):
        with pytest.raises(InputError, match="Request 0"):
            scored(model, [Request(context, continuation)], most=16)
    with torch.no_grad():
        model.norm.weight[0] = math.nan
    with pytest.raises(InputError, match="NaN"):
        scored(model, requests_of([(3, 2)]))


def test_a_long_neighbour_does_not_change_a_short_text(make_model):
    """LongRoPE's factors depend on the longest row of a batch; the score of a text must not."""
    model = make_model(
        original_max_position_embeddings=8,
        short_factor=(1.0, 1.1, 1.2, 1.3),
        long_factor=(1.0, 2.0, 4.0, 8.0),
    )
    requests = requests_of([(4, 3), (20, 4), (6, 2), (8, 1), (9, 1)])
    for mine, request in zip(scored(model, requests), requests, strict=True):
        assert mine.log_probability == pytest.approx(plain(model, request)[0], abs=1e-4), len(request.context)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=40), st.integers(1, 12))
@settings(deadline=None)
def test_windows_predict_every_token_once_with_as_much_before_it_as_fits(ids, most):
    cut = list(windows(ids, BOS, most))
    assert [token for window in cut for token in window.continuation] == ids
    text, end = [BOS, *ids], 1
    for context, continuation in cut:
        end += len(continuation)
        read = (*context, *continuation)[:-1]
        assert context and len(read) <= most
        assert len(read) == min(most, end - 1) and list(read) == text[end - 1 - len(read) : end - 1]


def test_windows_equal_lm_evals():
    utils = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed: pip install lm-eval")
    for count in (1, 2, 5, 9, 10, 11, 31):
        for most in (1, 2, 5, 10):
            theirs = map(
                utils.make_disjoint_window,
                utils.get_rolling_token_windows(list(range(2, 2 + count)), BOS, most, 1),
            )
            mine = windows(range(2, 2 + count), BOS, most)
            assert [(list(context), list(text)) for context, text in mine] == [
                (list(context), list(text)) for context, text in theirs
            ]


def test_pairs_are_cut_where_the_context_ends(world_tokenizer):
    context, continuation = encode_pair(world_tokenizer, "Answer:", " the river")
    assert world_tokenizer.decode(context + continuation) == "Answer: the river"
    assert list(context) == world_tokenizer.encode("Answer:")


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation(world_tokenizer):
    assert encode_pair(world_tokenizer, "Answer: ", "the river") == encode_pair(
        world_tokenizer, "Answer:", " the river"
    )


def test_an_empty_context_is_the_bos_token(world_tokenizer):
    context, continuation = encode_pair(world_tokenizer, "", "the river")
    first = world_tokenizer.bos_id if world_tokenizer.bos_id is not None else world_tokenizer.eos_id
    assert context == (first,) and world_tokenizer.decode(continuation).strip() == "the river"


def test_nothing_to_score_is_said(world_tokenizer):
    with pytest.raises(InputError, match="left to score"):
        encode_pair(world_tokenizer, "Answer:", "")
