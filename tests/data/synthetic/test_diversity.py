"""Three numbers for how different texts are, at their ends and against a second way to compute them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.synthetic.diversity import distinct, near_duplicates, opening_entropy
from tinyphi.errors import InputError

WORDS = some.lists(some.sampled_from("a b c d".split()), min_size=3, max_size=9).map(" ".join)
LONG = "One day a fox met a hen near a mill, and they spoke of the winter that was to come, of {} and of {}."


@given(some.lists(WORDS, min_size=1, max_size=6))
def test_distinct_counts_each_run_once(texts):
    runs = [tuple(text.split()[i : i + 3]) for text in texts for i in range(len(text.split()) - 2)]
    assert distinct(texts) == len(set(runs)) / len(runs)
    assert distinct(texts + texts) == pytest.approx(distinct(texts) / 2)


def test_distinct_of_no_runs_is_refused():
    with pytest.raises(InputError, match="No text has 3 words"):
        distinct(["two words", ""])


@given(some.lists(WORDS, min_size=1, max_size=8))
def test_entropy_lies_between_one_opening_and_all_different(texts):
    assert 0 <= opening_entropy(texts) <= math.log2(len(texts)) + 1e-9
    assert opening_entropy(texts[:1] * 5) == 0


def test_entropy_of_known_openings():
    texts = ["Once upon a time.", "Once, upon a hill!", "The fox ran.", "The fox sat."]
    assert opening_entropy(texts) == pytest.approx(1.5)
    assert opening_entropy(texts, n=1) == pytest.approx(1.0)
    assert opening_entropy([]) == 0


def test_near_duplicates_are_a_share():
    texts = [
        LONG.format("snow", "ice"),
        LONG.format("snow", "rain"),
        "Quite another tale of a whale and a ship.",
    ]
    assert near_duplicates(texts) == pytest.approx(1 / 3)
    assert near_duplicates([]) == 0
