"""MinHash estimates what it should, and clusters are the pages that are nearly the same."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.dedup import (
    SHINGLE,
    candidate_probability,
    clusters,
    digest,
    signatures,
    similarity,
)
from tinyphi.data.pages import Pages
from tinyphi.errors import InputError


def page(chance, words=300):
    return " ".join(f"w{chance.randrange(5000)}" for _ in range(words))


def edited(text, chance, share):
    return " ".join(
        word if chance.random() > share else f"x{chance.randrange(9999)}" for word in text.split()
    )


def exact(one, other):
    def shingles(text):
        words = re.findall(r"[^\W_]+", text.lower())
        return {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}

    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def pairs(share, count=200):
    chance = random.Random(f"{share}")
    first = [page(chance) for _ in range(count)]
    return first, [edited(text, chance, share) for text in first]


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_the_estimate_is_unbiased_with_a_binomial_error(share):
    first, second = pairs(share)
    true = np.array([exact(a, b) for a, b in zip(first, second, strict=True)])
    error = similarity(signatures(Pages(first)), signatures(Pages(second))) - true
    deviation = np.sqrt(true * (1 - true) / 128)
    assert abs(error.mean()) < 4 * deviation.mean() / np.sqrt(len(true))
    differ = deviation > 0  # a few pages were not edited at all
    assert 0.85 < (error[differ] / deviation[differ]).std() < 1.2
    assert (error[~differ] == 0).all()


def test_fewer_numberings_have_a_larger_error():
    first, second = pairs(0.03)
    true = np.array([exact(a, b) for a, b in zip(first, second, strict=True)])
    rough = [signatures(Pages(texts), numberings=16) for texts in (first, second)]
    assert np.std(similarity(*rough) - true) > 2 * np.sqrt(true * (1 - true) / 128).mean()


@pytest.mark.parametrize("share", [0.01, 0.04, 0.07])
def test_candidates_are_found_as_often_as_the_formula_says(share):
    first, second = pairs(share, 300)
    found = signatures(Pages(first + second))
    joined = clusters(found, threshold=0.0)
    hits = (joined[300:] == np.arange(300)).mean()
    true = np.array([exact(a, b) for a, b in zip(first, second, strict=True)])
    expected = candidate_probability(true).mean()
    assert abs(hits - expected) < 4 * np.sqrt(0.25 / 300) * max(2 * np.sqrt(expected * (1 - expected)), 0.1)


def test_the_probability_by_hand():
    assert candidate_probability(0.5, bands=2, rows=1) == pytest.approx(0.75)
    assert candidate_probability(0.5, bands=1, rows=2) == pytest.approx(0.25)


def test_near_duplicates_are_recalled_and_others_left_alone():
    first, second = pairs(0.01)
    root = clusters(signatures(Pages(first + second)))
    assert (root[:200] == np.arange(200)).all()
    assert (root[200:] == np.arange(200)).mean() > 0.98
    strangers = clusters(signatures(Pages(first + pairs(0.3)[1])))
    assert (strangers == np.arange(400)).all()


def test_pages_exactly_at_the_threshold_are_joined():
    found = np.arange(256, dtype=np.uint32).reshape(2, 128)
    found[1, :64] = found[0, :64]
    assert clusters(found, threshold=0.5).tolist() == [0, 0]
    assert clusters(found, threshold=0.51).tolist() == [0, 1]


def test_a_chain_is_one_cluster_led_by_its_first_page():
    chance = random.Random(5)
    texts = [page(chance), page(chance)]
    for _ in range(4):
        texts.append(edited(texts[-1], chance, 0.01))
    assert clusters(signatures(Pages(texts))).tolist() == [0, 1, 1, 1, 1, 1]
    assert clusters(signatures(Pages(texts)), among=np.array([0, 3, 5])).tolist() == [0, 1, 1]


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.text("ab \n", max_size=12), min_size=1, max_size=8))
def test_short_pages_are_alike_only_if_they_are_the_same(texts):
    found = signatures(Pages(texts))
    together = signatures(Pages([texts[0]]))
    assert (found[0] == together[0]).all()  # a batch changes nothing
    for text, signature in zip(texts, found, strict=True):
        if len(text.split()) < SHINGLE:
            same = text == texts[0] or (len(texts[0].split()) >= SHINGLE and (signature == found[0]).all())
            assert bool((signature == found[0]).all()) == same


def test_digests_tell_texts_apart():
    assert digest("a") == digest("a") != digest("a ") and len(digest("")) == 16
    assert digest("\ud800")


def test_too_many_bands_are_refused():
    with pytest.raises(InputError, match="a signature has 128"):
        clusters(np.zeros((2, 128), np.uint32), bands=17)


def test_estimates_are_datasketchs():
    """Other numberings of the same sets: both are off by no more than coin tosses."""
    datasketch = pytest.importorskip("datasketch", reason="datasketch is not installed")

    def theirs(text):
        words, found = text.split(), datasketch.MinHash(128)
        found.update_batch(
            [" ".join(words[i : i + SHINGLE]).encode() for i in range(len(words) - SHINGLE + 1)]
        )
        return found

    first, second = pairs(0.03, 60)
    ours = similarity(signatures(Pages(first)), signatures(Pages(second)))
    their = np.array([theirs(a).jaccard(theirs(b)) for a, b in zip(first, second, strict=True)])
    assert abs((ours - their).mean()) < 4 * np.sqrt(2 * 0.25 / 128 / 60)
