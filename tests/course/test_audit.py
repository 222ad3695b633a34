"""Each problem is planted once in a notebook without problems, and found."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinyphi.course.audit import LARGEST, audit, audit_sanitize
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
    kinds = {kind.replace("_", "/"): [text] for kind, text in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": kinds}


CLEAN: Notebook = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
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


def add_code(source: str, *outputs: dict[str, Any]) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"].append(code(5, source, *outputs))


def add_prose(text: str) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"].append(prose(text))


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
    "run twice": (change(5, execution_count=6), "not run from top to bottom"),
    "error": (add_code("boom()", ERROR), "ends in ValueError"),
    "stderr": (add_code("warn()", printed("careful\n", "stderr")), "writes to stderr: 'careful'"),
    "ignored": (ignore_two, "nbval compares only 1 of 3"),
    "pictures only": (only_pictures, "nbval compares only 1 of 3"),
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
}


def write(folder: Path, notebook: Notebook) -> Path:
    path = folder / "notebook.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def test_a_clean_notebook_passes(tmp_path: Path) -> None:
    assert audit(write(tmp_path, CLEAN)) == []


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_planted_problem_is_found(tmp_path: Path, name: str) -> None:
    plant, expected = PROBLEMS[name]
    notebook = copy.deepcopy(CLEAN)
    plant(notebook)
    problems = audit(write(tmp_path, notebook))
    assert len(problems) == 1 and expected in problems[0], problems


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
def test_what_is_allowed(tmp_path: Path, name: str) -> None:
    notebook = copy.deepcopy(CLEAN)
    ALLOWED[name](notebook)
    assert audit(write(tmp_path, notebook)) == []


def test_a_reason_may_stand_in_the_text_beside(tmp_path: Path) -> None:
    notebook = copy.deepcopy(CLEAN)
    notebook["cells"] += [
        prose("*Not compared: speed depends on your machine.*"),
        code(5, "# NBVAL_SKIP\nslow()"),
    ]
    assert audit(write(tmp_path, notebook)) == []


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
