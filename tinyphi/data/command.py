"""`tinyphi data filter | write | world`: keep what is worth reading, or let a model or rules write it."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyphi.data.pipeline import Settings, run
from tinyphi.data.synthetic.command import add_synthetic


def main(arguments: Sequence[str] | None = None) -> int:
    """Filter or write, or go on where an earlier call was interrupted."""
    options = _parser().parse_args(arguments)
    code: int = options.command(options)
    return code


def _filter(options: argparse.Namespace) -> int:
    benchmarks = tuple(str(path) for path in options.benchmark)
    settings = Settings(options.least_score, benchmarks, options.run, not options.keep_duplicates)
    for line in table(run(options.paths, options.to, settings, options.workers)):
        print(line)
    print(f"What is kept is in {options.to / 'kept.jsonl'}.")
    return 0


def table(report: dict[str, Any]) -> list[str]:
    """The report of a run as lines of text: documents, their share, and megabytes, by reason."""
    rows = [
        ("kept", report["kept"]),
        *sorted(report["dropped"].items(), key=lambda row: -row[1]["documents"]),
    ]
    total = report["documents"] or 1
    lines = [f"{report['documents']:,} documents, {report['bytes'] / 1e6:.1f} MB"]
    for name, count in rows:
        share = count["documents"] / total
        lines.append(f"{name:32}{count['documents']:10,}{share:8.1%}{count['bytes'] / 1e6:10.1f} MB")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi data", description="Choose what a model reads.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("filter", help="drop poor pages, benchmark questions and duplicates")
    command.add_argument("paths", nargs="+", type=Path, metavar="IN", help=".txt or .jsonl files, or folders")
    command.add_argument("--to", type=Path, required=True, help="folder; run again to go on")
    command.add_argument("--least-score", type=float, default=0.5, help="educational value (default 0.5)")
    command.add_argument(
        "--benchmark",
        type=Path,
        action="append",
        default=[],
        help="a .jsonl file that must not be in the data",
    )
    command.add_argument("--run", type=int, default=13, help="words in common with it that are too many")
    command.add_argument("--keep-duplicates", action="store_true")
    command.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: cores)"
    )
    command.set_defaults(command=_filter)
    add_synthetic(commands)
    return parser
