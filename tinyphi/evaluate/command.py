"""`tinyphi eval nano-exam`: what tinyphi-nano can and cannot do, measured."""

import argparse
from collections.abc import Sequence

import tinyphi
from tinyphi.evaluate.nano_exam import report, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Let a model take the exam; print the marks."""
    options = _parser().parse_args(arguments)
    model, tokenizer = tinyphi.load(options.model)
    reference = tinyphi.load_model(options.reference) if options.reference else None
    found = report(model, tokenizer, reference, per_kind=options.per_kind, seed=options.seed)
    print(f"{options.model}, seed {options.seed}\n{table(found)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi eval", description="Measure what a model can do.")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    nano = kinds.add_parser("nano-exam", help="400 held-out questions, refusals, preferences, a pass key")
    nano.add_argument("model", help="a stage of `tinyphi train nano`, or another model")
    nano.add_argument("--reference", help="the stage before preference tuning, to measure that")
    nano.add_argument("--per-kind", type=int, default=50, help="questions of each of the eight kinds")
    nano.add_argument("--seed", type=int, default=0, help="of the choice of questions, requests and pairs")
    return parser
