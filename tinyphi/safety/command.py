"""`tinyphi eval safety | red-team`: the filter on held-out texts, and attacks on a model."""

import argparse
from pathlib import Path
from typing import Any

from tinyphi.safety.attacks import ATTACKS, chosen
from tinyphi.safety.filter import SafetyFilter
from tinyphi.safety.heldout import BASELINES, write_report
from tinyphi.safety.heldout import report as heldout_report
from tinyphi.safety.redteam import answering, by_rule, report, run

Subcommands = Any  # argparse has no public name for what add_subparsers returns


def add_safety(kinds: Subcommands) -> None:
    """Add both to the parser of `tinyphi eval`."""
    safety = kinds.add_parser("safety", help="the safety filter on texts it never saw")
    safety.add_argument("--data", type=Path, required=True, help="folder of the labelled files")
    safety.add_argument("--to", type=Path, required=True, help="JSON file for the report")
    safety.add_argument("--weights", type=Path, help="the filter's weights (default: those that ship)")
    safety.add_argument("--beside", nargs="*", choices=list(BASELINES), default=[], help="installed packages")
    safety.set_defaults(command=_safety)
    team = kinds.add_parser("red-team", help="attacks on a model, judged by rule and filter")
    team.add_argument("--model", required=True, help="catalog name, directory, .gguf file or hub id")
    team.add_argument("--to", type=Path, required=True, help="JSON file for the report; run again to go on")
    team.add_argument("--attacks", nargs="+", choices=list(ATTACKS), help="default: all")
    team.add_argument("--count", type=int, default=40, help="harmful requests, and as many harmless ones")
    team.add_argument("--seed", type=int, default=0, help="of the choice of requests")
    team.add_argument("--max-tokens", type=int, default=72, help="of a reply")
    team.add_argument(
        "--by-rule", action="store_true", help="judge without the filter, which flags a tiny model's babble"
    )
    team.set_defaults(command=_red_team)


def _safety(options: argparse.Namespace) -> int:
    found = heldout_report(options.data, SafetyFilter.load(options.weights), options.beside)
    write_report(options.to, found)
    print(found["text"])
    for judge, shares in found["false refusals"].items():
        print(f"{judge:20} flags", ", ".join(f"{share:.1%} of {name}" for name, share in shares.items()))
    return 0


def _red_team(options: argparse.Namespace) -> int:
    import tinyphi
    from tinyphi.data.synthetic.requests import held_out_requests
    from tinyphi.data.synthetic.world import World

    world = World()
    requests = [
        request
        for harmful in (True, False)
        for request in held_out_requests(world, harmful, options.count, options.seed)
    ]
    about = {name: getattr(options, name) for name in ("model", "count", "seed", "max_tokens", "by_rule")}
    model, tokenizer = tinyphi.load(options.model)
    attempts = run(
        answering(model, tokenizer, options.max_tokens),
        requests,
        chosen(options.attacks),
        options.to,
        about,
        SafetyFilter.load(),
        by_rule if options.by_rule else None,
    )
    print(report(attempts))
    return 0
