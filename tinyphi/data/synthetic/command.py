"""`tinyphi data write` and `tinyphi data world`: texts from a model, and texts by rule.

tinyphi data write --model smollm2-135m --to written
tinyphi data world questions --count 1000 --to questions.jsonl
"""

import argparse
from pathlib import Path
from typing import Any

from tinyphi.data.synthetic.ruled import KINDS, ruled

Subparsers = Any  # argparse has no public name for it


def add_synthetic(commands: Subparsers) -> None:
    """The two commands, for a parser whose options have a `command` to call."""
    model = commands.add_parser("write", help="let a model write texts after a plan, and check them")
    model.add_argument(
        "--model", default="smollm2-135m", help="catalog name, directory, .gguf file or hub id"
    )
    model.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    model.add_argument("--device", default="cpu")
    model.add_argument("--plan", type=Path, help="a JSON file; default: the small one of the package")
    model.add_argument("--to", type=Path, required=True, help="folder; run again to go on")
    model.set_defaults(command=_write)
    world = commands.add_parser("world", help="write texts about the small world by rule")
    world.add_argument("kind", choices=list(KINDS))
    world.add_argument("--count", type=int, default=1000)
    world.add_argument("--seed", type=int, default=0)
    world.add_argument("--to", type=Path, required=True, help="a .jsonl file")
    world.set_defaults(command=_world)


def table(report: dict[str, Any]) -> list[str]:
    """The report of `write` as lines of text."""
    total = report["texts"] or 1
    counts = [("kept", report["kept"]), *report["rejected"].items()]
    lines = [f"{report['texts']:,} texts, {report['tokens kept']:,} tokens kept"]
    lines += [f"{name:32}{count:8,}{count / total:8.1%}" for name, count in counts]
    various = ("distinct 3-grams", "bits in the first 3 words")
    return lines + [f"{name:32}{report[name]!s:>8}" for name in various]


def _write(options: argparse.Namespace) -> int:
    import torch

    from tinyphi.data.synthetic.plan import Plan
    from tinyphi.data.synthetic.written import ModelWriter, write
    from tinyphi.weights.load import load

    plan = Plan.load(options.plan)  # before the model, which takes longer
    model, tokenizer = load(options.model, dtype=getattr(torch, options.dtype), device=options.device)
    print("\n".join(table(write(plan, ModelWriter(model, tokenizer, options.model), options.to))))
    print(f"What is kept is in {options.to / 'kept.jsonl'}.")
    return 0


def _world(options: argparse.Namespace) -> int:
    from tinyphi.data.synthetic.written import save_rows

    save_rows(ruled(options.kind, options.count, options.seed), options.to)
    print(f"{options.count:,} texts are in {options.to}.")
    return 0
