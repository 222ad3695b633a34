"""What a committed notebook must be: run from top to bottom, small, and compared by nbval nearly everywhere.

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
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinyphi.errors import InputError

LARGEST = 150_000  # bytes of a notebook
LONGEST = 30  # lines of a cell that fit on a screen
WIDEST = 110  # letters of prose that fit on a line
COMPARED = 0.7  # of the cells with outputs
DUMPED = 12  # numbers in one printed tensor that nobody reads

NOT_RUN = {"nbval-skip"}
IGNORED = {"nbval-ignore-output", "pytest-validate-ignore-output"}
MAY_RAISE = {"nbval-raises-exception", "raises-exception"}
_MARKERS = NOT_RUN | IGNORED | MAY_RAISE
_NEVER_COMPARED = {"image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"}

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


def audit(path: str | os.PathLike[str]) -> list[str]:
    """The problems of the notebook at `path`, each one sentence that names the cell; none is an empty list.

    Raises InputError when the file cannot be read or is not a notebook of format 4.
    """
    path = Path(path)
    notebook = _read(path)
    cells: list[Cell] = notebook["cells"]
    problems = [*_promise(cells), *_kernel(notebook)]
    for number in range(len(cells)):
        problems += [f"cell {number}: {found}" for found in _in_cell(cells, number)]
    size = path.stat().st_size
    if size > LARGEST:
        problems.append(
            f"the file has {size:,} bytes; keep it below {LARGEST:,} with smaller figures and outputs"
        )
    return [*problems, *_order(cells), *_compared(cells)]


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


def _compared(cells: list[Cell]) -> Iterator[str]:
    with_outputs = [cell for cell in cells if cell["cell_type"] == "code" and cell.get("outputs")]
    compared = sum(_is_compared(cell) for cell in with_outputs)
    if with_outputs and compared < COMPARED * len(with_outputs):
        yield (
            f"nbval compares only {compared} of {len(with_outputs)} cells with outputs; "
            f"at least {COMPARED:.0%} are wanted"
        )


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
    name = notebook.get("metadata", {}).get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"the kernel is named {name!r}; it must be 'python3', which every installation has"
