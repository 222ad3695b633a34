"""Training beside transformers, and DPO beside TRL: speed, memory, utilisation. The command train."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version

import psutil
import torch

from tinyphi.bench.fresh import apart, forget_peak, peak_memory
from tinyphi.bench.timing import faster, in_turn, seconds
from tinyphi.bench.trainers import (
    PLAN,
    TRL,
    Loop,
    Run,
    Side,
    Tinyphi,
    TinyphiDPO,
    TinyphiDPOReference,
    TransformersTrainer,
    TRLReference,
    Work,
    difference,
    hush,
)
from tinyphi.config import PhiConfig
from tinyphi.data.packing import Batch, Example, padded
from tinyphi.train.recipes.nano import CONFIG

# Phi-3's vocabulary on few layers: half the work, and most of the memory, is for logits.
MEDIUM = PhiConfig(
    vocab_size=32064,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=10,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=256,
    original_max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=32000,
    pad_token_id=32000,
)
TOKENS = 256  # of a full row
COUNTED = 0.4  # of the tokens of a conversation are answers
SIZES = {"tinyphi-nano": (CONFIG, 8), "25 million": (MEDIUM, 2)}  # and rows in float32
BFLOAT16_ROWS = 2  # of the smallest one: many a processor only emulates bfloat16
CUDA_ROWS = 16  # times as many
TOLERANCE, BFLOAT16_TOLERANCE = 1e-4, 1e-2  # of losses, relative
_PRODUCT = {"cpu": 1024, "cuda": 8192}  # rows and columns of the matrices whose product sets the scale

NEXT_TOKEN = (Tinyphi, Loop, TransformersTrainer)
DPO = (TinyphiDPO, TRL)
DPO_REFERENCE = (TinyphiDPOReference, TRLReference)
TABLE = """
| {} | by | tokens/s | the first is faster by | spread | MB at most, beyond the models | FLOP utilisation |
|---|---|---:|---:|---|---:|---:|"""


def bench_train(runs: int, device: str) -> Iterator[str]:
    """Yield a table of training with the next-token loss, and one of DPO; both on random tokens.

    device: "cpu" or "cuda"; without one that torch finds, a line says so and nothing is measured.
    """
    if device == "cuda" and not torch.cuda.is_available():
        yield "Not measured: torch finds no CUDA device here."
        return
    hush()
    peaks = {dtype: product_speed(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    yield from _introduction(peaks, device)
    yield TABLE.format("next-token loss")
    for work in next_token_works(device):
        yield from rows(work, NEXT_TOKEN, runs, peaks)
    yield TABLE.format("DPO")
    for work in preference_works(device):
        yield from rows(replace(work, name=f"{work.name}, reference given"), DPO, runs, {})
        yield from rows(replace(work, name=f"{work.name}, reference reads"), DPO_REFERENCE, runs, {})


def next_token_works(device: str) -> Iterator[Work]:
    """Full rows, with all tokens as targets and with 40 % of them."""
    for name, config, count, bfloat16 in _sizes(device):
        for share in (1.0, COUNTED):
            batch = full_rows(config, count, TOKENS, share)
            told = f"{name}, {count} × {TOKENS} tokens, {share:.0%} targets"
            yield Work(told, config, batch, bfloat16, device)


def preference_works(device: str) -> Iterator[Work]:
    """Pairs with padding, as many as there would be full rows."""
    for name, config, count, bfloat16 in _sizes(device):
        batch = pairs(config, count, TOKENS // 2)
        shape = f"2 × {count} × {batch.ids.shape[1]} tokens"
        yield Work(f"{name}, {shape} with padding", config, batch, bfloat16, device)


def full_rows(config: PhiConfig, count: int, tokens: int, share: float) -> Batch:
    """Rows without padding that end in targets: random ids, (count tokens)."""
    drawn = _Draw(config)
    prompt = tokens - round(share * tokens)
    counted = [False] * prompt + [True] * (tokens - prompt)
    return padded([Example(drawn.ids(tokens), counted) for _ in range(count)], drawn.pad_id)


def pairs(config: PhiConfig, count: int, tokens: int) -> Batch:
    """Chosen rows, then rejected ones: prompts of tokens // 2 and answers of random lengths up to that."""
    drawn, prompt = _Draw(config), tokens // 2
    prompts = [drawn.ids(prompt) for _ in range(count)]
    lengths = [*drawn.numbers(prompt // 4, prompt + 1, 2 * count - 1), prompt]  # one has the full length
    return padded(
        [
            Example(before + drawn.ids(length), [False] * prompt + [True] * length)
            for before, length in zip(prompts * 2, lengths, strict=True)
        ],
        drawn.pad_id,
    )


class _Draw:
    """Random numbers, the same each time, for a model's batches."""

    def __init__(self, config: PhiConfig) -> None:
        assert config.pad_token_id is not None
        self.pad_id = config.pad_token_id
        self._generator = torch.Generator().manual_seed(0)

    def numbers(self, low: int, high: int, count: int) -> list[int]:
        drawn: list[int] = torch.randint(low, high, (count,), generator=self._generator).tolist()
        return drawn

    def ids(self, count: int) -> list[int]:
        # Below padding: in transformers that token's embedding has no gradient, even where it is a word.
        return self.numbers(0, self.pad_id, count)


def rows(
    work: Work, kinds: Sequence[type[Side]], runs: int, peaks: Mapping[torch.dtype, float]
) -> Iterator[str]:
    """A row for each side; a single one that says why, if their losses differ."""
    present = [kind for kind in kinds if kind.problem() is None]
    sides = {kind.name: kind(work) for kind in present}
    apart_by = difference({name: side.run() for name, side in sides.items()})  # also warms up
    limit = BFLOAT16_TOLERANCE if work.bfloat16 else TOLERANCE
    if not apart_by <= limit:  # NaN, too
        yield f"| {work.name} | not reported: losses differ by {apart_by:.1e} | | | | | |"
        return
    found = in_turn({name: side.run for name, side in sides.items()}, runs, work.name, warm_up=False)
    del sides
    memory = {kind.name: apart(memory_of, kind, work) for kind in present}
    yield from _cells(work, found, memory, peaks)
    for kind in kinds:
        if (problem := kind.problem()) is not None:
            yield f"|  | {kind.name}: {problem} | | | | | |"


def _cells(
    work: Work,
    found: Mapping[str, Sequence[Run]],
    memory: Mapping[str, int],
    peaks: Mapping[torch.dtype, float],
) -> Iterator[str]:
    times = {name: [run.seconds for run in taken] for name, taken in found.items()}
    first, label = next(iter(found)), f"{work.name}, {'bfloat16' if work.bfloat16 else 'float32'}"
    for name in found:
        step = statistics.median(times[name]) / (PLAN.steps - 1)
        compared = "|" if name == first else faster(times[first], times[name])
        used = ""
        if peaks:
            peak = peaks[torch.bfloat16 if work.bfloat16 else torch.float32]
            used = f"{model_flops(work.config, work.batch) / step / peak:.0%}"
        yield (
            f"| {label} | {name} | {work.batch.tokens / step:,.0f} | {compared} | "
            f"{memory[name] / 1e6:,.0f} | {used} |"
        )
        label = ""


def memory_of(kind: type[Side], work: Work) -> int:
    """The most bytes that a run takes, beyond what was taken before it; to be called in a new process."""
    hush()
    side = kind(work)
    if work.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = int(torch.cuda.memory_allocated())
        side.run()
        return int(torch.cuda.max_memory_allocated()) - before
    forget_peak()
    before = int(psutil.Process().memory_info().rss)
    side.run()
    return max(0, peak_memory() - before)


def model_flops(config: PhiConfig, batch: Batch) -> float:
    """Floating-point operations that a step on full rows asks for, however it is computed.

    Two for each weight of a matrix and token forward, four for the gradients; the head counts for targets
    only. Attention: 12 · layers · width · tokens of a row, for each token, as if nothing were hidden.
    Source: PaLM (arXiv 2204.02311), app. B, where the head counts for all tokens, all being targets.
    """
    head = config.vocab_size * config.hidden_size
    embeddings = head if config.tie_word_embeddings else 2 * head
    layers = config.parameter_count() - embeddings  # with the norms: not a thousandth
    attention = 12 * config.num_hidden_layers * config.hidden_size * batch.ids.shape[1]
    return batch.tokens * (6 * layers + attention) + 6 * head * batch.count


def product_speed(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a large matrix product, the fastest of three."""
    size = _PRODUCT[device]
    left, right = torch.randn(2, size, size, device=device).to(dtype)

    def multiply() -> None:
        left @ right
        if device != "cpu":
            torch.cuda.synchronize()

    multiply()
    return 2 * size**3 / min(seconds(multiply) for _ in range(3))


def _sizes(device: str) -> Iterator[tuple[str, PhiConfig, int, bool]]:
    """Name, shape, rows, bfloat16."""
    for name, (config, count) in SIZES.items():
        yield name, config, count * (CUDA_ROWS if device == "cuda" else 1), False
    for name, (config, count) in SIZES.items():
        if device == "cuda":
            yield name, config, count * CUDA_ROWS, True
        elif config is next(iter(SIZES.values()))[0]:
            yield name, config, BFLOAT16_ROWS, True


def _introduction(peaks: Mapping[torch.dtype, float], device: str) -> Iterator[str]:
    if device == "cuda":
        yield f"On {torch.cuda.get_device_name()}.\n"
    if TRL.problem() is None:
        yield f"TRL {version('trl')}.\n"
    yield (
        f"A run is {PLAN.steps} steps on one batch of random tokens; all but the first are timed. Nothing is "
        f"reported if losses differ by more than {TOLERANCE:g} in any of them, relative, or "
        f"{BFLOAT16_TOLERANCE:g} in bfloat16 (autocast).\n"
    )
    speeds = " and ".join(
        f"{speed / 1e9:,.0f} GFLOP/s in {str(dtype).removeprefix('torch.')}" for dtype, speed in peaks.items()
    )
    size = _PRODUCT[device]
    yield f"A product of two {size} × {size} matrices reaches {speeds}, and that is 100 % of utilisation."
