"""Measure tinyphi beside the reference, on the same weights, in one process, in turn.

    tinyphi bench decode                 prefill and decode tokens/s, and load time, of SmolLM2-135M

Machines differ and are shared, so the ratio of two runs a moment apart is the result; seconds are only for
orientation. Each figure is the median of `--runs` alternating runs (at most 3 for loading, where the
reference is slow), with the smallest and largest ratio.
"""

import argparse
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import tinyphi
from tinyphi.errors import InputError
from tinyphi.generation.decode import decode_one, prefill
from tinyphi.model.transformer import Phi3
from tinyphi.weights.fetch import resolve

MODEL = "smollm2-135m"


class Comparison(NamedTuple):
    """Alternating runs of the same work: seconds of each side."""

    what: str
    tokens: int  # processed in one run; 0 where time itself is the result
    mine: list[float]
    theirs: list[float]

    def row(self) -> str:
        """One line of the Markdown table."""
        ratios = [theirs / mine for mine, theirs in zip(self.mine, self.theirs, strict=True)]
        ours, reference = statistics.median(self.mine), statistics.median(self.theirs)
        if self.tokens:
            cells = f"{self.tokens / ours:.0f} tok/s | {self.tokens / reference:.0f} tok/s"
        else:
            cells = f"{ours:.2f} s | {reference:.2f} s"
        spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
        return f"| {self.what} | {cells} | {statistics.median(ratios):.2f} × | {spread} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `tinyphi bench`."""
    parser = argparse.ArgumentParser(
        prog="tinyphi bench", description="Measure tinyphi beside the reference."
    )
    parser.add_argument("what", choices=["decode"], help="decode: prefill, decode and load time of SmolLM2")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each figure (default 5)")
    parser.add_argument("--prompt", type=int, default=200, help="tokens of the prompt (default 200)")
    parser.add_argument("--new", type=int, default=32, help="tokens decoded in each run (default 32)")
    parser.add_argument("--threads", type=int, default=None, help="threads of both sides (default: torch's)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    for line in bench_decode(options.runs, options.prompt, options.new):
        print(line, flush=True)
    return 0


def bench_decode(runs: int, prompt_tokens: int, new_tokens: int) -> Iterator[str]:
    """Yield the lines of a Markdown table: load, prefill and decode in float32 and bfloat16."""
    path = resolve(MODEL)
    transformers = _transformers()
    yield _machine(transformers.__version__)
    yield "| SmolLM2-135M | tinyphi | transformers | ratio (median) | ratios |\n|---|---|---|---|---|"
    yield _alternate(
        "load the GGUF file", 0, min(runs, 3), lambda: tinyphi.load_model(path), lambda: _reference(path)
    ).row()
    for dtype in (torch.float32, torch.bfloat16):
        model, reference = tinyphi.load_model(path, dtype=dtype), _reference(path).to(dtype).eval()
        name = str(dtype).removeprefix("torch.")
        ids = torch.randint(1000, 40000, (1, prompt_tokens), generator=torch.Generator().manual_seed(0))
        yield _prefill_in_turn(model, reference, ids, runs, name).row()
        yield _decode_in_turn(model, reference, ids, new_tokens, runs, name).row()
        del model, reference
        gc.collect()


def _alternate(
    what: str, tokens: int, runs: int, mine: Callable[[], Any], theirs: Callable[[], Any]
) -> Comparison:
    """Time two functions in turn; the first pair warms up and does not count."""
    pairs = [(_seconds(mine), _seconds(theirs)) for _ in range(runs + 1)][1:]
    return Comparison(what, tokens, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _prefill_in_turn(model: Phi3, reference: Any, ids: torch.Tensor, runs: int, name: str) -> Comparison:
    tokens = ids.shape[1]
    return _alternate(
        f"prefill {tokens} tokens, {name}",
        tokens,
        runs,
        lambda: prefill(model, ids, model.new_cache()),
        lambda: _reference_prefill(reference, ids),
    )


def _decode_in_turn(
    model: Phi3, reference: Any, ids: torch.Tensor, new_tokens: int, runs: int, name: str
) -> Comparison:
    """Decode the same greedy tokens on both sides after the same prompt; only the decoding is timed."""

    def mine() -> float:
        cache = model.new_cache()
        token = prefill(model, ids, cache).argmax(-1)
        started = time.perf_counter()
        for _ in range(new_tokens):
            token = decode_one(model, token, cache).argmax(-1)
        return time.perf_counter() - started

    def theirs() -> float:
        output = _reference_prefill(reference, ids)
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in range(new_tokens):
                token = output.logits[:, -1:].argmax(-1)
                output = reference(token, past_key_values=output.past_key_values, use_cache=True)
        return time.perf_counter() - started

    pairs = [(mine(), theirs()) for _ in range(runs + 1)][1:]
    return Comparison(
        f"decode {new_tokens} tokens, {name}",
        new_tokens,
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
    )


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            'tinyphi bench compares with transformers: pip install "tinyphi[test]" brings it.'
        ) from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _reference(path: Path) -> Any:
    """The same GGUF file through transformers, dequantized to float32 as tinyphi does."""
    return _transformers().AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )


def _reference_prefill(reference: Any, ids: torch.Tensor) -> Any:
    with torch.inference_mode():
        return reference(ids, use_cache=True, logits_to_keep=1)


def _machine(version: str) -> str:
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}"
    return (
        f"torch {torch.__version__}, transformers {version}, {threads}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {platform.system()} {platform.machine()}\n"
    )
