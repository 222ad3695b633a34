"""What a committed notebook must be: run from top to bottom, quick, small, and compared nearly everywhere.

    python -m tinyphi.course.audit                       # how much of each notebook is compared; all problems
    python -m tinyphi.course.audit --write README.md     # puts the table into the README

What nbval (0.11, `--nbval`) compares, read from its source (`IPyNbFile.skip_compare`,
`IPyNbCell.compare_outputs`):

- For every cell it collects the values of each kind of output, in order, over all outputs of the cell:
  "stdout" and "stderr" text (each joined into one), and every MIME type of displayed data, such as
  `text/plain` and `text/html`. The stored and the new lists must be equal: same kinds, same number, same
  strings after sanitizing. So a cell without stored outputs must print nothing, and a warning on stderr
  is a difference.
- It never compares `image/png` and `image/jpeg` (unless run with `--nbdime`), nor
  `application/vnd.jupyter.widget-view+json`, nor metadata, tracebacks and execution counts. Pixels and
  widget ids may therefore differ; the digest in `text/plain` beside them may not. `image/svg+xml` is
  compared.
- A cell that was never run (no execution count) is run but compared with nothing, silently.
- `NBVAL_SKIP` does not run a cell, `NBVAL_IGNORE_OUTPUT` runs it and compares nothing,
  `NBVAL_RAISES_EXCEPTION` lets it fail; each as a comment that is the whole line, or as a cell tag
  (`nbval-skip`, …, `raises-exception`).
- Progress bars that redraw (`clear_output`, `update_display_data`) leave all their states; keep them out.
- In a sanitize file only a line `regex: …` directly followed by `replace: …` is read; anything else is
  ignored silently, which is why `audit_sanitize` looks at every line.

A notebook begins with a title and its promise, both on the first screen:

    # The title
    **You will be able to** see where a model looks.
    *25 minutes · difficulty ★☆☆ · memory 1 GB*

It has at least three exercises. Each is two cells that `python -m tinyphi.course.author sync` keeps equal to
the exercise in the package; the solution stands nowhere in the notebook.
"""

import argparse
import ast
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyphi.errors import InputError

if TYPE_CHECKING:
    from tinyphi.course.exercise import Exercise

LARGEST = 150_000  # bytes of a notebook
SLOWEST = 60  # seconds for all cells, on two cores
EXERCISES = 3  # at least, in a notebook
WRONG_ANSWERS = 3  # at least, that an exercise's judge is tested with
LONGEST = 30  # lines of a cell that fit on a screen
WIDEST = 110  # letters of prose that fit on a line
COMPARED = 0.7  # of the cells with outputs
DUMPED = 12  # numbers in one printed tensor that nobody reads

NOT_RUN = {"nbval-skip"}
IGNORED = {"nbval-ignore-output", "pytest-validate-ignore-output"}
MAY_RAISE = {"nbval-raises-exception", "raises-exception"}
_MARKERS = NOT_RUN | IGNORED | MAY_RAISE
WIDGET = "application/vnd.jupyter.widget-view+json"
_NEVER_COMPARED = {"image/png", "image/jpeg", WIDGET}
_TABLE = re.compile(r"(?<=<!-- compared -->\n).*?(?=<!-- /compared -->)", re.DOTALL)

_REASON = re.compile(r"not compared: *\S", re.IGNORECASE)
_ELSEWHERE = r"""\s*["'<]?\s*(?:https?:)?//"""
_EXTERNAL = re.compile(
    r"<(?:img|script|link|iframe|video|audio|source|embed|image)\b[^>]*?\b(?:src|href)\s*="
    + _ELSEWHERE
    + r"|!\[[^\]]*\]\("
    + _ELSEWHERE
    + r"|\burl\("
    + _ELSEWHERE,
    re.IGNORECASE,
)
_INSTALL = re.compile(
    r"^\s*%(?:pip|conda|mamba|uv)\b|\b(?:pip3?|conda|mamba|apt|apt-get|brew)\W+install\b|\buv\W+(?:pip|add)\b",
    re.MULTILINE,
)
_PRINTED_ARRAY = re.compile(r"\b(?:tensor|array)\(([^()]*)")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?", re.IGNORECASE)
_EMPTY_TEXT = re.compile(r"<[^<>]*(?: at 0x[0-9a-f]+|Figure size [^<>]*)>")

