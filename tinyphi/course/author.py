"""For those who write notebooks: run them, and keep their exercises equal to the exercises' own texts.

    python -m tinyphi.course.author sync notebooks/04_attention_one_head.ipynb
    python -m tinyphi.course.author run notebooks/*.ipynb
    python -m tinyphi.course.author measure notebooks/*.ipynb      # a table of minutes, seconds and memory

`sync` replaces a Markdown cell `{{exercise attention.causal_mask}}` by the two cells of that exercise, and
writes those that are there already anew. `run` does that too, runs the notebook from top to bottom in a fresh
kernel, and stores what nbval will compare, without the widgets' state: a widget without its kernel shows only
an error. It notes the seconds and the kernel's peak memory in the notebook's metadata.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from tinyphi.course.audit import WIDGET, audit
from tinyphi.course.exercise import Exercise, load
from tinyphi.errors import InputError

_PLACE = re.compile(r"\{\{exercise ([\w.]+)\}\}")
_NOISE = ("execution", "ExecuteTime", "collapsed", "scrolled", "trusted")  # what editors leave in metadata


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tinyphi.course.author", description=__doc__)
    parser.add_argument("action", choices=["sync", "run", "measure"])
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    found = 0
    for path in options.notebooks:
        notebook = read(path)
        if options.action == "measure":
            print(f"| {path.stem} | {_promised_minutes(notebook)} | {' | '.join(_measured(notebook))} |")
            continue
        sync(notebook)
        if options.action == "run":
            run(notebook, path)
        save(notebook, path)
        problems = audit(path)
        seconds, memory = _measured(notebook)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {seconds} s, {memory} MB")
        for problem in problems:
            print(f"  {problem}")
        found += len(problems)
    return 1 if found else 0


def read(path: Path) -> Any:
    """The notebook in a file. Raises InputError for a file that is missing or holds none."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a notebook: {str(error).splitlines()[0]}") from error


def sync(notebook: Any) -> None:
    """Write the cells of every exercise in `notebook` as its Exercise says."""
    cells = []
    for cell in notebook.cells:
        name = exercise_of(cell)
        place = _PLACE.fullmatch(cell.source.strip())
        if place:
            cells += exercise_cells(load(place[1]))
        elif name is None:
            cells.append(cell)
        else:
            fresh = exercise_cells(load(name))[0 if cell.cell_type == "markdown" else 1]
            cell.source = fresh.source
            cells.append(cell)
    notebook.cells = cells


def exercise_of(cell: Any) -> str | None:
    """The name of the exercise that a cell belongs to."""
    name: str | None = cell.get("metadata", {}).get("tinyphi", {}).get("exercise")
    return name


def exercise_cells(exercise: Exercise) -> list[Any]:
    """The task with its folded hints, and the stub with the check."""
    hints = "\n".join(
        f"<details><summary>Hint {number}</summary>\n\n{hint}\n</details>"
        for number, hint in enumerate(exercise.hints, start=1)
    )
    task = (
        f"### {exercise.title}\n{exercise.stars} · {exercise.minutes} minutes\n\n{exercise.task}\n\n{hints}"
    )
    check = f'tinyphi.course.check("{exercise.name}", {exercise.stub_function.__name__})'
    metadata = {"tinyphi": {"exercise": exercise.name}}
    return [
        nbformat.v4.new_markdown_cell(task, metadata=metadata),
        nbformat.v4.new_code_cell(f"{exercise.stub_source}\n\n{check}", metadata=metadata),
    ]


def run(notebook: Any, path: Path) -> None:
    """Execute all cells in a fresh kernel and note how long it took. Raises InputError where a cell fails."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    client = NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}, store_widget_state=False
    )
    with tempfile.TemporaryDirectory() as folder:
        apart = {"TINYPHI_PROGRESS": f"{folder}/progress.json"}  # what authors try is nobody's progress
        started = time.perf_counter()
        with client.setup_kernel(env=os.environ | apart):
            for number, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
                try:
                    client.execute_cell(cell, number)
                except CellExecutionError as error:
                    raise InputError(f"{path}, cell {number}: {error}") from error
            seconds = time.perf_counter() - started
            memory = _peak_memory(client)
    notebook.metadata["tinyphi"] = {"seconds": round(seconds, 1), "memory_mb": memory}


def _peak_memory(client: Any) -> int:
    """The most memory that the kernel had resident, in MB."""
    from nbclient.util import run_sync

    heard: list[str] = []
    run_sync(client.kc.execute_interactive)(
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
        output_hook=lambda message: heard.append(message["content"].get("text", "")),
    )
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, KB elsewhere
    return round(int("".join(heard)) / unit)


def save(notebook: Any, path: Path) -> None:
    """Write the notebook without what changes from run to run."""
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        for name in _NOISE:
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    measured = notebook.metadata.get("tinyphi")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    } | ({"tinyphi": measured} if measured else {})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


def _joined(outputs: list[Any]) -> list[Any]:
    """The outputs, with what was printed piece by piece in one piece, as nbval reads it."""
    joined: list[Any] = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before["text"] += output.text
        else:
            joined.append(output)
    return joined


def _promised_minutes(notebook: Any) -> str:
    found = re.search(r"(\d+) minutes", notebook.cells[0].source)
    return found[1] if found else "?"


def _measured(notebook: Any) -> tuple[str, str]:
    """Seconds and megabytes of the last run, as text."""
    found = notebook.metadata.get("tinyphi", {})
    return str(found.get("seconds", "?")), str(found.get("memory_mb", "?"))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except InputError as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from None
