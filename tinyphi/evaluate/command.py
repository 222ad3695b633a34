"""`tinyphi eval nano-exam`: what tinyphi-nano can and cannot do, measured."""

import argparse
from collections.abc import Sequence

import tinyphi
from tinyphi.evaluate.nano_exam import report, table

STAGES = (
    "tinyphi-nano-phase1",
    "tinyphi-nano-phase2",
    "tinyphi-nano-long",
    "tinyphi-nano-sft",
    "tinyphi-nano",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Let a model, or all stages of tinyphi-nano, take the exam; print the marks."""
    options = _parser().parse_args(arguments)
    names = STAGES if options.stages else (options.model,)
    for name in names:
        model, tokenizer = tinyphi.load(name)
        reference = None
        if name == options.model and options.reference:
            reference = tinyphi.load_model(options.reference)
        found = report(model, tokenizer, reference, per_kind=options.per_kind, seed=options.seed)
        print(f"{name}, seed {options.seed}\n{table(found)}", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi eval", description="Measure what a model can do.")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    nano = kinds.add_parser("nano-exam", help="400 held-out questions, refusals, preferences, a pass key")
    nano.add_argument(
        "model", nargs="?", default="tinyphi-nano", help="name, directory, .gguf file or hub id"
    )
    nano.add_argument(
        "--reference", default="tinyphi-nano-sft", help="what preference tuning started from ('' for none)"
    )
    nano.add_argument("--stages", action="store_true", help="all stages of tinyphi-nano, one after another")
    nano.add_argument("--per-kind", type=int, default=50, help="questions of each of the eight kinds")
    nano.add_argument("--seed", type=int, default=0, help="of the choice of questions, requests and pairs")
    return parser
