"""The command line of `tinyphi longrope-search`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

import tinyphi
from tinyphi.longcontext.search import PerplexityFitness, SearchResult, Sizes, search
from tinyphi.longcontext.texts import book
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer
from tinyphi.weights.save import check_target

_SIZES = {  # name → default and help; smaller than the paper's, whose search took days on GPUs
    "population": (12, "candidates of the first generation"),
    "generations": (4, "generations after it"),
    "parents": (6, "best candidates that stay"),
    "mutations": (4, "new candidates in each generation by changing a parent"),
    "crossovers": (4, "and by mixing two"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, print what was found beside what it started from, and save the model with it."""
    options = _parser().parse_args(arguments)
    if options.to is not None:
        check_target(options.to)  # before the work, not after it
    sizes = Sizes(**{name: getattr(options, name) for name in _SIZES}, start_tokens=(0,))
    model, tokenizer = tinyphi.load(options.model, dtype=getattr(torch, options.dtype))
    if options.original is not None:
        model.config = replace(model.config, original_max_position_embeddings=options.original)
    fitness = _fitness(model, tokenizer, options.text, options.length)
    held_out = _fitness(model, tokenizer, options.held_out, options.length) if options.held_out else None
    result = search(model.config, options.length, fitness, sizes, options.seed, options.state)
    print(result)
    if held_out is not None:
        print("\n".join(_on_other_texts(result, held_out)))
    kind = "long" if options.length > model.config.original_max_position_embeddings else "short"
    print(f"{kind}_factor:", *result.best.extension.factors)
    if options.to is not None:
        model.config = result.config_with(model.config)
        tinyphi.save(model, tokenizer, options.to)
        print(f"saved to {options.to}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinyphi longrope-search",
        description="Find LongRoPE factors, with which a model reads longer texts than it was trained on.",
    )
    parser.add_argument("model", help="catalog name, directory, .gguf file or hub id")
    parser.add_argument(
        "--length",
        type=int,
        required=True,
        help="tokens to extend the model to; within its original context: find its short factors",
    )
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="long texts to search on")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], help="other texts, to compare on")
    parser.add_argument("--original", type=int, help="tokens it reads as it is (default: as its config says)")
    for name, (default, help) in _SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{help} (default {default})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="remember all answers here, and go on from them")
    parser.add_argument("--to", type=Path, help="save the model with the factors found to this directory")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    return parser


def _fitness(model: Phi3, tokenizer: Tokenizer, paths: Sequence[Path], length: int) -> PerplexityFitness:
    return PerplexityFitness(model, [tokenizer.encode(book(path)) for path in paths], length)


def _on_other_texts(result: SearchResult, fitness: PerplexityFitness) -> list[str]:
    extensions = {name: judged.extension for name, judged in result.baselines.items()}
    extensions["found"] = result.best.extension
    lines = ["on other texts:"]
    for name, extension in tqdm(extensions.items(), desc="other texts", leave=False):
        lines.append(f"{name:14}{fitness(extension):10.4f}")
    return lines
