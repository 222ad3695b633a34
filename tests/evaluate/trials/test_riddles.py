"""What each riddle's rule accepts, and what it does not, in English and Korean."""

import pytest

from tinyphi.errors import InputError
from tinyphi.evaluate.trials import RIDDLES
from tinyphi.evaluate.trials.riddles import faster, killers, shirts

RIGHT = {
    shirts: [
        "Answer: 4 hours",
        "Answer: 4",
        "**Answer:** four hours.",
        "It would still take 4 hours.",
        "They dry at the same time, so 20 shirts take four hours.",
        "4 hours. All 20 shirts dry side by side.",
        "One after the other it would be 16 hours. But they lie side by side.\n\nAnswer: **4 hours**",
        "Answer: 240 minutes",
        "Answer: 4 hours, not 16 hours",
        "Answer: 20 shirts take 4 hours to dry.",
        "The 20 shirts take the same amount of time.",
        "The answer is: $\\boxed{4 \\text{ hours}}$",
        "답: 4시간",
        "답: 네 시간",
        "정답: 4시간입니다.",
        "답: 16시간이 아니라 4시간",
        "20벌도 같은 시간이 걸립니다.",
        "동시에 널었으므로 20벌도 똑같이 4시간이 걸립니다.",
    ],
    killers: [
        "Answer: 3",
        "Answer: three",
        "There are 3 killers left.",
        "Answer: 3 (2 original killers + the new one)",
        "Answer: 2 + 1 = 3",
        "The person who killed is now a killer too. So three killers are in the room.",
        "Answer: There are 3 killers left: 2 originals and 1 newcomer",
        "Answer: 3 alive and 1 dead",
        "Answer: 4, but one of them is dead, so 3 are alive",
        "Answer: three living killers remain.",
        "Answer: 3, not 2",
        "답: 3명",
        "답: 세 명",
        "답: 셋",
        "한 명이 죽고 새로운 살인자가 들어왔으므로 세 명이 남습니다.",
        "답: 3명 (원래 2명 + 새로 온 1명)",
        "답: 살아 있는 살인자는 3명, 죽은 살인자는 1명",
    ],
    faster: [
        "Answer: No",
        "No, Sam is not faster than Jane.",
        "Answer: Sam is slower than Jane",
        "Jane is faster than Sam.",
        "No. Jane is faster than Joe, and Joe is faster than Sam.",
        "Is Sam faster than Jane? No.",
        "It is not true that Sam is faster than Jane.",
        "Therefore, Sam cannot be faster than Jane.",
        "Jane is the fastest and Sam is the slowest.",
        "답: 아니요",
        "답: 아닙니다. 샘은 제인보다 느립니다.",
        "샘은 제인보다 빠르지 않습니다.",
        "제인이 샘보다 빠릅니다.",
        "제인이 가장 빠르므로 샘이 더 느립니다.",
    ],
}
WRONG = {
    shirts: [
        "Answer: 16 hours",
        "16",
        "Each shirt takes 0.8 hours, so 20 shirts take 20 * 0.8 = 16 hours.",
        "Answer: 4 × 4 hours = 16 hours",
        "Answer: 4 hours or 16 hours",
        "5 shirts take 4 hours. 20 shirts take 16 hours.",
        "It takes 4 hours for 5 shirts, so 4 * 4 = 16 hours for 20",
        "Answer: 20",
        "Answer: 4 minutes",
        "I do not know.",
        "",
        "답: 16시간",
        "답: 열여섯 시간",
        "셔츠 20벌은 16시간이 걸립니다.",
        "답: 4시간이 아니라 16시간",
    ],
    killers: [
        "Answer: 2",
        "Two killers are left.",
        "Answer: Of the 3 killers, 2 are left",
        "Answer: 4",
        "There are 4 killers in the room.",
        "3 - 1 = 2",
        "Answer: 2 killers, or 3 if you count the newcomer as well as others",
        "Answer: not 3 but 2",
        "Answer: one",
        "I cannot say.",
        "",
        "답: 2명",
        "답: 네 명",
        "두 명이 남습니다.",
        "세 명 중 한 명이 죽었으니 두 명이 남습니다.",
    ],
    faster: [
        "Answer: Yes",
        "Yes, Sam is faster than Jane.",
        "Sam is faster than Jane.",
        "It cannot be determined.",
        "Answer: There is not enough information",
        "No, Sam is faster than Jane.",
        "Jane is faster than Joe. Joe is faster than Sam.",
        "Sam is the fastest.",
        "Jane is slower than Sam.",
        "",
        "답: 네",
        "네, 샘이 제인보다 빠릅니다.",
        "샘은 제인보다 빠릅니다.",
        "알 수 없습니다.",
    ],
}


def pairs(answers):
    return [
        pytest.param(rule, text, id=f"{rule.__name__}: {text}") for rule in answers for text in answers[rule]
    ]


@pytest.mark.parametrize(("rule", "text"), pairs(RIGHT))
def test_a_right_answer_is_accepted(rule, text):
    grade = rule(text)
    assert grade.passed, grade.reasons


@pytest.mark.parametrize(("rule", "text"), pairs(WRONG))
def test_a_wrong_answer_is_not(rule, text):
    grade = rule(text)
    assert grade.score == 0, grade.reasons
    assert len(grade.reasons) == 1 and grade.reasons[0]


def test_the_reason_tells_what_was_read():
    assert shirts("Answer: 16 hours").reasons == ("read 16 hours in '16 hours'; right is 4 hours",)
    assert "2 different answers" in shirts("Answer: 4 hours or 16 hours").reasons[0]
    assert "'yes'" in faster("Answer: Yes").reasons[0]


def test_the_last_line_counts_and_not_what_is_before():
    for rule, right, wrong in ((shirts, "4 hours", "16 hours"), (killers, "3", "2"), (faster, "No", "Yes")):
        assert rule(f"At first I thought: {wrong}.\nAnswer: {wrong}\nBut no.\nAnswer: {right}").passed
        assert not rule(f"At first I thought: {right}.\nAnswer: {right}\nBut no.\nAnswer: {wrong}").passed


def test_a_question_that_is_repeated_is_no_answer():
    for riddle in RIDDLES:
        for language in ("en", "ko"):
            story = riddle.prompt(language).split("Think")[0].split("차근")[0]
            assert not riddle.grade(story).passed
            assert not riddle.grade(f"Let us think.\n{story}\nTo find out we must look at it.").passed
    assert not shirts("5 shirts take 4 hours. To find the time for more of them, we multiply.").passed
    assert not killers("There were 3 killers originally. Let us see how it goes on.").passed


def test_long_nonsense_is_read_quickly():
    for rule in (shirts, killers, faster):
        for text in (
            "3 " * 5000,
            "남아" * 5000,
            "in the room " * 3000,
            "Answer: " + "3 is left " * 2000 + "x",
        ):
            assert rule(text).score in (0, 1)


def test_a_language_that_is_not_there():
    with pytest.raises(InputError, match="in en and ko, not in 'fr'"):
        RIDDLES[0].prompt("fr")
