"""Each problem is planted once in a notebook without problems, and found."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinyphi.course import exercise as exercise_module
from tinyphi.course.audit import LARGEST, audit, audit_sanitize, main, table, with_table
from tinyphi.course.author import exercise_cells
from tinyphi.course.exercise import Exercise, fail_if
from tinyphi.errors import InputError

Notebook = dict[str, Any]
PROMISE = """# Attention

**You will be able to** see where a model looks.

*25 minutes · difficulty ★☆☆ · memory 1 GB*"""


def prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def code(count: int, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {},
        "outputs": list(outputs),
        "source": source.splitlines(keepends=True),
    }


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": [text]}


def displayed(**data: str) -> dict[str, Any]:
    kinds = {kind.replace("_", "/", 1): [text] for kind, text in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": kinds}


def make_exercise(name: str, wrong_answers: int = 3) -> Exercise:
    ex = Exercise(
        name,
        notebook="notebook",
        title="Double it",
        difficulty=1,
        minutes=3,
        task="Write `twice(x)`.",
        hints=["+"],
    )

    @ex.stub
    def twice(x: int) -> Any:
        """Twice x."""
        # your code

    @ex.solution
    def twice_right(x: int) -> int:
        """Twice x."""
        # The sum and the product are one number.
        total = x + x
        return max(total, 2 * x) if name else 0

    @ex.judge
    def judge(f: Callable[[int], int]) -> None:
        fail_if(f(3) != 6, "not twice 3")

    for number in range(wrong_answers):
        ex.wrong(f"wrong {number}", says="not twice")(lambda x: x)
    return ex


@pytest.fixture
def exercises(monkeypatch: pytest.MonkeyPatch) -> list[Exercise]:
    """Three exercises that nobody else sees."""
    exercise_module.all_exercises()  # the package's own are known from now on, and come back afterwards
    monkeypatch.setattr(exercise_module, "_KNOWN", {})
    return [make_exercise(name) for name in ("test.one", "test.two", "test.three")]


CLEAN: Notebook = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "tinyphi": {"seconds": 12.5, "memory_mb": 400},
    },
    "cells": [
        prose(PROMISE),
        code(1, "import tinyphi"),
        code(2, "print(1 + 1)", printed("2\n")),
        prose(
            "A [link](https://example.org/paper) to a paper is welcome; so is ![a picture](attachment:a.png)."
        ),
        code(3, "view", displayed(text_plain="2 tokens", image_png="iVBOR")),
        code(
            4,
            "# Where attention looks\nview",
            displayed(text_plain="1 head", text_html="<b title='x'>1 head</b>"),
        ),
    ],
}


@pytest.fixture
def notebook(exercises: list[Exercise]) -> Notebook:
    """A notebook without problems: what is above, then three exercises."""
    notebook = copy.deepcopy(CLEAN)
    for count, exercise in enumerate(exercises, start=5):
        text, answer = (dict(cell) for cell in exercise_cells(exercise))
        told = displayed(text_plain="✗ not yet", text_html="<b>✗ not yet</b>")
        notebook["cells"] += [text, {**answer, "execution_count": count, "outputs": [told]}]
    return notebook


def add_code(source: str, *outputs: dict[str, Any]) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"].append(code(8, source, *outputs))


def add_prose(text: str) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"].append(prose(text))


def set_metadata(name: str, value: Any) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["metadata"].__setitem__(name, value)


def change(number: int, **fields: Any) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"][number].update(fields)


def tagged(number: int, *tags: str) -> Callable[[Notebook], None]:
    return change(number, metadata={"tags": list(tags)})


def ignore_two(notebook: Notebook) -> None:
    for number in (2, 4):
        notebook["cells"][number]["metadata"]["tags"] = ["nbval-ignore-output"]
        notebook["cells"][number]["source"] = ["# not compared: random"]


def only_pictures(notebook: Notebook) -> None:
    for number in (2, 4):
        figure = displayed(text_plain="<Figure size 640x480 with 1 Axes>", image_png="iVBOR")
        notebook["cells"][number]["outputs"] = [figure]


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
NUMBERS = ", ".join(f"{n / 7:.4f}" for n in range(13))
PROBLEMS: dict[str, tuple[Callable[[Notebook], None], str]] = {
    "never run": (change(1, execution_count=None), "cell 1: was never run"),
    "out of order": (change(1, execution_count=9), "not run from top to bottom"),
    "run twice": (change(5, execution_count=16), "not run from top to bottom"),
    "error": (add_code("boom()", ERROR), "ends in ValueError"),
    "stderr": (add_code("warn()", printed("careful\n", "stderr")), "writes to stderr: 'careful'"),
    "ignored": (ignore_two, "nbval compares only 4 of 6"),
    "pictures only": (only_pictures, "nbval compares only 4 of 6"),
    "skip tag": (tagged(1, "nbval-skip"), "without a reason"),
    "ignore tag": (tagged(1, "nbval-ignore-output"), "without a reason"),
    "skip comment": (add_code("# NBVAL_SKIP\nslow()"), "without a reason"),
    "ignore comment": (add_code("# NBVAL_IGNORE_OUTPUT\nslow()"), "without a reason"),
    "old ignore comment": (add_code("# PYTEST_VALIDATE_IGNORE_OUTPUT\nslow()"), "without a reason"),
    "too large": (add_code("x", displayed(text_plain="x", image_png="A" * LARGEST)), "bytes; keep it below"),
    "image in prose": (add_prose("![a](https://example.org/a.png)"), "from another machine"),
    "image tag": (add_prose('<img width="3" src="//example.org/a.png">'), "from another machine"),
    "script": (add_code("x", displayed(text_html="<script src='http://a.b/c.js'>")), "from another machine"),
    "style": (
        add_code("x", displayed(text_html="<i style='background:url(http://a.b/c)'>")),
        "another machine",
    ),
    "pip magic": (add_code("%pip install tinyphi"), "installs packages"),
    "pip shell": (add_code("!pip install -q tinyphi"), "installs packages"),
    "pip module": (add_code("import sys\n!{sys.executable} -m pip install tinyphi"), "installs packages"),
    "pip process": (add_code("run([python, '-m', 'pip', 'install', 'tinyphi'])"), "installs packages"),
    "tensor": (add_code("x", displayed(text_plain=f"tensor([{NUMBERS}])")), "prints a tensor"),
    "tensor, nested": (
        add_code("x", printed(f"y: tensor([[{NUMBERS}],\n [1.]], dtype=torch.int8)")),
        "prints a tensor",
    ),
    "long code": (add_code("\n".join(["x = 1"] * 31)), "more than a screen"),
    "long prose": (add_prose("word " * 800), "more than a screen"),
    "no title": (change(0, source=PROMISE.removeprefix("# ")), "does not begin with a title"),
    "no promise": (change(0, source=PROMISE.replace("**You", "You")), "**You will be able to**"),
    "no minutes": (change(0, source=PROMISE.replace("25 minutes", "short")), "no line below the title"),
    "no difficulty": (change(0, source=PROMISE.replace("difficulty", "")), "no line below the title"),
    "no memory": (change(0, source=PROMISE.replace("1 GB", "little")), "no line below the title"),
    "kernel": (lambda notebook: notebook["metadata"]["kernelspec"].update(name="mine"), "'mine'"),
    "not measured": (set_metadata("tinyphi", {}), "nobody measured"),
    "measured by hand": (set_metadata("tinyphi", {"seconds": "fast"}), "nobody measured"),
    "too slow": (set_metadata("tinyphi", {"seconds": 60.1}), "60.1 seconds; at most 60"),
    "endless": (set_metadata("tinyphi", {"seconds": float("nan")}), "nan seconds; at most 60"),
    "widget": (
        add_code("view", displayed(text_plain="1", **{"application_vnd.jupyter.widget-view+json": "{}"})),
        "stores a widget",
    ),
    "widget state": (set_metadata("widgets", {"a": {}}), "state of widgets"),
    "exercise missing": (
        lambda notebook: notebook["cells"].__delitem__(slice(-2, None)),
        "test.three does not",
    ),
    "exercise without text": (lambda notebook: notebook["cells"].pop(-2), "test.three does not stand"),
    "exercise torn apart": (
        lambda notebook: notebook["cells"].insert(-1, prose("By the way,")),
        "test.three does not stand",
    ),
    "old task": (change(-2, source="### Double it\nWrite it."), "test.three differs"),
    "old stub": (change(-1, source="def twice(x): ..."), "test.three differs"),
    "unknown exercise": (
        lambda notebook: notebook["cells"].append(
            {**prose("?"), "metadata": {"tinyphi": {"exercise": "no.such"}}}
        ),
        "no exercise 'no.such'",
    ),
    "solution printed": (add_code('tinyphi.course.solution("test.one")'), "prints a solution"),
}
TELLING = """def other(y):
    # The same, laid out in another way.
    total = (x+x)
    return max(total,
               2*x) if name else 0"""


def write(folder: Path, notebook: Notebook) -> Path:
    path = folder / "notebook.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def test_a_clean_notebook_passes(tmp_path: Path, notebook: Notebook, exercises: list[Exercise]) -> None:
    assert audit(write(tmp_path, notebook), exercises) == []


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_planted_problem_is_found(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise], name: str
) -> None:
    plant, expected = PROBLEMS[name]
    plant(notebook)
    problems = audit(write(tmp_path, notebook), exercises)
    assert len(problems) == 1 and expected in problems[0], problems


@pytest.mark.parametrize("how", ["code", "prose", "printed"])
def test_a_told_solution_is_found(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise], how: str
) -> None:
    cell = {
        "code": code(8, TELLING),
        "prose": prose(f"Easy:\n```python\n{exercises[0].solution_source}```"),
        "printed": code(
            8, "peek()", printed(exercises[0].solution_source.replace('    """Twice x."""\n', ""))
        ),
    }[how]
    notebook["cells"].append(cell)
    problems = audit(write(tmp_path, notebook), exercises)
    assert [problem.split(": ")[1] for problem in problems] == [
        f"tells the solution of {exercise.name}" for exercise in exercises
    ]


def test_a_notebook_with_two_exercises_is_noticed(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise]
) -> None:
    del notebook["cells"][-2:]
    problems = audit(write(tmp_path, notebook), exercises[:2])
    assert problems == ["the package has 2 exercises for this notebook; at least 3 are wanted"]


@pytest.mark.parametrize("part", ["_stub", "_solution", "_judge"])
def test_an_exercise_without_a_part_is_noticed(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise], part: str
) -> None:
    setattr(exercises[1], part, None)
    problems = audit(write(tmp_path, notebook), exercises)
    assert problems == [f"the exercise test.two has no {part[1:]}"]


def test_an_exercise_without_its_wrong_answers_is_noticed(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise]
) -> None:
    del exercises[0].wrong_answers["wrong 1"]
    problems = audit(write(tmp_path, notebook), exercises)
    assert problems == ["the exercise test.one has 2 wrong answers; at least 3 are wanted"]


def test_the_exercises_are_those_of_the_package_that_name_the_notebook(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, notebook)
    monkeypatch.setattr(exercise_module, "all_exercises", lambda: exercises)
    assert audit(path) == []
    exercises[2].notebook = "other"
    assert len(audit(path)) == 3  # two exercises are too few, and two cells belong to none


ALLOWED: dict[str, Callable[[Notebook], None]] = {
    "a reason in the cell": add_code(
        "# NBVAL_IGNORE_OUTPUT\n# not compared: the time differs\nslow()", printed("1")
    ),
    "an error that is the lesson": add_code("# NBVAL_RAISES_EXCEPTION\nboom()", ERROR),
    "a short tensor": add_code("x", displayed(text_plain="tensor([1., 2., 3.])")),
    "a promise in the second cell": lambda notebook: notebook["cells"].__setitem__(
        slice(0, 1), [prose("# Attention"), prose(PROMISE.removeprefix("# Attention\n\n"))]
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed(tmp_path: Path, notebook: Notebook, exercises: list[Exercise], name: str) -> None:
    ALLOWED[name](notebook)
    assert audit(write(tmp_path, notebook), exercises) == []


def test_a_reason_may_stand_in_the_text_beside(
    tmp_path: Path, notebook: Notebook, exercises: list[Exercise]
) -> None:
    notebook["cells"] += [
        prose("*Not compared: speed depends on your machine.*"),
        code(8, "# NBVAL_SKIP\nslow()"),
    ]
    assert audit(write(tmp_path, notebook), exercises) == []


def test_the_table_says_how_much_is_compared(tmp_path: Path, notebook: Notebook) -> None:
    only_pictures(notebook)
    path = write(tmp_path, notebook)
    assert table(tmp_path).splitlines()[2:] == ["| `notebook` | 6 | 4 | 67% |"]
    notebook["cells"] = notebook["cells"][:2]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert "| 0 | 0 | – |" in table(tmp_path)


def test_the_table_is_written_between_its_two_comments(
    tmp_path: Path, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook["metadata"].pop("tinyphi")
    write(tmp_path, notebook)
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- compared -->\nold\n<!-- /compared -->\nafter\n", encoding="utf-8")
    problems = main(["--notebooks", str(tmp_path), "--write", str(page)])
    written = page.read_text(encoding="utf-8")
    assert written == f"before\n<!-- compared -->\n{table(tmp_path)}<!-- /compared -->\nafter\n"
    assert written == with_table(written, tmp_path)
    out, err = capsys.readouterr()
    assert "| 6 | 6 | 100% |" in out
    assert problems == 1 and "notebook.ipynb: nobody measured" in err
    with pytest.raises(InputError, match="no lines <!-- compared -->"):
        with_table("a page", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nbformat": 3}', '{"nbformat": 4, "cells": []}'])
def test_what_is_no_notebook(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text(text)
    with pytest.raises(InputError, match=r"notebook\.ipynb"):
        audit(path)
    with pytest.raises(InputError, match="cannot be read"):
        audit(tmp_path / "missing.ipynb")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("# a comment\n[a]\nregex: \\d+ s\nreplace: TIME\n", []),
        ("regex: \\d+ s\n\nreplace: TIME\n", ["ignores this line", "ignores this line"]),
        ("regex:\\d+ s\nreplace: TIME\n", ["ignores this line", "ignores this line"]),
        ("regex: (\\d+ s\nreplace: TIME\n", ["does not compile"]),
        ("regex: \\d+ s\nreplace: \\2\n", ["does not compile"]),
    ],
)
def test_sanitize_rules(tmp_path: Path, rules: str, expected: list[str]) -> None:
    path = tmp_path / "sanitize.cfg"
    path.write_text(rules)
    problems = audit_sanitize(path)
    assert len(problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


def test_the_rules_are_read_as_nbval_reads_them() -> None:
    plugin = pytest.importorskip("nbval.plugin")
    text = (Path(__file__).parents[1] / "notebooks" / "sanitize.cfg").read_text()
    rules = plugin.get_sanitize_patterns(text)
    assert len(rules) == text.count("regex: ") > 0
