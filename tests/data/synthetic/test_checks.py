"""Every fault that is planted is found and named, and nothing is wrong with a good text."""

import pytest

from tinyphi.data.synthetic import checks
from tinyphi.data.synthetic.checks import FORMS, Reply, first_fault

GOOD = (
    "The moon goes around the earth in about a month. It has no light of its own, and what we see of it is "
    "the part that the sun shines on. So it seems to grow and to shrink, though it is always as large."
)
GERMAN = (
    "Der Mond geht in etwa einem Monat um die Erde und hat kein eigenes Licht. Was wir von ihm sehen, ist "
    "der Teil, auf den die Sonne scheint, und so wird es mit der Zeit mehr und dann auch wieder weniger."
)
RUSSIAN = (
    "Луна обходит Землю примерно за месяц. У неё нет своего света, и мы видим только ту часть, на которую "
    "светит Солнце. Поэтому кажется, что она растёт и убывает."
)
PROGRAM = "def double(x):\n    return 2 * x"


def reply(text, message="Explain the moon.", ended=True):
    return Reply(text, message, ended)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("prose", GOOD),
        ("prose", GOOD + ' "And that," said Ada, "is all."'),
        ("prose", GOOD + " I can help you to write it down, and I am sorry for the long words."),
        ("sentence", "A spider has eight legs"),
        ("question", "Question: What is 3 + 4?\nAnswer: 3 + 4 = 7."),
        ("python", PROGRAM),
        ("python", f"Here it is:\n```python\n{PROGRAM}\n```\nIt doubles!"),
        ("python", "print('\\d')"),  # a warning is no fault
    ],
)
def test_a_good_reply_has_no_fault(form, text):
    assert first_fault(reply(text), FORMS[form]) is None


@pytest.mark.parametrize(
    ("form", "text", "fault"),
    [
        ("prose", "The moon is round.", "too short: 4 words"),
        ("prose", "", "too short: 0 words"),
        (
            "prose",
            " ".join(["The moon goes around the earth, and the earth goes around the sun."] * 6),
            "repeats",
        ),
        ("prose", "I'm sorry, but I cannot write about the moon. " + GOOD, "refuses"),
        ("prose", "As an AI language model, I have not seen the moon. " + GOOD, "refuses: 'As an AI"),
        ("prose", "I can’t help with this. " + GOOD, "refuses"),
        ("prose", GERMAN, "not English: english"),
        ("prose", RUSSIAN, "not English: other_scripts"),
        ("prose", "Explain the moon: " + GOOD, "echoes the prompt: 'explain the moon'"),
        ("prose", GOOD + " And 27 + 15 = 43, as all know.", "wrong sum: 27 + 15 = 43"),
        ("question", "What is 3 + 4? It is 7.", "no question"),
        ("question", "Question: What is 3 + 4?", "a question without an answer"),
        ("question", "Question: What is 3 + 4?\nAnswer: ", "a question without an answer"),
        ("question", "Question:\nAnswer: 7", "a question without an answer"),
        ("python", "def double(x)\n    return 2 * x", "does not compile"),
        ("python", "Here is the function: it doubles.", "does not compile"),
        ("python", "return 2", "does not compile: 'return' outside function"),
        ("python", "x = '\0'", "does not compile"),
        ("python", f"As an AI I write:\n```\n{PROGRAM}\n```", "refuses"),
    ],
)
def test_a_planted_fault_is_named(form, text, fault):
    assert (first_fault(reply(text), FORMS[form]) or "").startswith(fault)


def test_only_what_ran_into_the_limit_is_cut_off():
    assert checks.cut_off(reply(GOOD[:100], ended=False)) == "cut off in mid-sentence"
    assert checks.cut_off(reply(GOOD, ended=False)) is None
    assert checks.cut_off(reply("A list:\n- one\n- two", ended=True)) is None


def test_an_echo_is_eight_words_in_a_row():
    told = "Explain in simple words why the moon seems to grow and then to shrink again."
    same = "I tell you in simple words why the moon seems to move."
    assert checks.echoes(reply(same, told)) == "echoes the prompt: 'in simple words why the moon seems to'"
    assert checks.echoes(reply(same.replace("seems", "looks"), told)) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("12 - 7 = 5, 12 − 7 = 5, 3 * 4 = 12, 3 × 4 = 12, 3 x 4 = 12, 12 / 4 = 3, 12 ÷ 4 = 3", None),
        ("10 / 3 = 3.33", None),  # rounded
        ("10 / 3 = 3.34", "wrong sum: 10 / 3 = 3.34"),
        ("$1,200 + $300 = $1,500", None),
        ("$1,200 + $300 = $1,600", "wrong sum: 1,200 + 300 = 1,600"),
        ("12 apples + 7 apples = 19 apples", None),
        ("12 apples + 7 apples = 20 apples", "wrong sum: 12 + 7 = 20"),
        ("12 + 7 + 3 = 22", None),  # 7 + 3 = 22 is not what it says
        ("2 * 3 + 4 = 10", None),
        ("3 + 4 = 5 + 2", None),
        ("3 + 4 = 7.", None),
        ("3 + 4 = 8.", "wrong sum: 3 + 4 = 8"),
        ("3 + 4 = 7, 8 + 1 = 10", "wrong sum: 8 + 1 = 10"),
        ("1.5 + 1.5 = 3", None),
        ("5 / 0 = 0", "wrong sum: 5 / 0 = 0"),
        ("three and four make nine", None),  # words go unnoticed
    ],
)
def test_sums_are_done_again(text, fault):
    assert checks.wrong_sum(reply(text)) == fault


def test_nothing_of_a_program_is_run(tmp_path):
    target = tmp_path / "touched"
    assert checks.does_not_compile(reply(f"open({str(target)!r}, 'w')")) is None
    assert not target.exists()
