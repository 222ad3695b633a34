"""A tiny notebook with three exercises, known only to the test that asks for it."""

import importlib
import os
import sys
from pathlib import Path

import nbformat
import pytest

from tinyphi.course import exercise
from tinyphi.course.author import sync

HERE = str(Path(__file__).parent)


@pytest.fixture
def own_exercises(monkeypatch):
    """Exercises that a test makes are forgotten after it."""
    exercise.all_exercises()  # those of the course first: they register only once
    monkeypatch.setattr(exercise, "_KNOWN", dict(exercise._KNOWN))


@pytest.fixture
def tiny_exercises(own_exercises, monkeypatch, tmp_path):
    """The module; its exercises can be loaded in this process, and after importing it in another one."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TINYPHI_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delitem(sys.modules, "tiny_exercises", raising=False)
    return importlib.import_module("tiny_exercises")


@pytest.fixture
def tiny_course(tiny_exercises, tmp_path):
    """A folder with one notebook: text, a cell with an output, a folded solution, three exercises."""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    result = nbformat.v4.new_output(
        "execute_result",
        {"text/plain": "43", "application/vnd.jupyter.widget-view+json": {"model_id": "x"}},
        execution_count=1,
    )
    folded = (
        "**Predict** the next number.\n\n<details open><summary>Solution</summary>\n\n"
        "It is <details><summary>more</summary>much more</details> 43.\n</details>\n\n"
        "<details><summary>A hint</summary>It is odd.</details>"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            markdown("# Tiny things\n**You will be able to** count."),
            code("import torch\nimport tinyphi\nimport tiny_exercises"),
            markdown(folded),
            code("42 + 1", outputs=[result], execution_count=1),
            markdown(
                "The same in letters: $\\sqrt{x^2}$, not in code: `$x$`.\n\n## Exercises\nThree of them."
            ),
            *(markdown(f"{{{{exercise {name}}}}}") for name in ("tiny.double", "tiny.causal", "tiny.length")),
        ],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "widgets": {},
        },
    )
    sync(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "course.check" in cell.source:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="not yet")]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / "90_tiny.ipynb")
    return folder
