"""Hashed n-grams: the same wherever they stand; log-odds are the sum of their parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from safetensors.numpy import save_file

from tinyphi.errors import WeightsError
from tinyphi.safety import classifier
from tinyphi.safety.classifier import (
    COLUMNS,
    Classifier,
    features,
    grams,
    load_classifier,
    plain,
    save_classifier,
)
from tinyphi.safety.policy import learnt_categories

NAMES = learnt_categories()


def columns_of(text):
    found = grams(text)
    return {
        (found.text[start:end], float(count)): int(column)
        for start, end, column, count in zip(found.start, found.end, found.column, found.counts, strict=True)
    }


def some_classifier(seed=0):
    chance = np.random.default_rng(seed)
    size = len(NAMES)
    parts = (
        np.abs(chance.normal(size=COLUMNS)),
        chance.normal(size=(size + 1, COLUMNS)),
        chance.normal(size=size + 1),
    )
    mix = np.eye(size, size + 1) + chance.normal(size=(size, size + 1)) / 10
    return Classifier(NAMES, *(part.astype(np.float32) for part in (*parts, mix, chance.normal(size=size))))


@settings(deadline=None)
@given(some.text(max_size=80), some.text(max_size=30))
def test_an_n_gram_has_its_column_wherever_it_stands(text, before):
    alone, moved = columns_of(text), columns_of(f"{before} {text}")
    shared = alone.keys() & moved.keys()
    assert all(alone[gram] == moved[gram] for gram in shared)
    assert not text.strip() or before or shared


@settings(deadline=None)
@given(some.text(max_size=80))
def test_all_n_grams_are_there(text):
    line = plain(text)
    expected = {(line[at : at + size], 1.0) for size in (2, 3, 4, 5) for at in range(len(line) - size + 1)}
    words = line.split()
    expected |= {(word, 2.0) for word in words}
    expected |= {(f"{one} {two}", 2.0) for one, two in pairwise(words)}
    assert columns_of(text).keys() == expected


def test_different_n_grams_rarely_share_a_column():
    text = " ".join(chr(97 + number * 7 % 26) + chr(97 + number * number % 26) * 2 for number in range(300))
    found = columns_of(text)
    assert len(set(found.values())) > 0.97 * len(found) > 300


def test_what_is_made_plain():
    assert plain("Sooooo GOOD!! see https://x.example/y, @ada 1999") == " soo good ! ! see @ 000 "


@settings(deadline=None)
@given(some.text(min_size=1, max_size=100))
def test_contributions_are_parts_of_the_log_odds(text):
    judge = some_classifier()
    column, counts = features(text)
    without = Classifier(NAMES, judge.idf, np.zeros_like(judge.weights), judge.bias, judge.mix, judge.shift)
    parts = (judge.mix @ judge.weights[:, column]) * classifier.weighted(column, counts, judge.idf)
    assert judge.log_odds(text) - without.log_odds(text) == pytest.approx(parts.sum(1), abs=1e-3)
    named = judge.contributions(text, NAMES[2], most=3)
    assert [part for _, part in named] == sorted((part for _, part in named), reverse=True)
    assert not named or named[0][1] == pytest.approx(parts[2].max(), rel=1e-4)
    assert ((judge.probabilities(text) >= 0) & (judge.probabilities(text) <= 1)).all()


def test_what_is_saved_is_loaded(tmp_path):
    judge = some_classifier()
    save_classifier(judge, tmp_path / "a.safetensors", {"trained on": "nothing"})
    again = load_classifier(tmp_path / "a.safetensors")
    assert again.log_odds("any text at all") == pytest.approx(judge.log_odds("any text at all"), abs=2e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"not a file of weights")
    save_file(
        {"weights": np.zeros((2, 2), np.float32)},
        tmp_path / "other.safetensors",
        {"about": '{"categories": ["a", "b"]}'},
    )
    for name in ("missing", "cut", "other"):
        with pytest.raises(WeightsError):
            load_classifier(tmp_path / f"{name}.safetensors")


def test_the_weights_that_ship_are_small():
    assert classifier._TRAINED.stat().st_size < 1.5e6
    assert load_classifier().categories == NAMES
