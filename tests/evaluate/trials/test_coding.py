"""Every problem with right programs and wrong ones; and programs that try to be graded well otherwise."""

import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from tinyphi.evaluate.trials import CODING, programs
from tinyphi.evaluate.trials.coding import ALTERNATING, DEGREES, DOMAIN, MATRIX, VOLTAGE
from tinyphi.evaluate.trials.programs import code_of, defined

SOLUTIONS = runpy.run_path(str(Path(__file__).with_name("solutions.py")))
PROBLEMS = {"DEGREES": DEGREES, "DAC": VOLTAGE, "PTR": DOMAIN, "MATRIX": MATRIX, "ALTERNATING": ALTERNATING}
ANSWERS = [(problem, name) for problem in PROBLEMS for name in SOLUTIONS[problem]]
RIGHT = {"right", "by the library", "by getnameinfo", "tuples"}


def reply(code):
    return f"Here is the function:\n\n```python\n{code}\n```\n\nIt does what you asked for."


@pytest.mark.parametrize(("problem", "name"), ANSWERS)
def test_right_and_wrong_programs(problem, name, monkeypatch):
    monkeypatch.setattr(programs, "TIMEOUT", 3.0 if name == "too slow" else 20.0)
    grade = PROBLEMS[problem].grade(reply(SOLUTIONS[problem][name]))
    assert grade.passed == (name in RIGHT), grade.reasons
    if not grade.passed:
        assert 0 <= grade.score < 1 and ("3 s" if name == "too slow" else "was wanted") in grade.reasons[1]


def test_the_cases_are_right_by_another_way():
    """Against a search through all substrings."""

    def alternates(text):
        return all(int(a) % 2 != int(b) % 2 for a, b in pairwise(text))

    for (digits,), wanted in ALTERNATING.cases:
        if len(digits) < 100:
            parts = [digits[a:b] for a in range(len(digits)) for b in range(a + 1, len(digits) + 1)]
            assert max(filter(alternates, parts), key=len, default="") == wanted


def test_prompts_show_none_of_the_cases():
    for trial, problem in zip(CODING, PROBLEMS.values(), strict=True):
        for language in ("en", "ko"):
            for given, _ in problem.cases:
                assert problem._call(given) not in trial.prompt(language)
            assert f"`{problem.function}(" in trial.prompt(language)


def test_nothing_is_run_unless_asked_for(monkeypatch):
    monkeypatch.setattr(programs, "run_python", lambda *_, **__: pytest.fail("it was run"))
    for trial in CODING:
        grade = trial.grade(reply("x"))
        assert grade.score is None and "--run-code" in grade.reasons[0] and not grade.passed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I am sorry, I cannot do that.", "invalid syntax"),
        ("", "there is no to_degrees in it"),
        (reply("def rad2deg(r): return r"), "it defines rad2deg, not to_degrees"),
        (reply("def to_degrees(r) return r"), "SyntaxError"),
        (reply("import numpy\ndef to_degrees(r): return numpy.degrees(r)"), "No module named 'numpy'"),
        (reply("while True: pass\ndef to_degrees(r): return r"), "it had not ended after 2 s"),
        (reply("x = [0] * 10**10\ndef to_degrees(r): return r"), "MemoryError"),
        (reply("import os; os.abort()\ndef to_degrees(r): return r"), "ends before its time"),
    ],
)
def test_what_is_no_program(text, says, monkeypatch):
    monkeypatch.setattr(programs, "TIMEOUT", 2.0)
    grade = DEGREES.grade(text)
    assert grade.score == 0 and says in grade.reasons[0], grade.reasons


def test_cases_after_one_without_end_are_told_so(monkeypatch):
    monkeypatch.setattr(programs, "TIMEOUT", 2.0)
    code = SOLUTIONS["MATRIX"]["right"].replace("\n", "\n    while n == 0: pass\n", 1)
    grade = MATRIX.grade(reply(code))
    assert grade.score == pytest.approx(3 / 9)
    assert grade.reasons[1] == "identity(0): it had not ended after 2 s" and grade.reasons[-1] == "and 3 more"


def test_examples_and_questions_behind_the_function_do_no_harm():
    code = SOLUTIONS["MATRIX"]["right"]
    more = "\nprint(identity(3))\nif __name__ == '__main__':\n    raise RuntimeError\nn = int(input('n? '))\n"
    assert MATRIX.grade(reply(code + more)).passed


# ------------------------------------------------------------------------------------- cheating

FORGERS = {
    "prints what a grader might want": "print('9 of 9 are right')\ndef identity(n): return 1",
    "leaves early": "import sys\ndef identity(n): sys.exit(0)",
    "leaves at once": "import os\nos._exit(0)\ndef identity(n): pass",
    "equals everything": "class All(list):\n    def __eq__(self, other): return True\n"
    "def identity(n): return All()",
    "speaks for the grader": """
import sys, json
def identity(n):
    frame = sys._getframe(1)
    for case in range(9):
        frame.f_locals['say'](case=case, value=[[1]])
        frame.f_locals['say'](case=[case], value=[[1]])
        frame.f_locals['say'](case=case)
    print(frame.f_locals['mark'] + '{', file=sys.__stdout__)
    return [[1]]
""",
}


@pytest.mark.parametrize("name", FORGERS)
def test_a_program_cannot_grade_itself(name):
    grade = MATRIX.grade(reply(FORGERS[name]))
    assert grade.score < 0.5, grade.reasons


def test_the_answers_are_not_in_the_sandbox():
    """The program reads all that is there with it, and finds the questions only."""
    code = """
import gc, sys
def domain_name(address):
    frame = sys._getframe(1)
    return str([value for value in frame.f_locals.values() if isinstance(value, list)])
"""
    grade = DOMAIN.grade(reply(code))
    assert "192.0.2.1" in grade.reasons[1] and grade.score == 0


# ------------------------------------------------------------------------------------- finding the code

USES = "```python\nprint(f(1))\n```"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(): 1\n```", "def f(): 1\n"),
        ("```\ndef f(): 1\n```", "def f(): 1\n"),
        ("```py\ndef f(): 1\n```\nUse it:\n" + USES, "def f(): 1\n"),
        ("```python\ndef f(): 1\n```\nBetter:\n```python\ndef f(): 2\n```", "def f(): 2\n"),
        ("```python\ndef f(): 1", "def f(): 1"),
        ("def f(): 1", "def f(): 1"),
        ("```bash\npip install f\n```\n```Python\ndef f(): 1\n```", "def f(): 1\n"),
        ("```python\nf(\n```", "f(\n"),
    ],
)
def test_the_program_is_found_in_a_reply(text, code):
    assert code_of(text, "f") == code


def test_what_a_program_defines():
    assert defined("def f(): pass\nclass A: pass\nif 1:\n    def g(): pass") == ["f", "A"]
    assert defined("f(") == defined("\0") == []
