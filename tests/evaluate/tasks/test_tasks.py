"""Each benchmark asks in the words it claims, and marks right and wrong answers as such."""

import math

import pytest

from tinyphi.evaluate.likelihood import Likelihood
from tinyphi.evaluate.published import REPORT
from tinyphi.evaluate.tasks import TASKS
from tinyphi.evaluate.tasks.base import Question, accuracy
from tinyphi.evaluate.tasks.bbh import stated_answer as bbh_answer
from tinyphi.evaluate.tasks.gsm8k import last_number, stated_answer
from tinyphi.evaluate.tasks.mt_bench import mark_in


def asked(task, row, examples=(), wording="lm-eval"):
    return TASKS[task].wordings[wording].prompts(row, examples)


def likelihoods(*logs):
    return [Likelihood(log, False) for log in logs]


def test_acc_norm_divides_by_characters():
    question = Question(("Q",), ("no", "a long answer"), right=1)
    scores = accuracy(question, likelihoods(-3.0, -8.0))
    assert scores["acc"].value == 0.0 and scores["acc_norm"].value == 1.0


def test_of_equal_answers_the_first_counts():
    assert accuracy(Question(("Q",), ("a", "b"), 0), likelihoods(-1.0, -1.0))["acc"].value == 1.0
    assert accuracy(Question(("Q",), ("a", "b"), 1), likelihoods(-1.0, -1.0))["acc"].value == 0.0


def test_the_shape_of_appendix_a(arc_rows):
    (prompt,) = asked("arc_easy", arc_rows[2], arc_rows[:1], "report")
    assert prompt == (
        "Question:\nWhat melts in the sun?\nOptions:\nA. ice\nB. a stone\nC. an iron door\nD. the wind\n"
        "Answer: A\n\n"
        "Question:\nWhat do plants need?\nOptions:\nA. music\nB. darkness\nC. light and water\nAnswer:"
    )


def test_the_report_used_so_many_examples():
    names = {"mmlu": "MMLU", "arc_easy": "ARC-E", "piqa": "PIQA", "boolq": "BoolQ", "triviaqa": "TriviaQA"}
    for task, name in names.items():
        assert TASKS[task].wordings["report"].shots == REPORT.rows[name].shots
    assert TASKS["gsm8k"].wordings["lm-eval"].shots == REPORT.rows["GSM8K"].shots == 8
    assert TASKS["mbpp"].wordings["lm-eval"].shots == REPORT.rows["MBPP"].shots
    assert TASKS["bbh"].wordings["lm-eval"].shots == REPORT.rows["BBH"].shots


def test_winogrande_fills_the_gap(winogrande_rows):
    assert asked("winogrande", winogrande_rows[0]) == [
        "Anna gave Mary a book because Anna", "Anna gave Mary a book because Mary"
    ]  # fmt: skip


def test_mmlu_names_the_subject(mmlu_rows):
    (prompt,) = asked("mmlu", mmlu_rows[0], mmlu_rows[1:2])
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about small sums.\n\n"
    )
    assert (
        prompt.endswith("What is 1 plus 2?\nA. 3\nB. 4\nC. 8\nD. 12\nAnswer:") and "Answer: D\n\n" in prompt
    )


@pytest.mark.parametrize(
    ("reply", "stated", "last"),
    [
        ("He has 3 + 4 = 7. The answer is 7.", 1, 1),
        ("The answer is $7.00 or so: 7", 0, 1),
        ("So the total is 7.", 0, 1),
        ("The answer is 17.", 0, 0),
        ("The answer is 7. Or 8?", 1, 0),
        ("no idea", 0, 0),
        ("", 0, 0),
    ],
)
def test_gsm8k_finds_the_answer(reply, stated, last):
    scores = TASKS["gsm8k"].mark({"answer": "It is 3 + 4.\n#### 7"}, reply)
    assert (scores["exact_match"].value, scores["flexible"].value) == (stated, last)


def test_thousands_are_numbers():
    assert TASKS["gsm8k"].mark({"answer": "#### 1,200"}, "The answer is 1200.")["exact_match"].value == 1.0
    assert stated_answer("The answer is 1,200.") == "1,200" and last_number("it is -5") == "-5"


