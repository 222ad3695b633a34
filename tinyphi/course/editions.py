"""The notebooks for students, for the instructor and for Colab: each a change of a notebook in memory."""

import re
from typing import Any

from tinyphi.course.author import exercise_of, sync
from tinyphi.course.check import judge
from tinyphi.course.exercise import Exercise, load
from tinyphi.errors import InputError

_FOLD = re.compile(r"<details\b[^>]*>|</details>", re.IGNORECASE)
_SOLUTION = re.compile(r"\s*<summary>[^<]*\bsolutions?\b", re.IGNORECASE)
_INSTALLABLE = re.compile(r"""(?:git\+)?(?:https|ssh|file)://[^\s"'\\]+""")


def student(notebook: Any) -> None:
    """Stubs in place, no outputs, and no folded solutions."""
    sync(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            forget_output(cell)
        else:
            cell.source = without_solutions(cell.source)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]


def instructor(notebook: Any) -> None:
    """The solution instead of each stub, and behind it a note on what the check recognises."""
    from nbformat.v4 import new_markdown_cell

    sync(notebook)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        name = exercise_of(cell)
        if name is not None and cell.cell_type == "code":
            exercise = load(name)
            cell.source = cell.source.replace(exercise.stub_source, exercise.solution_source, 1)
            forget_output(cell)  # it belonged to the stub
            cells.append(new_markdown_cell(_note(exercise)))
    notebook.cells = cells


def colab(notebook: Any, package: str | None) -> None:
    """A first cell that, in Colab, installs tinyphi from the address `package` and switches widgets on.

    Colab has torch, matplotlib and ipywidgets. JupyterLab is left out on purpose: it would replace parts of
    the server on which Colab runs.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell

    if package is None or not _INSTALLABLE.fullmatch(package):
        raise InputError(
            "Colab must know where pip finds tinyphi: add --package git+https://… with the address of your "
            "repository, or https://… with that of a wheel."
        )
    sync(notebook)
    note = (
        "**To open this notebook in Colab:** at colab.research.google.com choose *File → Upload notebook*,\n"
        "or *File → Open notebook → GitHub* if it lies in a repository. The next cell installs tinyphi there."
    )
    setup = (
        "import sys\n\n"
        'if "google.colab" in sys.modules:\n'
        f'    %pip install -q "tinyphi[reference] @ {package}" "anywidget>=0.9.13"\n'
        "    from google.colab import output\n"
        "    output.enable_custom_widget_manager()"
    )
    notebook.cells[:0] = [new_markdown_cell(note), new_code_cell(setup)]


def forget_output(cell: Any) -> None:
    """A code cell as if it had never run."""
    cell.outputs, cell.execution_count = [], None


def without_solutions(text: str) -> str:
    """The text without its folded blocks (`<details>`, with others inside) whose summary says "solution"."""
    kept, position, depth, start = "", 0, 0, 0
    for tag in _FOLD.finditer(text):
        opens = not tag[0].startswith("</")
        if depth == 0 and opens and _SOLUTION.match(text, tag.end()):
            depth, start = 1, tag.start()
        elif depth:
            depth += 1 if opens else -1
            if depth == 0:
                kept += text[position:start].rstrip() + "\n"
                position = tag.end()
    return kept + text[position : start if depth else len(text)].lstrip("\n" if kept else "")


def _note(exercise: Exercise) -> str:
    """For the instructor: minutes, difficulty, and what each known wrong answer is told."""
    lines = [
        f"**For the instructor** · `{exercise.name}` · {exercise.stars} · {exercise.minutes} minutes",
        "",
        "The check recognises:",
        "",
    ]
    for name, wrong in exercise.wrong_answers.items():
        says = " ".join(judge(exercise, wrong.function).message.split())
        code = "\n".join(f"  {line}".rstrip() for line in wrong.source.splitlines())
        lines += [
            f"- **{name}**: {says}",
            "",
            f"  <details><summary>The answer</summary>\n\n  ```python\n{code}\n  ```\n  </details>",
        ]
    return "\n".join(lines)
