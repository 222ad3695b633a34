"""attention and attention_head: digests, what travels with the page and what does not, bad input."""

import base64
import math
import warnings
import weakref

import pytest
import torch
from einops import repeat

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import attention, attention_head
from tinyphi.show.attention import head_patterns, induction_targets


def a_pass(layers=2, heads=6, groups=2, tokens=8, channels=4, cached=0, rows=2, scale=None, window=None):
    """The trace of a forward pass on random queries and keys; `cached` earlier keys are not in it."""
    trace, generator = Trace(), torch.Generator().manual_seed(0)
    sources = cached + tokens
    far = torch.arange(cached, sources)[:, None] - torch.arange(sources)
    mask = (far >= 0) & (far < (window or sources))
    trace.record("mask", mask.expand(rows, -1, -1), "b t s")
    for layer in range(layers):
        if layer < 2:  # the others are like the second
            queries = 2 * torch.randn(rows, heads, tokens, channels, generator=generator)
            keys = torch.randn(rows, groups, sources, channels, generator=generator)
            shared = repeat(keys, "b n s c -> b (n g) s c", g=heads // groups)
            scores = queries @ shared.mT * (scale or channels**-0.5)
            weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
        part = trace.at(f"layers.{layer}.attention")
        part.record("rotated_queries", queries, "b h t c")
        part.record("rotated_keys", keys[:, :, cached:], "b n t c")
        part.record("scores", scores, "b h t s")
        part.record("weights", weights, "b h t s")
    return trace


def random_head(queries, sources):
    scores = 2 * torch.randn(queries, sources, generator=torch.Generator().manual_seed(0))
    future = torch.ones(queries, sources).triu(1 + sources - queries).bool()
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"tokens": 1, "layers": 1, "heads": 1, "groups": 1},
        {"tokens": 33, "heads": 40, "groups": 10},  # more heads than a figure shows
        {"tokens": 200, "window": 20},
        {"tokens": 1, "cached": 11},  # one decoding step
        {"tokens": 3, "cached": 60},
    ],
)
def test_faces_of_the_explorer(examine, shape, strange):
    count = shape.get("tokens", 8) + shape.get("cached", 0)
    heads = shape.get("heads", 6)
    view = examine(
        lambda: attention(a_pass(**shape), [strange(i) for i in range(count)], head=heads - 1, row=1)
    )
    assert view.live is not None and view.live.answer is not None


@pytest.mark.parametrize("shape", [(12, 12), (1, 1), (1, 12), (300, 300), (2, 90)])
def test_faces_of_one_head(examine, shape, strange):
    view = examine(lambda: attention_head(random_head(*shape), [strange(i) for i in range(shape[1])]))
    assert ("the last 64 tokens shown" in view.text) == (shape[1] > 64)


def test_the_digest_has_heads_top_heads_and_where_the_last_tokens_look():
    trace = Trace()
    trace.record("mask", torch.ones(1, 3, 3).tril().bool(), "b t s")
    first = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.75, 0.25]])
    second = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    part = trace.at("layers.0.attention")
    part.record("rotated_queries", torch.ones(1, 2, 3, 2), "b h t c")
    part.record("rotated_keys", torch.ones(1, 1, 0, 2), "b n t c")
    part.record("scores", torch.stack([first, second])[None].clamp_min(1e-9).log(), "b h t s")
    part.record("weights", torch.stack([first, second])[None], "b h t s")
    lines = attention(trace, ["A", " b", "A"]).text.splitlines()
    assert lines == [
        "attention, layer 0 of 0–0, 2 heads, 3 queries × 3 sources",
        "head 0: entropy 0.60 bits, to first token 0.500, token before 0.625, itself 0.583, induction 0.750",
        "head 1: entropy 0.00 bits, to first token 1.000, token before 0.500, itself 0.333, induction 0.000",
        "top heads: first token 1.000 (layer 0, head 1); token before 0.625 (layer 0, head 0); "
        "itself 0.583 (layer 0, head 0); induction 0.750 (layer 0, head 0)",
        "layer 0, head 0:",
        "A → A 1.000",
        "·b → A 0.500, ·b 0.500",
        "A → ·b 0.750, A 0.250",
    ]


def test_attention_head_names_where_each_token_looks():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.75, 0.25]])
    lines = attention_head(weights, ["A", " b", "c"]).text.splitlines()
    assert lines[0].endswith("entropy 0.60 bits, to first token 0.500, token before 0.625, itself 0.583")
    assert lines[1:] == ["A → A 1.000", "·b → A 0.500, ·b 0.500", "c → ·b 0.750, c 0.250"]


def test_attention_of_a_decoding_step_belongs_to_the_last_label():
    lines = attention_head(torch.tensor([[0.0, 0.25, 0.75]]), ["a", "b", "c"]).text.splitlines()
    assert lines[1] == "c → c 0.750, b 0.250"
    assert "token before 0.250, itself 0.750" in lines[0]


def test_patterns():
    previous = torch.zeros(4, 4)
    previous[0, 0] = previous[1, 0] = previous[2, 1] = previous[3, 2] = 1
    found = head_patterns(torch.stack([previous, torch.eye(4), torch.full((4, 4), 0.25)]), list("abcd"))
    assert found["previous"].tolist() == [1, 0, 0.25]
    assert found["itself"].tolist() == [0.25, 1, 0.25]
    assert found["first"].tolist() == [0.5, 0.25, 0.25]
    assert found["entropy"].tolist() == [0, 0, 2]
    assert "induction" not in found  # no token occurs twice


