"""`tinyphi eval`: what a model can do, measured.

For example:

    tinyphi eval tasks arc_easy hellaswag --limit 200
    tinyphi eval lm-eval --model tinyphi --model_args pretrained=smollm2-135m --tasks arc_easy
    tinyphi eval trials --model smollm2-135m --run-code --to report.json
    tinyphi eval safety --data labelled --to safety.json
    tinyphi eval red-team --model tinyphi-nano --to attacks.json
    tinyphi eval nano-exam tinyphi-nano
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import tinyphi
from tinyphi.errors import InputError
from tinyphi.evaluate.nano_exam import report
from tinyphi.evaluate.nano_exam import table as exam_table
from tinyphi.evaluate.trials.command import add_trials
from tinyphi.safety.command import add_safety
from tinyphi.weights.fetch import cache_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one thing and print the result."""
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.command is not _lm_eval:
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    code: int = options.command(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi eval", description="Measure what a model can do.")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    _add_tasks(kinds.add_parser("tasks", help="benchmarks: MMLU, ARC, HellaSwag, GSM8K, …"))
    lm_eval = kinds.add_parser("lm-eval", help="lm-eval's own command line and tasks", add_help=False)
    lm_eval.set_defaults(command=_lm_eval)
    add_trials(kinds)
    add_safety(kinds)
    nano = kinds.add_parser("nano-exam", help="400 held-out questions, refusals, preferences, a pass key")
    nano.add_argument("model", help="a stage of `tinyphi train nano`, or another model")
    nano.add_argument("--reference", help="the stage before preference tuning, to measure that")
    nano.add_argument("--per-kind", type=int, default=50, help="questions of each of the eight kinds")
    nano.add_argument("--seed", type=int, default=0, help="of the choice of questions, requests and pairs")
    nano.set_defaults(command=_nano_exam)
    return parser


def _add_tasks(tasks: argparse.ArgumentParser) -> None:
    tasks.add_argument("names", nargs="*", metavar="TASK", help="without any: list the tasks")
    tasks.add_argument(
        "--model", default="smollm2-135m", help="catalog name, directory, .gguf file or hub id"
    )
    tasks.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    tasks.add_argument("--quantize", metavar="METHOD", help="int4, int8, …; as_stored: as in the .gguf file")
    tasks.add_argument("--device", default="cpu")
    tasks.add_argument("--data", type=Path, help="a file or directory of yours, not the task's own source")
    tasks.add_argument("--limit", type=int, help="ask about so many rows, drawn at random")
    tasks.add_argument("--seed", type=int, default=0, help="of that draw")
    tasks.add_argument("--wording", help="in whose words to ask; 'all' compares them")
    tasks.add_argument("--shots", type=int, help="solved examples before each question")
    tasks.add_argument("--context", type=int, help="tokens that the model reads at most")
    tasks.add_argument("--judge", metavar="MODEL", help="a model that marks the replies of MT-Bench")
    tasks.add_argument("--run-code", action="store_true", help="run programs that the model wrote")
    tasks.add_argument("--answers", type=Path, help="where answers are kept, to go on after an interruption")
    tasks.add_argument("--save", type=Path, help="write every answer to this file, one line of JSON each")
    tasks.set_defaults(command=_tasks)


def _tasks(options: argparse.Namespace) -> int:
    import torch

    from tinyphi.evaluate.datasets import load_data
    from tinyphi.evaluate.harness import Harness, model_judge
    from tinyphi.evaluate.results import save, table
    from tinyphi.evaluate.store import AnswerStore
    from tinyphi.evaluate.tasks import TASKS

    if not options.names:
        print("\n".join(f"{task.name:16} {', '.join(task.wordings)}" for task in TASKS.values()))
        return 0
    unknown = [name for name in options.names if name not in TASKS]
    if unknown:
        raise InputError(f"There is no task {unknown[0]!r}; there are {', '.join(TASKS)}.")
    data = {name: load_data(TASKS[name], options.data) for name in options.names}  # before the model
    model, tokenizer = tinyphi.load(
        options.model,
        dtype=getattr(torch, options.dtype),
        device=options.device,
        quantize=options.quantize,
    )
    harness = Harness(
        model,
        tokenizer,
        store=AnswerStore(options.answers or cache_directory() / "answers.sqlite", model),
        judge=None if options.judge is None else model_judge(*tinyphi.load(options.judge)),
        run_code=options.run_code,
        context=options.context,
    )
    asked = {"shots": options.shots, "limit": options.limit, "seed": options.seed}
    results = []
    for name, (rows, examples) in data.items():
        wordings = list(TASKS[name].wordings) if options.wording == "all" else [options.wording]
        for wording in wordings:
            results.append(harness.evaluate(TASKS[name], rows, examples=examples, wording=wording, **asked))
    print(f"{options.model}, {options.dtype}\n{table(results)}")
    if options.save is not None:
        save(results, options.save)
    return 0


def _lm_eval(options: argparse.Namespace) -> int:
    from tinyphi.evaluate.lm_eval import main as lm_eval

    return lm_eval(options.rest)


def _nano_exam(options: argparse.Namespace) -> int:
    model, tokenizer = tinyphi.load(options.model)
    reference = tinyphi.load_model(options.reference) if options.reference else None
    found = report(model, tokenizer, reference, per_kind=options.per_kind, seed=options.seed)
    print(f"{options.model}, seed {options.seed}\n{exam_table(found)}")
    return 0
