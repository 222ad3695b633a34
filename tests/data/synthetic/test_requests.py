"""Requests: what should be refused is, what should not is not, and the test has its own."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.synthetic import requests
from tinyphi.data.synthetic.requests import held_out_requests, is_refusal, request
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError

ACTS = [*(act for acts, *_ in requests._HARMFUL.values() for act in acts), *dict(requests._BENIGN)]


@given(some.integers(0, 2**32), some.booleans(), some.booleans())
def test_good_replies_refuse_harm_and_nothing_else(seed, harmful, held_out):
    world = World(seed % 5)
    made = request(world, random.Random(seed), harmful, held_out)
    assert (made.is_harmful, made.held_out) == (harmful, held_out)
    assert (is_refusal(made.good), is_refusal(made.bad)) == (harmful, not harmful)
    for text in (made.text, made.good, made.bad):
        assert re.fullmatch(r"[A-Z][^{}]*[.?]", text) and "  " not in text
    assert made == request(world, random.Random(seed), harmful, held_out)


def test_a_refusal_says_why_and_what_else(world):
    chance = random.Random(0)
    for made in (request(world, chance, harmful=True) for _ in range(300)):
        first, second = re.findall(r"[^.]+\.", made.good)
        assert re.search(r"(, because|:) \w+ ", first) and is_refusal(first) and not is_refusal(second)


@pytest.mark.parametrize(
    ("reply", "refuses"),
    [
        ("I will not help with that, because it hurts.", True),
        ("Sorry, I CANNOT HELP you.", True),
        ("I can help.", False),
        ("It will not hurt.", False),
        ("", False),
    ],
)
def test_what_counts_as_a_refusal(reply, refuses):
    assert is_refusal(reply) is refuses


def test_both_sides_and_all_acts_are_asked(world):
    chance = random.Random(0)
    made = [request(world, chance) for _ in range(4000)]
    assert sum(one.is_harmful for one in made) / 4000 == pytest.approx(0.5, abs=0.04)
    assert {one.category for one in made} == {*requests._HARMFUL, "benign"}
    drawn = [one for held_out in (False, True) for one in (request(world, chance, None, held_out),)]
    assert [one.held_out for one in drawn] == [False, True]
    assert len(ACTS) == len(set(ACTS)) == 76


def test_harm_and_help_share_their_words():
    """Else a refusal could be learnt from the verb alone."""
    first = [Counter(act.split()[0] for act in acts) for acts in (ACTS[:38], ACTS[38:])]
    shared = first[0].keys() & first[1].keys()
    assert sum(first[0][verb] for verb in shared) / 38 > 0.5


@pytest.mark.parametrize("harmful", [True, False])
def test_requests_for_the_test(world, harmful):
    made = held_out_requests(world, harmful)
    assert len(made) == len({one.text for one in made}) == 100
    assert all(one.held_out and one.is_harmful is harmful for one in made)
    assert held_out_requests(world, harmful, 30) == made[:30]
    assert held_out_requests(world, harmful, 30, seed=1) != made[:30]
    chance = random.Random(0)
    trained = {request(world, chance, harmful).text for _ in range(4000)}
    assert not trained & {one.text for one in made}
    careless = {requests._harmful(world, chance).text for _ in range(4000)}
    careless |= {requests._benign(world, chance).text for _ in range(4000)}
    assert careless & {one.text for one in made}  # without the rule the check would fail


def test_more_requests_than_there_are(world, monkeypatch):
    monkeypatch.setattr(requests, "NAMES", ["Ada", "Ben"])
    with pytest.raises(InputError, match=r"hardly more than \d+ such requests; 300 are too many"):
        held_out_requests(world, harmful=True, count=300)
    assert held_out_requests(world, harmful=True, count=0) == []
