"""`tinyphi train nano | data-quality | educational | safety | break-fix | …`: what this project trains."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tinyphi.train.recipes import break_fix, data_quality, educational, safety
from tinyphi.train.recipes.nano import STAGES, Budget, Nano, minutes, ship


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on where an earlier call was interrupted."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi train", description="Train a small Phi-3, or a filter.")
    recipes = parser.add_subparsers(required=True, metavar="RECIPE")
    nano = recipes.add_parser("nano", help="tinyphi-nano, from its vocabulary to preference tuning")
    nano.add_argument("--to", type=Path, required=True, help="directory for the stages; run again to go on")
    nano.add_argument("--text", type=Path, help="folder of .txt and .jsonl files (default: Python's manual)")
    nano.add_argument("--scale", type=float, default=1.0, help="all stages shorter by this, for a trial")
    nano.add_argument("--device", default="cpu", help="cpu or cuda")
    nano.add_argument("--seed", type=int, default=0)
    nano.set_defaults(run=_nano)
    thesis = recipes.add_parser("data-quality", help="one model, three kinds of data, three seeds")
    thesis.add_argument("--to", type=Path, required=True, help="JSON file for the curves; run again to go on")
    thesis.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    thesis.add_argument("--steps", type=int, default=1200, help="of 2,048 tokens (default 1200)")
    thesis.set_defaults(run=_data_quality)
    judge = recipes.add_parser("educational", help="the filter of educational value, from good and bad text")
    judge.add_argument("--good", type=Path, nargs="+", required=True, help="files or folders of .txt, .jsonl")
    judge.add_argument("--bad", type=Path, nargs="+", required=True)
    judge.add_argument("--unseen", type=Path, nargs="*", default=[], help="bad text that is only measured")
    judge.add_argument("--to", type=Path, required=True, help=".safetensors file; a report goes beside it")
    judge.set_defaults(run=_educational)
    safety.add_command(recipes)
    break_fix.add_command(recipes)
    return parser


def _nano(options: argparse.Namespace) -> int:
    budget = Budget().scaled(options.scale) if options.scale != 1 else Budget()
    recipe = Nano(options.to, options.text, budget, options.device, options.seed)
    if not recipe.run():
        return 130
    print(f"The stages are in {options.to}: {', '.join(STAGES)}.")
    took = minutes(options.to)
    parts = ", ".join(f"{stage} {time:.0f}" for stage, time in took.items())
    print(f"It took {sum(took.values()):.0f} minutes: {parts}.")
    print(f"What goes into the package: {ship(options.to)}")
    print(f"Try it: tinyphi chat --model {options.to / STAGES[-1]}")
    return 0


def _data_quality(options: argparse.Namespace) -> int:
    data_quality.run(options.to, options.seeds, options.steps)
    return 0


def _educational(options: argparse.Namespace) -> int:
    print(json.dumps(educational.run(options.good, options.bad, options.unseen, options.to), indent=1))
    return 0
