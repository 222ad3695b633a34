"""The classifier learns from pages what is worth reading; the shipped one knows real kinds of text."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.educational import BUCKETS, STATISTICS, EducationalFilter, features, fit
from tinyphi.data.pages import Pages
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError

LESSON = (
    "Photosynthesis is the process by which plants convert the energy of sunlight into chemical energy. In "
    "the chloroplasts of a leaf, molecules of chlorophyll absorb light, and water is split into oxygen and "
    "hydrogen. The hydrogen is then used to reduce carbon dioxide to sugars, which the organism stores as "
    "starch."
)
SHOP = (
    "Great deals on shoes! Buy now and get free shipping on your order. Our new collection is here, so don't "
    "miss out! Sign up for our newsletter and we will send you a coupon for your next purchase. Check out "
    "our reviews!"
)


def pages_of(seed, count):
    world, chance = World(), random.Random(seed)
    made = [web_page(world, chance) for _ in range(count)]
    return [page.text for page in made], [page.educational for page in made]


@pytest.fixture(scope="module")
def trained():
    texts, good = pages_of("train", 200)
    return fit(texts, good, [1.0] * len(texts))


def test_it_knows_pages_that_it_never_saw(trained):
    texts, good = pages_of("held out", 200)
    assert ((trained.scores(Pages(texts)) > 0.5) == np.array(good)).mean() > 0.97


def test_wrong_labels_make_a_wrong_filter():
    texts, good = pages_of("train", 200)
    upside_down = fit(texts, [not kind for kind in good], [1.0] * len(texts))
    held_out, kinds = pages_of("held out", 200)
    assert ((upside_down.scores(Pages(held_out)) > 0.5) == np.array(kinds)).mean() < 0.1


def test_the_gradient_is_that_of_the_loss():
    """Without decay, training ends where the weighted errors of each kind balance: the bias has no slope."""
    texts, good = pages_of("few", 40)
    found = fit(texts, good, [1.0] * 40, steps=2000, decay=1e-3)
    error = found.scores(Pages(texts)) - np.array(good)
    share = np.where(good, 1 / sum(good), 1 / (40 - sum(good)))
    assert abs((error * share).sum()) < 1e-3


def test_saved_in_eight_bits_it_says_the_same(trained, tmp_path):
    trained.save(tmp_path / "f.safetensors")
    texts, _ = pages_of("held out", 100)
    again = EducationalFilter.load(tmp_path / "f.safetensors")
    assert abs(again.scores(Pages(texts)) - trained.scores(Pages(texts))).max() < 0.03
    assert (tmp_path / "f.safetensors").stat().st_size < 500_000


def test_the_shipped_filter_knows_a_lesson_from_a_shop():
    judge = EducationalFilter.load()
    assert judge.score(LESSON) > 0.9 and judge.score(SHOP) < 0.1


def test_typography_and_length_tell_nothing():
    judge = EducationalFilter.load()
    text = LESSON.replace("the organism", "it's “the” organism")
    plain = text.replace("“", '"').replace("”", '"').replace("'", "’")
    assert judge.score(text) == judge.score(plain) == judge.score(plain.replace(" ", "\n\n# "))
    assert judge.score(LESSON.replace("is", "IS")) == judge.score(LESSON)
    assert judge.score(LESSON + " " + LESSON) == pytest.approx(judge.score(LESSON), abs=0.02)


def test_votes_add_up_to_the_score():
    judge = EducationalFilter.load()
    for text in (LESSON, SHOP):
        votes = judge.explain(text)
        logit = judge.logits(features(Pages([text])))[0]
        assert sum(vote.logit for vote in votes) + judge._bias == pytest.approx(logit)
        assert abs(votes[0].logit) >= abs(votes[-1].logit)
        assert {f"({name})" for name in STATISTICS} <= {vote.feature for vote in votes}
    votes = {vote.feature: vote.logit for vote in judge.explain(SHOP)}
    assert votes["free shipping"] < 0 and votes["(you and I)"] < 0


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.text(max_size=100), min_size=1, max_size=4))
def test_any_text_has_a_score_and_a_batch_changes_nothing(trained, texts):
    scores = trained.scores(Pages(texts))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.tolist() == pytest.approx([trained.score(text) for text in texts])


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(InputError, match="all of one kind"):
        fit(["a", "b"], [True, True], [1, 1])
    with pytest.raises(InputError, match="votes"):
        EducationalFilter(np.zeros(3), np.zeros((3, len(STATISTICS))), 0.0)
    assert EducationalFilter(np.zeros(1 << BUCKETS), np.ones((3, len(STATISTICS))), 0.0)
    (tmp_path / "x").write_bytes(b"not safetensors")
    for path in (tmp_path / "x", tmp_path / "missing"):
        with pytest.raises(InputError, match="no saved filter"):
            EducationalFilter.load(path)
