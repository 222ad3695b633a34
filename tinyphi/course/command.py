"""`tinyphi course`: what there is to do, what is done, and folders for a class."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tinyphi.errors import InputError

KINDS = {
    "student": "notebooks without outputs and solutions",
    "instructor": "notebooks with solutions, and with what the checks recognise",
    "nbgrader": "a course for nbgrader, with an assignment for each notebook",
    "slides": "reveal.js slides that need no network",
    "colab": "notebooks that install tinyphi in Colab; needs --package",
}


def main(arguments: Sequence[str]) -> int:
    """Run `tinyphi course …`; return its exit code."""
    options = _parser().parse_args(arguments)
    if options.action == "build":
        return _build(options)
    if options.action == "solution":
        from tinyphi.course.check import solution

        solution(options.name)
        return 0
    return _status() if options.action == "status" else _list()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinyphi course", description="The exercises, and what a class needs."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the exercises of each notebook")
    actions.add_parser("status", help="what you have solved, and what is left")
    solution = actions.add_parser("solution", help="print the solution of an exercise")
    solution.add_argument("name", help="such as attention.causal_mask")
    build = actions.add_parser("build", help="make folders for a class; several at once if you like")
    for kind, what in KINDS.items():
        build.add_argument(f"--{kind}", type=Path, metavar="DIR", help=what)
    build.add_argument("--package", metavar="URL", help="from where Colab installs tinyphi: git+https://…")
    build.add_argument("--reveal", type=Path, metavar="DIR", help="a folder of reveal.js, for the slides")
    return parser


def _build(options: argparse.Namespace) -> int:
    from tinyphi.course.build import build

    targets = {kind: getattr(options, kind) for kind in KINDS if getattr(options, kind) is not None}
    if not targets:
        raise InputError(f"Say what to build, and where: {', '.join(f'--{kind} DIR' for kind in KINDS)}.")
    for kind, count in build(targets, package=options.package, reveal=options.reveal).items():
        print(f"{kind}: {count} notebooks in {targets[kind]}")
    return 0


def _list() -> int:
    from tinyphi.course.exercise import all_exercises

    rows = [
        (
            exercise.notebook,
            exercise.name,
            exercise.stars,
            str(exercise.minutes),
            exercise.title,
        )
        for exercise in all_exercises()
    ]
    _print_table(("notebook", "exercise", "difficulty", "minutes", "title"), rows)
    return 0


def _status() -> int:
    from tinyphi.course import progress
    from tinyphi.course.exercise import all_exercises

    records = progress.read()
    rows, passed, left = [], 0, 0
    for exercise in all_exercises():
        record = records.get(exercise.name, progress.Record())
        minutes = 0 if record.passed else exercise.minutes
        passed += bool(record.passed)
        left += minutes
        rows.append(
            (
                exercise.notebook,
                exercise.name,
                record.passed or "–",
                str(record.tries or "–"),
                record.last or "–",
                str(minutes or "–"),
            )
        )
    _print_table(("notebook", "exercise", "passed", "tries", "last try", "minutes left"), rows)
    print(f"\n{passed} of {len(rows)} passed, {left} minutes left")
    return 0


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry; a notebook is named in its first row only."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    above = None
    for row in (head, *rows):
        shown = ["" if row[0] == above else row[0], *row[1:]]
        print("  ".join(f"{text:{width}}" for text, width in zip(shown, widths, strict=True)).rstrip())
        above = row[0]
