"""The needle grid: exact lengths and depths, and the scores of a reader of whom we know what it can see."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.longcontext.needle import first_number, needle_grid, passkey
from tinyphi.longcontext.trials import Haystack

LINES = "One line.\nAnother one, which is longer?\nx = os.path.join(a, b)\n" * 9


@pytest.mark.parametrize("real", [False, True])
@given(st.integers(230, 3000), st.integers(0, 100), st.integers(0, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_prompt_has_the_length_and_the_key_its_depth(letters, real, length, depth, repeat):
    haystack = Haystack(letters, letters.encode(LINES)[letters.adds_bos :] if real else None)
    prompt = passkey(letters, haystack, length, depth, repeat)
    text = letters.decode(prompt.ids)
    assert len(prompt.ids) == length and text.endswith("\n\n" + prompt.question)
    (found,) = re.finditer(r"\nThe pass key is (\d{5})\. Remember it: \1 is the pass key\.\n", text)
    assert (found[1],) == prompt.truth
    head, tail = (
        text[: found.start()].split("\n\n", 1)[1],
        text[found.end() :].removesuffix("\n\n" + prompt.question),
    )
    assert abs(len(head) - depth / 100 * len(head + tail)) <= 64.5
    assert not head or head.endswith(("\n", ".", "?")) or not tail  # a sentence is not cut
    assert passkey(letters, haystack, length, depth, repeat) == prompt
    assert passkey(letters, haystack, length, depth, repeat + 1).truth != prompt.truth
    assert passkey(letters, haystack, length, depth, repeat, seed=1).truth != prompt.truth


def test_a_needle_moves_no_further_than_to_a_near_sentence(letters):
    endless = Haystack(letters, letters.encode("word " * 100)[letters.adds_bos :])
    text = letters.decode(passkey(letters, endless, 1233, 50).ids)
    head, _, rest = text.partition("\nThe pass key")
    before = head.split("\n\n")[1]
    after = rest.split(" is the pass key.\n")[1].split("\n\n")[0]
    assert abs(len(before) - len(after)) <= 1 and len(before) > 400


def test_a_reader_of_the_last_tokens_finds_what_lies_there(letters, oracle):
    oracle(sight=800)
    grid = needle_grid(oracle.model, letters, [400, 800, 1600], (0, 25, 50, 75, 100), repeats=2)
    assert str(grid).splitlines() == [
        "   depth     400     800    1600",
        "     0 %    100%    100%      0%",
        "    25 %    100%    100%      0%",
        "    50 %    100%    100%      0%",
        "    75 %    100%    100%    100%",
        "   100 %    100%    100%    100%",
    ]
    assert grid.score(1600, 50) == 0 and grid.score(1600, 75) == 1 and grid.score(123, 0) is None
    assert len(grid.trials) == 30 and {trial.repeat for trial in grid.trials} == {0, 1}


def test_an_interrupted_grid_holds_what_is_done_and_goes_on(letters, oracle):
    oracle(sight=800, stops_after=4)
    some = needle_grid(oracle.model, letters, [400, 1600], (0, 50, 100))
    assert len(some.trials) == 4 and some.score(1600, 0) is None and "–" in str(some)
    asked = oracle(sight=800)
    grid = needle_grid(oracle.model, letters, [400, 1600], (0, 50, 100), before=some)
    assert len(asked) == 2 and grid.trials[:4] == some.trials and len(grid.trials) == 6
    oracle(sight=800, stops_after=0)
    again = needle_grid(oracle.model, letters, [300, 400, 1600], (0, 50, 100), before=grid)
    assert again.trials == grid.trials  # what was known of lengths behind the break stays
    asked = oracle(sight=800)
    needle_grid(oracle.model, letters, [400, 1600], (0, 50, 100), seed=1, before=some)
    assert len(asked) == 6  # other keys: nothing is taken over


def test_only_the_first_number_counts():
    assert first_number(" 12345. Not 99999.", ("12345",)) == 1
    for wrong in (" 99999, or 12345.", " 123456", " 1234", " one", ""):
        assert first_number(wrong, ("12345",)) == 0


def test_bad_input(letters, make_model):
    model = make_model()
    for depths in ((), (0, 101)):
        with pytest.raises(InputError, match="depths of 0 … 100"):
            needle_grid(model, letters, [300], depths)
    for lengths, repeats in (([], 1), ([300.0], 1), ([300], 0), ([300], 1.5)):
        with pytest.raises(InputError, match="whole numbers above 0"):
            needle_grid(model, letters, lengths, repeats=repeats)
    with pytest.raises(InputError, match="100 tokens is too short for this test: give 18"):
        needle_grid(model, letters, [100])
    with pytest.raises(InputError, match="haystack is empty"):
        needle_grid(model, letters, [300], haystack=[])
