"""answers: several stages side by side, with marks and without."""

import pytest

from tinyphi.errors import InputError
from tinyphi.show import answers

PROMPTS = ["What is 7 + 5?", "Say nothing."]
STAGES = {"base": ["What is\n7 + 5?", "I say"], "SFT": ["12", ""]}
RIGHT = {"base": [False, None], "SFT": [True, True]}


def test_the_digest_has_answers_and_totals():
    view = answers(PROMPTS, STAGES, RIGHT)
    assert view.text.splitlines() == [
        "2 prompts, 2 stages",
        "  base                     0 of 1 right (0%)",
        "  SFT                      2 of 2 right (100%)",
        "1. What is 7 + 5?",
        "  ✗ base         What is 7 + 5?",
        "  ✓ SFT          12",
        "2. Say nothing.",
        "    base         I say",
        "  ✓ SFT",
    ]
    assert view.alt == "Answers to 2 prompts: base 0 of 1 right (0%); SFT 2 of 2 right (100%)."
    assert "What is<br>7 + 5?" in view.markup
    assert answers(PROMPTS, {"base": STAGES["base"]}).alt == "Answers to 2 prompts: base not marked."


def test_faces(examine, strange):
    examine(lambda: answers(PROMPTS, STAGES, RIGHT))
    prompts = [strange(n) for n in range(200)]
    many = {f"{strange(n)}{n}": [strange(n + m) * 400 for m in range(200)] for n in range(6)}
    marks = {label: [None, True, False, True] * 50 for label in many}
    view = examine(lambda: answers(prompts, many, marks))
    assert view.text.endswith("… and 192 more")
    assert len(view.live.data["prompts"]) == 200
    assert max(len(answer) for stage in view.live.data["stages"] for answer in stage["answers"]) == 4000
    examine(lambda: answers(["\ta  b\n\n\x00"], {"x": ["def f():\n    return 1"]}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], {"a": []}), "these are 0 and 1"),
        ((PROMPTS, {}), "these are 2 and 0"),
        ((PROMPTS * 101, {"a": ["x"] * 202}), "these are 202 and 1"),
        ((PROMPTS, {str(n): ["", ""] for n in range(7)}), "these are 2 and 7"),
        ((PROMPTS, {"a": ["x"]}), "'a' has 1 entries for 2 prompts"),
        ((PROMPTS, {"a": "xy"}), "'a' has 2 entries"),
        ((PROMPTS, {"a": ["x", "y"]}, {"b": [True, True]}), "right is for b, but the stages are a"),
        ((PROMPTS, {"a": ["x", "y"]}, {"a": [True]}), "'a' has 1 entries"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        answers(*arguments)