Cell = dict[str, Any]


def audit(path: str | os.PathLike[str], exercises: Sequence["Exercise"] | None = None) -> list[str]:
    """The problems of the notebook at `path`, each one sentence that names the cell; none is an empty list.

    exercises: those that belong into it; None: those of the package that name this notebook.
    Raises InputError when the file cannot be read or is not a notebook of format 4.
    """
    path = Path(path)
    notebook = _read(path)
    cells: list[Cell] = notebook["cells"]
    if exercises is None:
        from tinyphi.course.exercise import all_exercises

        exercises = [exercise for exercise in all_exercises() if exercise.notebook == path.stem]
    problems = [*_promise(cells), *_kernel(notebook), *_seconds(notebook)]
    for number in range(len(cells)):
        problems += [f"cell {number}: {found}" for found in _in_cell(cells, number)]
    size = path.stat().st_size
    if size > LARGEST:
        problems.append(
            f"the file has {size:,} bytes; keep it below {LARGEST:,} with smaller figures and outputs"
        )
    return [*problems, *_order(cells), *_too_little_compared(cells), *_exercises(cells, exercises)]


def audit_sanitize(path: str | os.PathLike[str]) -> list[str]:
    """The problems of an nbval sanitize file: lines that nbval ignores, patterns that do not compile."""
    text = Path(path).read_text(encoding="utf-8")
    problems = []
    pairs = re.findall(r"^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE)  # nbval's own reading
    rest = re.sub(r"^regex: .*$\n^replace: .*$", "", text, flags=re.MULTILINE)
    for line in rest.splitlines():
        if line.strip() and not line.startswith(("#", "[")):
            problems.append(
                f"nbval ignores this line: {line!r}; write 'regex: …', then 'replace: …' below it"
            )
    for regex, replacement in pairs:
        try:
            re.sub(regex, replacement, "")
        except (re.error, IndexError) as error:
            problems.append(f"the rule {regex!r} → {replacement!r} does not compile: {error}")
    return problems


def _read(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a notebook: {error}") from error
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not notebook.get("cells"):
        raise InputError(f"{path} is not a notebook of format 4 with cells; save it again in JupyterLab.")
    return notebook


def _joined(text: Any) -> str:
    """Notebook files keep a text as one string or as a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text)


def _source(cell: Cell) -> str:
    return _joined(cell.get("source", ""))


def _markers(cell: Cell) -> set[str]:
    """The tags and comments in a cell that change what nbval does with it, all as tags."""
    tags = set(cell.get("metadata", {}).get("tags", []))
    lines = [line.strip() for line in _source(cell).splitlines()]
    comments = {line.lstrip("#").strip() for line in lines if line.startswith("#")}
    return (
        tags | {comment.lower().replace("_", "-") for comment in comments if comment.isupper()}
    ) & _MARKERS


def _texts(cell: Cell) -> Iterator[str]:
    """Every output of a cell that is text."""
    for output in cell.get("outputs", []):
        if "text" in output:
            yield _joined(output["text"])
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/") or kind.endswith(("javascript", "svg+xml")):
                yield _joined(data)


def _in_cell(cells: list[Cell], number: int) -> Iterator[str]:
    cell = cells[number]
    yield from _too_long(cell)
    if any(_EXTERNAL.search(text) for text in [_source(cell), *_texts(cell)]):
        yield "an image, script or style from another machine; put it into the notebook or draw it"
    if cell["cell_type"] != "code":
        return
    if cell.get("execution_count") is None:
        yield "was never run; restart the kernel and run all cells"
    if _INSTALL.search(_source(cell)):
        yield "installs packages; the README says how, a notebook does not"
    if _markers(cell) & (NOT_RUN | IGNORED) and not _has_reason(cells, number):
        yield "is skipped by nbval without a reason; write '# not compared: why' in it or beside it"
    for output in cell.get("outputs", []):
        if output["output_type"] == "error" and not _markers(cell) & MAY_RAISE:
            yield f"ends in {output.get('ename')}; repair it, or tag it raises-exception if meant"
        if WIDGET in output.get("data", {}):
            yield "stores a widget, which shows an error where no kernel runs; author.run leaves it out"
        if output.get("name") == "stderr":
            yield f"writes to stderr: {_joined(output['text']).strip()[:80]!r}"
    if any(_is_dump(text) for text in _texts(cell)):
        yield f"prints a tensor of more than {DUMPED} numbers; show(x) prints one line, a view draws it"


def _too_long(cell: Cell) -> Iterator[str]:
    prose = cell["cell_type"] == "markdown"
    lines = sum(max(1, math.ceil(len(line) / WIDEST)) if prose else 1 for line in _source(cell).splitlines())
    if lines > LONGEST:
        yield f"has {lines} lines, more than a screen ({LONGEST}); split it"


def _has_reason(cells: list[Cell], number: int) -> bool:
    beside = [cell for cell in cells[max(0, number - 1) : number + 2] if cell["cell_type"] == "markdown"]
    return any(_REASON.search(_source(cell)) for cell in [cells[number], *beside])


def _is_dump(text: str) -> bool:
    return any(len(_NUMBER.findall(body)) > DUMPED for body in _PRINTED_ARRAY.findall(text))


def _promise(cells: list[Cell]) -> Iterator[str]:
    """The title, what the reader will be able to do, and what it takes, at the top."""
    prose = [_source(cell) if cell["cell_type"] == "markdown" else "" for cell in cells[:2]]
    if not prose[0].startswith("# "):
        yield "the first cell does not begin with a title: '# …'"
    lines = "\n".join(prose).splitlines()
    if not any(line.startswith("**You will be able to**") for line in lines):
        yield "no line beginning '**You will be able to**' below the title"
    costs: list[Callable[[str], Any]] = [
        re.compile(r"\d+ minutes\b").search,
        re.compile(r"\bdifficulty\b").search,
        re.compile(r"\bmemory\b.*\d *[MG]i?B\b").search,
    ]
    if not any(all(cost(line) for cost in costs) for line in lines):
        yield "no line below the title such as '*25 minutes · difficulty ★☆☆ · memory 1 GB*'"


def _order(cells: list[Cell]) -> Iterator[str]:
    counts = [cell.get("execution_count") for cell in cells if cell["cell_type"] == "code"]
    if None not in counts and counts != list(range(1, len(counts) + 1)):
        yield f"the cells were not run from top to bottom: their counts are {counts}"


def _too_little_compared(cells: list[Cell]) -> Iterator[str]:
    compared, with_outputs = _compared(cells)
    if with_outputs and compared < COMPARED * with_outputs:
        yield (
            f"nbval compares only {compared} of {with_outputs} cells with outputs; "
            f"at least {COMPARED:.0%} are wanted"
        )


def _compared(cells: list[Cell]) -> tuple[int, int]:
    """How many cells nbval compares, and how many have outputs."""
    with_outputs = [cell for cell in cells if cell["cell_type"] == "code" and cell.get("outputs")]
    return sum(_is_compared(cell) for cell in with_outputs), len(with_outputs)


def _is_compared(cell: Cell) -> bool:
    """Whether nbval would notice if a number in the outputs changed."""
    if cell.get("execution_count") is None or _markers(cell) & (NOT_RUN | IGNORED):
        return False
    for output in cell["outputs"]:
        data = [_joined(text) for kind, text in output.get("data", {}).items() if kind not in _NEVER_COMPARED]
        shown = any(not _EMPTY_TEXT.fullmatch(text.strip()) for text in data)
        if shown or output["output_type"] == "error" or output.get("text"):
            return True
    return False


def _kernel(notebook: dict[str, Any]) -> Iterator[str]:
    metadata = notebook.get("metadata", {})
    name = metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"the kernel is named {name!r}; it must be 'python3', which every installation has"
    if metadata.get("widgets"):
        yield "the file stores the state of widgets; save it with python -m tinyphi.course.author run"


def _seconds(notebook: dict[str, Any]) -> Iterator[str]:
    seconds = notebook.get("metadata", {}).get("tinyphi", {}).get("seconds")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        yield "nobody measured how long it takes; python -m tinyphi.course.author run does"
    elif not seconds <= SLOWEST:
        yield f"it takes {seconds} seconds; at most {SLOWEST} are wanted"


def _exercises(cells: list[Cell], exercises: Sequence["Exercise"]) -> Iterator[str]:
    """Whether there are enough exercises, they are whole and up to date, and no cell tells a solution."""
    if len(exercises) < EXERCISES:
        yield f"the package has {len(exercises)} exercises for this notebook; at least {EXERCISES} are wanted"
    found = [(number, name) for number, cell in enumerate(cells) if (name := _exercise_of(cell))]
    known = {exercise.name for exercise in exercises}
    for number, name in found:
        if name not in known:
            yield f"cell {number}: the package has no exercise {name!r} for this notebook"
    for exercise in exercises:
        whole = list(_incomplete(exercise))
        yield from whole
        if not whole:
            places = [number for number, name in found if name == exercise.name]
            yield from _out_of_date([cells[number] for number in places], places, exercise)
            yield from _told(cells, exercise)
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code" and re.search(r"\bcourse\.solution\(", _source(cell)):
            yield f"cell {number}: prints a solution"


def _exercise_of(cell: Cell) -> str | None:
    name: str | None = cell.get("metadata", {}).get("tinyphi", {}).get("exercise")
    return name


def _incomplete(exercise: "Exercise") -> Iterator[str]:
    for part in ("stub_function", "solution_function", "judge_function"):
        try:
            getattr(exercise, part)
        except ValueError as error:
            yield str(error)
    if len(exercise.wrong_answers) < WRONG_ANSWERS:
        yield (
            f"the exercise {exercise.name} has {len(exercise.wrong_answers)} wrong answers; "
            f"at least {WRONG_ANSWERS} are wanted"
        )


def _out_of_date(mine: list[Cell], places: list[int], exercise: "Exercise") -> Iterator[str]:
    from tinyphi.course.author import exercise_cells

    fresh = exercise_cells(exercise)
    if [cell["cell_type"] for cell in mine] != ["markdown", "code"] or places[1] != places[0] + 1:
        yield (
            f"the exercise {exercise.name} does not stand here as one text and one code cell; "
            f"write a cell {{{{exercise {exercise.name}}}}} and run author sync"
        )
    elif [_source(cell) for cell in mine] != [cell.source for cell in fresh]:
        yield f"cell {places[0]}: the exercise {exercise.name} differs from the package; run author sync"


def _told(cells: list[Cell], exercise: "Exercise") -> Iterator[str]:
    """Whether some cell says what the body of the solution says."""
    solution = _squeezed(_body(exercise.solution_source))
    for number, cell in enumerate(cells):
        source = _source(cell)
        texts = [source, _unparsed(source) if cell["cell_type"] == "code" else "", *_texts(cell)]
        if any(solution in _squeezed(text) for text in texts):
            yield f"cell {number}: tells the solution of {exercise.name}"


def _body(source: str) -> str:
    """A function's or class's statements, without its name, docstrings, comments and layout."""
    node = ast.parse(_unparsed(source)).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return "\n".join(ast.unparse(statement) for statement in node.body)


def _unparsed(source: str) -> str:
    """Code laid out in one way. Docstrings go, because they may stand between the lines of a solution."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell with a magic command
        return ""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _squeezed(text: str) -> str:
    return "".join(text.split())


def table(folder: str | os.PathLike[str]) -> str:
    """A Markdown table: for each notebook in `folder`, how many of its cells with outputs nbval compares."""
    lines = ["| notebook | cells with output | compared by nbval | share |", "|---|---:|---:|---:|"]
    for path in sorted(Path(folder).glob("*.ipynb")):
        compared, with_outputs = _compared(_read(path)["cells"])
        share = f"{compared / with_outputs:.0%}" if with_outputs else "–"
        lines.append(f"| `{path.stem}` | {with_outputs} | {compared} | {share} |")
    return "\n".join(lines) + "\n"


def with_table(text: str, folder: str | os.PathLike[str]) -> str:
    """A page's text with the table written anew between its two comments.

    Raises InputError when the page has no place for it.
    """
    if not _TABLE.search(text):
        raise InputError(
            "There are no lines <!-- compared --> and <!-- /compared --> to write the table between."
        )
    return _TABLE.sub(lambda found: table(folder), text, count=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the problems of all notebooks; 1 if there are any."""
    parser = argparse.ArgumentParser(
        prog="python -m tinyphi.course.audit", description="Audit the notebooks."
    )
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"), metavar="FOLDER")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    options = parser.parse_args(arguments)
    print(table(options.notebooks), end="")
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(with_table(text, options.notebooks), encoding="utf-8")
    problems = [
        f"{path.name}: {problem}"
        for path in sorted(options.notebooks.glob("*.ipynb"))
        for problem in audit(path)
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
