"""The small RULER: exact lengths, truths that follow from the text, and scores."""

import re
from collections import Counter

import pytest

from tinyphi.errors import InputError
from tinyphi.longcontext.ruler import TASKS, ruler, ruler_prompt, share_found
from tinyphi.longcontext.trials import Haystack


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [601, 1234, 3000])
def test_prompts_have_their_length_and_follow_from_the_seed(letters, task, length):
    haystack = Haystack(letters)
    prompts = [
        ruler_prompt(letters, haystack, task, length, repeat, seed) for repeat in (0, 1) for seed in (0, 1)
    ]
    assert all(len(prompt.ids) == length for prompt in prompts)
    assert len({prompt.truth for prompt in prompts}) == 4
    assert prompts[0] == ruler_prompt(letters, haystack, task, length)
    assert all(letters.decode(prompt.ids).endswith("\n\n" + prompt.question) for prompt in prompts)


@pytest.mark.parametrize(
    ("task", "keys", "numbers"), [("single needle", 1, 1), ("several keys", 4, 4), ("several values", 1, 4)]
)
def test_the_numbers_of_the_name_that_is_asked_for(letters, task, keys, numbers):
    for repeat in range(9):
        prompt = ruler_prompt(letters, Haystack(letters), task, 900, repeat)
        facts = re.findall(r"\nThe number of (\w+) is (\d+)\.\n", letters.decode(prompt.ids))
        assert len({name for name, _ in facts}) == keys and len({number for _, number in facts}) == numbers
        name = re.search(r"of (\w+) (is|are)$", prompt.question)[1]
        assert {number for about, number in facts if about == name} == set(prompt.truth)


def test_the_variables_that_have_the_value(letters):
    for repeat in range(9):
        prompt = ruler_prompt(letters, Haystack(letters), "variable tracking", 900, repeat)
        number = re.search(r"value (\d+)", prompt.question)[1]
        lines = re.findall(r"\nVAR (\w+) = (\w+)\n", letters.decode(prompt.ids))
        assert lines == list(zip(prompt.truth, (number, *prompt.truth), strict=False)) and len(lines) == 5
        assert len(set(prompt.truth)) == 5


@pytest.mark.parametrize(("length", "often"), [(600, 30), (690, 30), (800, 35), (2000, 92)])
def test_ten_words_are_ten_times_as_common(letters, length, often):
    prompt = ruler_prompt(letters, Haystack(letters), "common words", length)
    words = Counter(
        letters.decode(prompt.ids).removeprefix("<s>").split("\n\n")[0].removeprefix("Words:\n").split()
    )
    assert {word for word, _ in words.most_common(10)} == set(prompt.truth)
    (found,) = {words[word] for word in prompt.truth}
    assert found in (often, often - letters.adds_bos)
    others = [count for word, count in words.items() if word not in prompt.truth]
    assert len(others) >= 10 and max(others) == -(-found // 10) and min(others) >= max(others) - 1


def test_a_reader_of_everything_scores_all_where_it_knows_how(letters, oracle):
    oracle(sight=10**6)
    scores = ruler(
        oracle.model, letters, [600, 900], ["single needle", "several keys", "several values"], repeats=3
    )
    assert str(scores).splitlines() == [
        "task                     600     900",
        "single needle           100%    100%",
        "several keys            100%    100%",
        "several values          100%    100%",
    ]
    oracle(sight=500, stops_after=3)
    some = ruler(oracle.model, letters, [900], ["several values"], repeats=9)
    assert len(some.trials) == 3 and 0 < some.score("several values", 900) < 1
    asked = oracle(sight=500)
    assert len(ruler(oracle.model, letters, [900], ["several values"], repeats=9, before=some).trials) == 9
    assert len(asked) == 6


def test_whole_words_count():
    assert share_found("BAFI, LOMU and 123.", ("BAFI", "LOMU", "123", "12")) == 0.75
    assert share_found("", ("BAFI",)) == 0


def test_bad_input(letters, make_model):
    model = make_model()
    for arguments, more in (
        ([300], {"tasks": ["cwe"]}),
        ([300], {"tasks": []}),
    ):
        with pytest.raises(InputError, match="tasks out of single needle, several keys"):
            ruler(model, letters, arguments, **more)
    for arguments, more in (([], {}), ([300.0], {}), ([300], {"repeats": 0}), ([300], {"repeats": 1.5})):
        with pytest.raises(InputError, match="whole numbers above 0"):
            ruler(model, letters, arguments, **more)
    with pytest.raises(InputError, match="Counting words takes"):
        ruler(model, letters, [380], ["common words"])
    letters.vocab_size = 100
    with pytest.raises(InputError, match="20 words in the vocabulary; these are 600 and 3"):
        ruler(model, letters, [600], ["common words"])
