"""`tinyphi eval trials`: riddles, programs and a game, asked of a model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import tinyphi
from tinyphi.errors import InputError
from tinyphi.evaluate.trials import TRIALS
from tinyphi.evaluate.trials.sitting import save, table, take
from tinyphi.generation.chat import chat

if TYPE_CHECKING:
    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_trials(kinds: "Parsers") -> None:
    """Add `trials` to the things that `tinyphi eval` can do."""
    parser = kinds.add_parser("trials", help="three riddles, five programs and a game, graded by rule")
    parser.add_argument("--model", required=True, help="catalog name, directory, .gguf file or hub id")
    parser.add_argument("--language", choices=["en", "ko"], default="en")
    parser.add_argument("--max-tokens", type=int, default=1024, help="of an answer")
    parser.add_argument(
        "--run-code",
        action="store_true",
        help="run the programs that the model writes, in a limited process; read tinyphi/evaluate/sandbox.py",
    )
    parser.add_argument("--to", type=Path, help="write prompts, answers and reasons to this JSON file")
    parser.set_defaults(command=run_trials)


def run_trials(options: argparse.Namespace) -> int:
    """Ask the model, greedily, and print the table."""
    if options.to is not None and not options.to.parent.is_dir():  # before the work, not after it
        raise InputError(f"There is no folder {options.to.parent} for the report.")
    model, tokenizer = tinyphi.load(options.model)

    def answer(prompt: str) -> str:
        return chat(model, tokenizer, prompt, max_new_tokens=options.max_tokens)

    answered = take(TRIALS, answer, language=options.language, run_code=options.run_code)
    print(f"{options.model}, {options.language}, greedy\n{table(answered)}")
    if options.to is not None:
        save(answered, options.model, options.to)
        print(f"written to {options.to}")
    return 0
