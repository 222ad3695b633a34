"""`tinyphi train nano | data-quality`: a small Phi-3 from nothing, and what its data are worth."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tinyphi.train.recipes import data_quality
from tinyphi.train.recipes.nano import STAGES, Budget, Nano, ship


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on where an earlier call was interrupted."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi train", description="Train a small Phi-3.")
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
    thesis.add_argument("--steps", type=int, default=900, help="of 4,096 tokens (default 900)")
    thesis.set_defaults(run=_data_quality)
    return parser


def _nano(options: argparse.Namespace) -> int:
    budget = Budget().scaled(options.scale) if options.scale != 1 else Budget()
    recipe = Nano(options.to, options.text, budget, options.device, options.seed)
    if not recipe.run():
        return 130
    print(f"The stages are in {options.to}: {', '.join(STAGES)}.")
    print(f"What goes into the package: {ship(options.to)}")
    print(f"Try it: tinyphi chat --model {options.to / STAGES[-1]}")
    return 0


def _data_quality(options: argparse.Namespace) -> int:
    data_quality.run(options.to, options.seeds, options.steps)
    return 0
