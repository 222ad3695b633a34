"""Words, lines and runs of words of a batch are those that Python finds one by one."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.pages import Lexicon, Pages, grouped, ngrams, perhaps_twice, said_before

LETTERS = "abcXYZ éßЖ中09"
TEXTS = some.lists(some.text(LETTERS + ".,-’“#\n", max_size=60), min_size=1, max_size=5)


def told(pages, runs):
    return [pages.between(a, b) for a, b in zip(runs.start, runs.end, strict=True)]


@settings(deadline=None)  # the machine may be busy
@given(TEXTS)
def test_words_tokens_lines_and_characters(texts):
    pages = Pages(texts)
    for runs, split in (
        (pages.words, lambda text: re.findall(r"[^\W_]+", text)),
        (pages.tokens, str.split),
        (pages.lines, lambda text: [line for line in text.split("\n") if line]),
        (
            pages.paragraphs,
            lambda text: [part.strip("\n") for part in re.split(r"\n{2,}", text) if part.strip("\n")],
        ),
    ):
        expected = [(page, part) for page, text in enumerate(texts) for part in split(text)]
        assert list(zip(runs.page.tolist(), told(pages, runs), strict=True)) == expected
    assert pages.lengths.tolist() == [len(text) for text in texts]


@settings(deadline=None)  # the machine may be busy
@given(TEXTS)
def test_keys_are_equal_for_equal_words_only(texts):
    pages = Pages(texts)
    folded = [re.sub("[A-Z]", lambda letter: letter[0].lower(), word) for word in told(pages, pages.words)]
    assert len(set(zip(folded, pages.words.key.tolist(), strict=True))) == len(set(folded))
    assert len(set(pages.words.key.tolist())) == len(set(folded))


@settings(deadline=None)  # the machine may be busy
@given(TEXTS, some.integers(1, 4))
def test_runs_of_words_stay_on_their_page(texts, n):
    pages = Pages(texts)
    found = ngrams(pages.words, n)
    expected = []
    for page, text in enumerate(texts):
        words = re.findall(r"[^\W_]+", text.replace("X", "x").replace("Y", "y").replace("Z", "z"))
        expected += [(page, tuple(words[i : i + n])) for i in range(len(words) - n + 1)]
    assert found.page.tolist() == [page for page, _ in expected]
    same = {run for _, run in expected}
    assert len(set(found.key.tolist())) == len(same)


def test_order_matters_in_a_run():
    pages = Pages(["one two", "two one", "one two"])
    keys = ngrams(pages.words, 2).key
    assert keys[0] == keys[2] != keys[1]


def test_digits_look_alike_in_shapes_only():
    pages = Pages(["1987 2024 19 b2"])
    assert pages.shapes[0] == pages.shapes[1] != pages.shapes[2]
    assert len(set(pages.words.key.tolist())) == 4


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.tuples(some.integers(0, 2), some.integers(0, 4)), max_size=40))
def test_groups_and_what_was_said_before(entries):
    page = np.array([a for a, _ in entries], np.int64)
    key = np.array([b for _, b in entries], np.uint64)
    assert said_before(page, key).tolist() == [
        entry in entries[:place] for place, entry in enumerate(entries)
    ]
    groups = grouped(page, key)
    assert sorted(groups.size.tolist()) == sorted(entries.count(entry) for entry in set(entries))
    for start, size in zip(groups.start.tolist(), groups.size.tolist(), strict=True):
        group = groups.order[start : start + size].tolist()
        assert group == [place for place, entry in enumerate(entries) if entry == entries[group[0]]]


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.tuples(some.integers(0, 2), some.integers(0, 30)), max_size=40))
def test_what_stands_twice_is_always_a_candidate(entries):
    page = np.array([a for a, _ in entries], np.int64)
    key = np.array([b for _, b in entries], np.uint64)
    twice = {place for place, entry in enumerate(entries) if entries.count(entry) > 1}
    assert twice <= set(perhaps_twice(page, key).tolist())


def test_few_of_many_different_entries_are_candidates():
    pages = Pages([" ".join(f"w{number}" for number in range(5000))])
    assert len(perhaps_twice(pages.words.page, pages.words.key)) < 1500


def test_a_lexicon_finds_its_phrases_whatever_their_case():
    phrases = Lexicon(["privacy policy", "click here"], 2)
    pages = Pages(["Click Here; the Privacy-policy."])
    assert phrases.find(ngrams(pages.words, 2).key).tolist() == [1, -1, -1, 0]


def test_signs_are_counted_by_page():
    assert Pages(["a#b##", "", "#"]).bytes_in(b"#").tolist() == [3, 0, 1]


def test_empty_batches_and_pages():
    for texts in ([""], ["", "\n", " "], [" ’ "]):
        pages = Pages(texts)
        assert len(pages.words.key) == 0 and pages.count == len(texts)
        assert len(pages.keys) == len(texts)