def test_induction_is_attention_to_what_followed_an_earlier_copy():
    targets = induction_targets(list("abcab"))
    assert targets.nonzero().tolist() == [[3, 1], [4, 2]]
    assert induction_targets(["a", "a", "a"]).nonzero().tolist() == [[2, 1]]  # not the token itself
    weights = torch.zeros(1, 5, 5)
    weights[0, 3, 1], weights[0, 4, 2], weights[0, 4, 0] = 0.5, 0.25, 0.75
    assert head_patterns(weights, list("abcab"))["induction"].tolist() == [0.375]
    assert head_patterns(weights[:, 4:], list("abcab"))["induction"].tolist() == [0.25]  # the last query only


def unpacked(packed):
    raw = bytearray(base64.b64decode(packed["base64"]))
    return torch.frombuffer(raw, dtype=getattr(torch, packed["dtype"])).reshape(packed["shape"])


def test_the_page_holds_what_the_weights_are_computed_from():
    trace = a_pass(heads=6, groups=2, window=3)
    data = attention(trace, list("abcdefgh"), layer=1, head=4, row=1).live.data
    queries, keys = unpacked(data["exact"]["queries 1 4"]), unpacked(data["exact"]["keys 1 1"])
    mask = torch.zeros(8, 8, dtype=torch.bool)
    for query, start, end in unpacked(data["visible"]).tolist():
        mask[query, start:end] = True
    assert torch.equal(mask, trace["mask"][1])
    scores = (queries.float() @ keys.float().T * data["scale"]).masked_fill(~mask, -math.inf)
    expected = trace["layers.1.attention.weights"][1, 4]
    torch.testing.assert_close(scores.softmax(dim=-1), expected, atol=5e-3, rtol=0)
    small = unpacked(data["thumbnails"])[1, 4]
    torch.testing.assert_close((small / 255) ** 2, expected, atol=5e-3, rtol=0)


def test_the_kernel_answers_with_exact_numbers():
    trace = a_pass()
    answer = attention(trace, list("abcdefgh")).live.answer({"layer": 1, "head": 5})
    assert torch.equal(
        unpacked(answer["tensors"]["queries"]), trace["layers.1.attention.rotated_queries"][0, 5]
    )
    assert torch.equal(unpacked(answer["tensors"]["keys"]), trace["layers.1.attention.rotated_keys"][0, 1])
    assert answer["differs"] is False


def test_behind_a_cache_the_scores_stand_for_the_missing_keys():
    trace = a_pass(tokens=2, cached=3)
    live = attention(trace, list("abcde")).live
    assert "queries 0 0" not in live.data["exact"]
    scores = live.answer({"layer": 0, "head": 1})["tensors"]["scores"]
    assert torch.equal(unpacked(scores), trace["layers.0.attention.scores"][0, 1])


def test_a_scale_of_its_own_is_read_off_the_scores():
    assert attention(a_pass(channels=16), list("abcdefgh")).live.data["scale"] == 0.25
    data = attention(a_pass(channels=16, scale=1 / 16), list("abcdefgh")).live.data
    assert data["scale"] == pytest.approx(1 / 16, rel=1e-5)


def test_weights_that_do_not_follow_from_queries_and_keys_are_called_out():
    trace = a_pass()
    assert "not the softmax" not in attention(trace, list("abcdefgh")).text
    trace["layers.0.attention.weights"][0, 2] = torch.eye(8)
    view = attention(trace, list("abcdefgh"), head=2)
    assert "layer 0, head 2: (not the softmax of the recorded q·k under the mask" in view.text
    assert view.live.data["differs"] == ["0 2"]
    assert view.live.answer({"layer": 0, "head": 2})["differs"] is True


def test_a_long_text_with_all_heads_fits_into_three_megabytes():
    trace = a_pass(layers=30, heads=9, groups=3, tokens=512, channels=64, rows=1)
    labels = [f" word{number % 97}" for number in range(512)]
    view = attention(trace, labels, layer=12, head=4)
    assert len(view.html().encode()) < 3_000_000
    exact = view.live.data["exact"]
    assert all(f"queries 12 {head}" in exact for head in range(9))  # the chosen layer is complete
    assert len(exact) < 30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(view.png()) < 40_000


BAD = {
    "no trace": lambda: attention(torch.ones(3, 3), list("abc")),
    "an empty trace": lambda: attention(Trace(), ["a"]),
    "too few labels": lambda: attention(a_pass(), ["a"]),
    "a text for labels": lambda: attention(a_pass(), "abcdefgh"),
    "a layer too high": lambda: attention(a_pass(), list("abcdefgh"), layer=2),
    "a negative head": lambda: attention(a_pass(), list("abcdefgh"), head=-1),
    "a row too many": lambda: attention(a_pass(), list("abcdefgh"), row=2),
    "all heads for one": lambda: attention_head(torch.ones(1, 2, 3, 3) / 3, list("abc")),
    "no tensor": lambda: attention_head([[1.0]], ["a"]),
    "too few labels for a head": lambda: attention_head(random_head(3, 3), ["a"]),
    "more queries than sources": lambda: attention_head(random_head(3, 3)[:, :2], list("ab")),
    "scores for weights": lambda: attention_head(torch.tensor([[3.0]]), ["a"]),
    "weights that are no numbers": lambda: attention_head(torch.tensor([[math.nan]]), ["a"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_error(name):
    with pytest.raises(InputError):
        BAD[name]()


def test_weights_that_are_not_finite_name_the_layer():
    trace = a_pass()
    trace["layers.1.attention.weights"][0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="layer 1 are not finite"):
        attention(trace, list("abcdefgh"))


def test_a_view_keeps_no_more_of_the_trace_than_it_shows():
    trace = a_pass()
    trace.record("logits", torch.zeros(2, 8, 50), "b t v")
    logits = weakref.ref(trace["logits"])
    view = attention(trace, [str(i) for i in range(8)])
    del trace
    assert logits() is None and view.live.answer({"layer": 1, "head": 0})["tensors"]
