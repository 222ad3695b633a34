"""From a reply to what its program does: find the code, run it in the sandbox, collect what came back."""

import ast
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyphi.evaluate.sandbox import Run, run_python

TIMEOUT = 10.0  # seconds for all cases of a program together
_BLOCK = re.compile(
    r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL
)  # an answer may end before its block does


@dataclass(frozen=True)
class Outcomes:
    """What the cases came to: number → {"value": …} or {"error": name, "text": …}; why some are missing."""

    found: bool
    cases: Mapping[int, dict[str, Any]]
    trouble: str | None


def code_of(reply: str, name: str) -> str:
    """The last block of code that defines `name`; else the last block; else, without any, the whole reply."""
    blocks: list[str] = [
        code
        for language, code in _BLOCK.findall(reply)
        if language.lower() in ("", "py", "python", "python3")
    ]
    named = [code for code in blocks if name in defined(code)]
    return (named or blocks or [reply])[-1]


def defined(code: str) -> list[str]:
    """The functions and classes that a program defines at its top level; none if it is no Python."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def outcomes(
    reply: str, name: str, cases: Sequence[Any], records: Mapping[str, str] | None = None
) -> Outcomes:
    """Run the program in a reply in the sandbox and let `tinyphi.evaluate.trials.inside` call `name`."""
    mark = f"@{secrets.token_hex(8)} "  # so that what a program prints is not taken for an outcome
    inside = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
    given = (code_of(reply, name), name, list(cases), mark, records)
    run = run_python(f"{inside}\n\nmain{given!r}\n", timeout=TIMEOUT, run_code=True)
    said = [read for line in run.stdout.splitlines() if (read := _read(line, mark)) is not None]
    failed = next((str(one["failed"]) for one in said if "failed" in one), None)
    found = any("found" in one for one in said)
    cases_of = {one["case"]: one for one in said if isinstance(one.get("case"), int)}
    trouble = _trouble(run, failed, name, given[0]) if len(cases_of) < len(cases) else None
    return Outcomes(found, cases_of, trouble)


def _read(line: str, mark: str) -> dict[str, Any] | None:
    """What was said in a line; None for other lines. A program can reach all that is there, and may lie."""
    if not line.startswith(mark):
        return None
    try:
        said = json.loads(line[len(mark) :])
    except (ValueError, RecursionError):
        return None
    whole = isinstance(said, dict) and (
        "case" not in said or "value" in said or {"error", "text"} <= said.keys()
    )
    return said if whole else None


def _trouble(run: Run, failed: str | None, name: str, code: str) -> str:
    """One sentence on why there are fewer outcomes than cases."""
    if run.stopped is not None:
        reasons = {
            "time": f"it had not ended after {TIMEOUT:.0f} s",
            "memory": "it needed too much memory",
            "output": "it printed without end",
            "files": "it wrote too many files",
        }
        return reasons.get(run.stopped, f"it was stopped: {run.stopped}")
    if failed is not None:
        return f"the program fails: {failed}"
    if name not in defined(code):
        names = defined(code)
        return f"it defines {', '.join(names)}, not {name}" if names else f"there is no {name} in it"
    last = (run.stderr.strip().splitlines() or ["it ended too early"])[-1]
    return f"the program ends before its time: {last}"
