"""answers in a browser: the prompt is chosen by list, buttons, grid and keys."""

CODE = """
from tinyphi.show import answers
answers(["What is 7 + 5?", "Say <b>nothing</b>.", "Third"], {"base": ["What is", "I say", "?"], "SFT": ["12", "", "def f():\\n    return 1"]}, {"base": [False, None, False], "SFT": [True, True, False]})
"""  # noqa: E501


def test_all_ways_to_a_prompt(in_page):
    page = in_page(CODE)
    question, answers = page.get_by_test_id("question"), page.get_by_test_id("answer")
    assert question.inner_text() == "What is 7 + 5?"
    assert answers.all_inner_texts() == ["base ✗ wrong\nWhat is", "SFT ✓ right\n12"]
    page.get_by_test_id("next").click()
    assert question.inner_text() == "Say <b>nothing</b>."
    assert answers.all_inner_texts() == ["base\nI say", "SFT ✓ right\n(nothing)"]
    page.get_by_test_id("prompt").select_option("2")
    assert answers.nth(1).inner_text() == "SFT ✗ wrong\ndef f():\n    return 1"
    page.get_by_test_id("mark").nth(3).click()  # the first prompt of the second stage
    assert question.inner_text() == "What is 7 + 5?"
    assert page.get_by_test_id("prompt").input_value() == "0"
    page.get_by_test_id("marks").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert question.inner_text() == "Third"
    page.get_by_test_id("previous").click()
    assert question.inner_text() == "Say <b>nothing</b>."


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("next").click()
    assert "I say" in page.get_by_test_id("answer").first.inner_text()