def test_gsm8k_is_asked_with_its_examples():
    task = TASKS["gsm8k"]
    (prompt,) = asked("gsm8k", {"question": "How many?", "answer": "#### 1"}, task.examples)
    assert (
        prompt.count("Q: ") == 9
        and prompt.count("The answer is") == 8
        and prompt.endswith("Q: How many?\nA:")
    )


def test_triviaqa_knows_all_names():
    row = {"question": "Who?", "answer": {"aliases": ["Ada Lovelace", "Lovelace, Ada"]}}
    for reply, right in ((" ada lovelace", 1.0), ("Lovelace Ada!", 1.0), ("Ada", 0.0), ("", 0.0)):
        assert TASKS["triviaqa"].mark(row, reply)["exact_match"].value == right


def test_bbh_reads_what_the_answer_is():
    assert bbh_answer("A. So the answer is False.") == "False"
    assert bbh_answer("So the answer is (B).\nthe answer is (C).") == "(B)"
    assert bbh_answer("False") == "[invalid]"
    examples = [{"input": "1?", "target": "steps", "introduction": "Puzzles.\n\n"}]
    (prompt,) = asked("bbh", {"input": "2?", "target": "x"}, examples)
    assert prompt == (
        "Puzzles.\n\nQ: 1?\nA: Let's think step by step.\nsteps\n\nQ: 2?\nA: Let's think step by step.\n"
    )


def test_truthful_answers_share_the_probability():
    row = {"mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 0, 1]}}
    question = Question(("Q",), ("a", "b", "c"))
    logs = [math.log(part) for part in (0.02, 0.03, 0.05)]
    score = TASKS["truthfulqa_mc2"].mark(row, question, likelihoods(*logs))["acc"]
    assert score.value == pytest.approx(0.7)
    far = TASKS["truthfulqa_mc2"].mark(row, question, likelihoods(-2000.0, -2000.0, -2000.0))["acc"]
    assert far.value == pytest.approx(2 / 3)  # where e^-2000 would be 0 / 0


def test_a_judges_mark_is_read():
    assert mark_in("Fine. [[7]]") == 7 and mark_in("[[2]] at first, [[9.5]] now") == 9.5
    assert mark_in("7") is mark_in("[[0]]") is mark_in("[[11]]") is None


def test_a_program_is_put_together():
    row = {"text": "Add.", "code": "def add(a, b): return a + b", "test_list": ["assert add(1, 2) == 3"] * 4}
    assert TASKS["mbpp"].program(row, row["code"]).count("assert") == 4
    (prompt,) = asked("mbpp", row, TASKS["mbpp"].examples)
    assert prompt.count("[BEGIN]") == 4 and prompt.count("[DONE]") == 3 and prompt.endswith("[BEGIN]\n")
    exec(TASKS["mbpp"].program(row, row["code"]), {})
    with pytest.raises(AssertionError):
        exec(TASKS["mbpp"].program(row, "def add(a, b): return a"), {})


@pytest.mark.parametrize("example", TASKS["mbpp"].examples, ids=lambda example: example["text"][:30])
def test_the_solved_examples_of_mbpp_are_right(example):
    exec(TASKS["mbpp"].program(example, example["code"]), {})


def test_the_wording_is_lm_evals(arc_rows):
    """Those words that test_lm_eval.py does not compare by running: read from lm-eval's own files."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install lm-eval")
    yaml = pytest.importorskip("yaml")
    from pathlib import Path

    folder = Path(lm_eval.__file__).parent / "tasks"
    gsm8k = yaml.safe_load((folder / "gsm8k" / "gsm8k-cot.yaml").read_text())
    theirs = [(one["question"], one["target"]) for one in gsm8k["fewshot_config"]["samples"]]
    assert [(one["question"], one["solution"]) for one in TASKS["gsm8k"].examples] == theirs
    assert gsm8k["doc_to_text"] == "Q: {{question}}\nA:"
    assert tuple(gsm8k["generation_kwargs"]["until"]) == TASKS["gsm8k"].wordings["lm-eval"].stops
    puzzle = yaml.safe_load((folder / "bbh" / "cot_fewshot" / "navigate.yaml").read_text())
    assert puzzle["doc_to_text"] == "Q: {{input}}\nA: Let's think step by step.\n"
    template = yaml.safe_load((folder / "bbh" / "cot_fewshot" / "_cot_fewshot_template_yaml").read_text())
    assert tuple(template["generation_kwargs"]["until"]) == TASKS["bbh"].wordings["lm-eval"].stops
