"""The filter learns from labelled pages what is worth reading, and says how sure it is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyphi.data.quality import QualityFilter
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError


def pages(seed, count):
    world, chance = World(), random.Random(seed)
    return [(page.text, page.educational) for page in (web_page(world, chance) for _ in range(count))]


@pytest.fixture(scope="module")
def trained():
    return QualityFilter(pages("training", 200))


def accuracy(judge, seed="held out"):
    held_out = pages(seed, 400)
    return sum((judge.score(text) > 0.5) == good for text, good in held_out) / len(held_out)


def test_it_knows_pages_that_it_never_saw(trained):
    assert accuracy(trained) > 0.97


def test_wrong_labels_make_a_wrong_filter():
    upside_down = QualityFilter([(text, not good) for text, good in pages("training", 200)])
    assert accuracy(upside_down) < 0.1


def test_two_words_can_be_reckoned_by_hand():
    judge = QualityFilter([("rain falls", True), ("buy rain", False), ("buy buy", False)])
    # Counted once more than seen, three words in all: good rain 2/5, buy 1/5; bad rain 2/7, buy 4/7.
    odds = (1 / 2) * ((2 / 5) / (2 / 7)) * ((1 / 5) / (4 / 7))
    assert judge.score("rain buy") == pytest.approx(odds / (1 + odds))
    assert judge.score("") == judge.score("unseen") == pytest.approx(1 / 3)


@given(st.text(max_size=300))
def test_any_text_has_a_score(text):
    assert 0 <= QualityFilter([("rain falls", True), ("buy now!!", False)]).score(text) <= 1


def test_a_long_page_does_not_overflow(trained):
    assert trained.score("BUY NOW!!! " * 5000) == pytest.approx(0)


def test_one_kind_of_page_teaches_nothing():
    with pytest.raises(InputError, match="all of one kind"):
        QualityFilter([("rain falls", True)])
