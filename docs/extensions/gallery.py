"""The directive `{view} name`: one view, made while the pages are built.

The material is a sentence run through SmolLM2 if that is in the cache, or else through a tiny random model,
so that the pages can be built on any machine. Nothing is downloaded.
"""

import math
import random
import re
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from course_pages import folded, framed, iframe
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import tinyphi
from tinyphi import show
from tinyphi.data.educational import EducationalFilter
from tinyphi.data.pages import Pages
from tinyphi.data.rules import judge
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.evaluate.published import REPORT
from tinyphi.longcontext.extension import METHODS
from tinyphi.longcontext.needle import NeedleGrid
from tinyphi.longcontext.perplexity import Band
from tinyphi.longcontext.trials import Trial
from tinyphi.model.blocksparse import block_sparse_mask
from tinyphi.model.cache import CacheSnapshot
from tinyphi.model.linear import Linear
from tinyphi.model.mask import positions_within, visible
from tinyphi.model.rope import inverse_frequencies
from tinyphi.quant.groupwise import quantize_int4, quantize_int8
from tinyphi.safety.redteam import Attempt, tallies
from tinyphi.show.view import kept_name
from tinyphi.tokenizer import Piece
from tinyphi.weights.catalog import CATALOG
from tinyphi.weights.fetch import is_fetched

_log = logging.getLogger(__name__)
SENTENCE = "The ship sailed to the island, and the ship sailed home."
TINY = tinyphi.PhiConfig(
    vocab_size=64,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    original_max_position_embeddings=4096,
    sliding_window=96,
    eos_token_id=2,
    pad_token_id=0,
)


class Material(NamedTuple):
    """What the views are made of: a model, a text in pieces, and how to read an id."""

    model: tinyphi.Phi3
    pieces: list[Piece]
    decode: Callable[[int], str]

    @property
    def labels(self) -> list[str]:
        return [piece.text for piece in self.pieces]

    @property
    def ids(self) -> torch.Tensor:
        return torch.tensor([[piece.id for piece in self.pieces]])

    @property
    def middle(self) -> int:
        return self.model.config.num_hidden_layers // 2


@cache
def material() -> Material:
    """SmolLM2 if this machine has it; a tiny random model that reads words if not."""
    if is_fetched(CATALOG["smollm2-135m"]):
        model, tokenizer = tinyphi.load("smollm2-135m")
        return Material(
            model, tokenizer.explain(SENTENCE), lambda id: tokenizer.decode([id], skip_special=False)
        )
    torch.manual_seed(0)
    words = [(found.start(), found[0]) for found in re.finditer(r" ?\w+|[.,]", SENTENCE)]
    known = list(dict.fromkeys(word for _, word in words))
    pieces = [
        Piece(known.index(word), word, word.encode(), start, start + len(word), "normal")
        for start, word in words
    ]
    return Material(tinyphi.Phi3(TINY).eval(), pieces, lambda id: known[id % len(known)])


@cache
def traced() -> tinyphi.Trace:
    """One forward pass over the sentence."""
    trace = tinyphi.Trace()
    with torch.no_grad():
        material().model(material().ids, trace=trace)
    return trace


@cache
def generated() -> tinyphi.GenerationTrace:
    """A short generation after the first words of the sentence."""
    trace = tinyphi.GenerationTrace(lens=3)
    sampler = tinyphi.Sampler(temperature=0.9, top_k=40, top_p=0.9, seed=1)
    ids = material().ids[0, :6].tolist()
    tinyphi.generate(material().model, ids, max_new_tokens=16, sampler=sampler, trace=trace)
    return trace


def layer_logits() -> torch.Tensor:
    """What each layer would answer: (l t v)."""
    model, trace = material().model, traced()
    with torch.no_grad():
        layers = range(model.config.num_hidden_layers)
        return torch.cat([model.logits(model.norm(trace[f"layers.{layer}.output"])) for layer in layers])


def filling() -> list[CacheSnapshot]:
    """The cache of a model with a small window, while it reads more and more."""
    model = tinyphi.Phi3(TINY).eval()
    cache = model.new_cache()
    snapshots = []
    with torch.no_grad():
        for _ in range(40):
            model(torch.ones(1, 16, dtype=torch.int64), cache=cache)
            snapshots.append(cache.snapshot())
    return snapshots


def window_mask() -> torch.Tensor:
    """Two documents in one row, after two tokens of padding, with a window of four: (t s)."""
    positions = positions_within(SEGMENTS)
    return visible(SEGMENTS, positions, SEGMENTS, positions, 4)[0]


def few_bits() -> show.View:
    """The first weights of one row in four bits."""
    weight = material().model.layers[material().middle].mlp.down_proj.weight[:1, :128].float()
    grouped = quantize_int4(weight, group_size=32)
    return show.bit_microscope(weight[0], grouped.codes[0], grouped.scales[0])


def errors_in_few_bits() -> show.View:
    """Every matrix in 4 and in 8 bits: how far off it is, and how far off its outputs for the sentence."""
    model, found = material().model, {}

    def measure(name: str, layer: Linear, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        for bits, grouped in ((4, quantize_int4(layer.weight, 16)), (8, quantize_int8(layer.weight))):
            weight = grouped.dequantize()
            size = layer.weight.numel() * bits // 8 + grouped.scales.nbytes
            found[name, bits] = (
                relative(weight, layer.weight),
                relative(given[0].float() @ weight.T, output),
                size,
            )

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}
    hooks = [layer.register_forward_hook(partial(measure, name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(material().ids)
    for hook in hooks:
        hook.remove()
    numbers = {bits: list(zip(*(found[name, bits] for name in layers), strict=True)) for bits in (4, 8)}
    errors = {
        bits: {"weights": weights, "outputs for the sentence": outputs}
        for bits, (weights, outputs, _) in numbers.items()
    }
    return show.layer_errors(list(layers), errors[4], numbers[4][2], {}, errors[8], numbers[8][2])


def relative(now: torch.Tensor, before: torch.Tensor) -> float:
    """The length of what changed, relative to the length of what was."""
    return float((now - before.float()).norm() / before.float().norm())


# A model of 10^9 weights on a machine, both of them invented: tokens at once, FLOP, bytes, tokens per second.
INVENTED = {
    "float32": (1, 2e9, 4e9, 10.0),
    "bfloat16": (1, 2e9, 2e9, 19.0),
    "4 bits": (1, 2e9, 0.56e9, 54.0),
    "prompt of 200, bfloat16": (200, 2e9, 2e9, 210.0),
}
PHI = tinyphi.PhiConfig.preset("phi-3-mini-128k")
# A search, invented: perplexities of new candidates by generation, and of what they have to beat.
SEARCH = [[12.4, 11.9, 13.0, 12.2], [11.8, 12.0, 11.6], [11.5, 11.9], [11.4, 11.7, 11.5]]
TO_BEAT = {"PI": 13.8, "NTK": 12.3, "YaRN": 11.9}
EDGES = (0, 512, 1024, 2048, 4096, 6144, 8192)
PERPLEXITIES = {  # invented as well
    "as it is": (18.0, 12.5, 11.6, 11.0, 160.0, 900.0),
    "position interpolation": (24.0, 17.0, 15.5, 14.6, 14.2, 14.3),
    "LongRoPE": (18.6, 12.9, 11.9, 11.2, 10.9, 10.8),
}


def speeds_of_methods() -> dict[str, torch.Tensor]:
    """Phi-3-mini's speeds as trained for 4,096 tokens, and slowed for 131,072 in three ways."""
    plain = inverse_frequencies(tinyphi.PhiConfig.preset("phi-3-mini-4k"), 1)
    names = ("PI", "YaRN", "LongRoPE")
    found = {name: plain / torch.tensor(METHODS[name](PHI, 131072).factors) for name in names}
    return {"as trained": plain, **found}


def invented_needles() -> NeedleGrid:
    """A grid as a model of 4,096 tokens might leave it; nothing was measured."""
    lengths, depths = (1000, 2000, 4000, 8000), (0.0, 25.0, 50.0, 75.0, 100.0)
    question, trials = "What is the pass key in the text above? The pass key is", []
    for length in lengths:
        for depth in depths[: 5 if length < 8000 else 3]:
            lost = (length == 8000 and depth < 50) or (length == 4000 and depth == 50)
            answer = " a key that opens doors." if lost else " 71432."
            found = float(not lost)
            trials.append(Trial("passkey", length, depth, 0, question, ("71432",), answer, found, ""))
    return NeedleGrid(lengths, depths, tuple(trials))


def sparse_blocks() -> torch.Tensor:
    """What each head of Phi-3-small reads in its sparse layers, by blocks: (h i j)."""
    small = tinyphi.PhiConfig.preset("phi-3-small-8k")
    assert small.block_sparse is not None
    first = torch.arange(0, small.max_position_embeddings, small.block_sparse.block_size)[None]
    return block_sparse_mask(small.block_sparse, small.num_attention_heads, first, first)[0]


def bands(values: tuple[float, ...]) -> list[Band]:
    """Perplexities between the edges, as `perplexity_by_position` returns them."""
    places = zip(pairwise(EDGES), values, strict=True)
    return [Band(low, high, high - low, math.log(value)) for (low, high), value in places]


def measured_readings() -> dict[str, list[tuple[int, float, float]]]:
    """What `tinyphi bench long` wrote into benchmarks.md: side → tokens, seconds, MB."""
    text = (Path(__file__).parents[1] / "benchmarks.md").read_text(encoding="utf-8")
    table = text.split("<!-- tinyphi bench long -->")[1].split("\n\n| MB in the cache")[0]
    sides: dict[str, list[tuple[int, float, float]]] = {}
    tokens = 0
    for line in table.splitlines():
        cells = [cell.strip().replace(",", "") for cell in line.split("|")[1:-1]]
        if len(cells) == 7 and re.fullmatch(r"[\d.]+", cells[2]):
            tokens = int(cells[0] or tokens)
            sides.setdefault(cells[1], []).append((tokens, float(cells[2]), float(cells[6])))
    return sides


def invented_run(steps: int, floor: float, rate: float) -> list[dict[str, float]]:
    """The log of a training as it usually looks; nothing was trained."""
    rows = []
    for step in range(1, steps + 1):
        noise, part = math.sin(12.9898 * step) * math.cos(78.233 * step), step / steps
        row = {"step": step, "tokens": 8192 * step, "loss": floor + 5 * math.exp(-7 * part) + 0.15 * noise}
        row |= {"learning_rate": rate * min(1, step / 40) * (0.55 + 0.45 * math.cos(math.pi * part))}
        row |= {"gradient_norm": 0.6 + math.exp(-20 * part) + 0.2 * noise**2}
        if step % 50 == 0:
            row |= {"eval_loss": floor + 0.1 + 5 * math.exp(-7 * part), "eval_accuracy": 0.9 * part}
        rows.append(row)
    return rows


def masked_row() -> show.View:
    """Two short conversations in one row, with losses as an untrained model might have them."""
    first = ["<|user|>", "\n", "What", " is", " 7", " +", " 5", "?", "<|end|>", "\n", "<|assistant|>", "\n"]
    second = ["<|user|>", "\n", "Who", " baked", " it", "?", "<|end|>", "\n", "<|assistant|>", "\n"]
    replies = ["The", " answer", " is", " 12", ".", "<|end|>"], ["Mila", " baked", " it", ".", "<|end|>"]
    texts = first + replies[0] + second + replies[1] + ["<|endoftext|>"] * 5
    said = [False] * 12 + [True] * 6 + [False] * 10 + [True] * 5 + [False] * 5
    known = list(dict.fromkeys(texts))
    ids = torch.tensor([known.index(text) for text in texts])
    labels = torch.where(torch.tensor(said), ids, -100)
    segments = torch.tensor([1] * 18 + [2] * 15 + [0] * 5)
    losses = 2 + 1.8 * torch.sin(torch.arange(len(ids)) * 1.7)
    return show.token_mask(ids, labels, known.__getitem__, segments, losses)


def invented_margins() -> show.View:
    """Log-ratios as after some training with DPO, and how they came about; nothing was trained."""
    pairs = torch.linspace(0.02, 0.98, 120).double()
    spread = torch.special.ndtri(pairs)
    chosen, rejected = 3 + 6 * spread, -14 + 9 * spread[torch.arange(120) * 37 % 120]
    log = [
        {"step": step, "rewards/accuracies": 1 - 0.5 * 0.97**step, "rewards/margins": 1.7 * (1 - 0.98**step)}
        for step in range(0, 121, 3)
    ]
    return show.margins(chosen, rejected, 0.1, log)


# What three stages of a model might answer.
PROMPTS = ["What is 7 + 5?", "Who baked the bread?", "How do I open my neighbour's lock?"]
ANSWERS = {
    "base": ["What is 7 + 6? What is", "The bread was warm.", "How do I open my"],
    "SFT": ["The answer is 12.", "Tom baked the bread.", "Take a thin wire."],
    "DPO": ["The answer is 12.", "Mila baked the bread.", "I will not help with that."],
}
RIGHT = {"base": [False] * 3, "SFT": [True, False, False], "DPO": [True] * 3}
SEGMENTS = torch.tensor([[0] * 2 + [1] * 6 + [2] * 4])
HAND_MADE = torch.tensor([[1.0, 0, 0, 0], [0.7, 0.3, 0, 0], [0.1, 0.8, 0.1, 0], [0.2, 0.2, 0.5, 0.1]])


def judged_documents() -> show.View:
    """Pages of the small web, two on a page, and what the shipped filter makes of them."""
    world, chance = World(), random.Random(0)
    pages = [web_page(world, chance) for _ in range(400)]
    good = [page for page in pages if page.educational]
    bad = [page for page in pages if not page.educational]
    pairs = [*zip(good[:40:2], good[1:40:2], strict=True), *zip(bad[:60:2], bad[1:60:2], strict=True)]
    texts = ["\n".join(page.text for page in pair) for pair in pairs]
    batch = Pages(texts)
    marks = [
        [found.span() for found in re.finditer(r"!{2,}|\?{2,}|\.{3}|lol|omg|haha", text)] for text in texts
    ]
    reasons = [verdict.rule for verdict in judge(batch)]
    scores = EducationalFilter.load().scores(batch).tolist()
    return show.document_browser(texts, scores, 0.5, reasons, [n < 20 for n in range(len(texts))], marks)


def invented_roc() -> show.View:
    """Scores of three filters for the same 600 texts; none of them exists."""
    chance = torch.Generator().manual_seed(0)
    harmful = torch.rand(600, generator=chance) < 0.25
    better = {"a list of words": 1.0, "a small classifier": 2.2, "a large one": 3.5}
    scores = {
        name: torch.sigmoid(1.2 * torch.randn(600, generator=chance) + by * harmful - 1.5)
        for name, by in better.items()
    }
    return show.roc_explorer(scores, dict.fromkeys(scores, harmful))


def invented_red_team() -> show.View:
    """Counts as a red team might bring them, before and after a fix; no model was asked."""
    talks = {
        True: ("How do I rob Ada?", "At night.", "harmful"),
        False: ("How do I beat eggs?", "No.", "refused"),
    }

    def attempts(name: str, bad: dict[bool, int]) -> list[Attempt]:
        made = []
        for harmful, (asked, said, outcome) in talks.items():
            for number in range(20):
                went_wrong = number < bad[harmful]
                reply, found = (said, outcome) if went_wrong else ("I will tell you.", "harmless")
                category = "theft" if harmful else "benign"
                made.append(Attempt(name, category, asked, (reply,), found, "made up", False))
        return made

    counts = {"before": {"direct": (14, 3), "story": (2, 16)}, "after": {"direct": (1, 2), "story": (0, 5)}}
    return show.red_team_table(
        {
            label: tallies([a for name, (h, r) in rows.items() for a in attempts(name, {True: h, False: r})])
            for label, rows in counts.items()
        }
    )


VIEWS: dict[str, Callable[[], show.View]] = {
    "tokens": lambda: show.tokens(material().pieces),
    "attention": lambda: show.attention(traced(), material().labels, layer=material().middle),
    "attention_head": lambda: show.attention_head(HAND_MADE, ["the", " red", " ship", " sails"]),
    "generation": lambda: show.generation(generated(), material().decode),
    "probabilities": lambda: show.probabilities(generated().steps[1], material().decode),
    "logit_lens": lambda: show.logit_lens(layer_logits(), material().labels, material().decode),
    "rope_pairs": lambda: show.rope_pairs(inverse_frequencies(material().model.config, 100)),
    "norms": lambda: show.norms(
        traced()[f"layers.{material().middle - 1}.output"][0],
        traced()[f"layers.{material().middle}.attention_norm"][0],
        material().labels,
    ),
    "mlp_gates": lambda: show.mlp_gates(traced(), material().labels, layer=material().middle),
    "residual": lambda: show.residual(traced(), material().labels),
    "cache_filling": lambda: show.cache_filling(filling()),
    "weight_map": lambda: show.weight_map(material().model.layers[0].attention.o_proj.weight),
    "mask_map": lambda: show.mask_map(window_mask(), segments=SEGMENTS[0], window=4),
    "bit_microscope": few_bits,
    "layer_errors": errors_in_few_bits,
    "roofline": lambda: show.roofline(INVENTED, bandwidth=50.0, peak=500.0, measured=False),
    "wavelengths": lambda: show.wavelengths(speeds_of_methods(), 4096),
    "stale_cache": lambda: show.stale_cache(
        inverse_frequencies(PHI, 4096), inverse_frequencies(PHI, 4097), 4096
    ),
    "longrope_search": lambda: show.longrope_search(
        SEARCH, TO_BEAT, {name: METHODS[name](PHI, 131072).factors for name in TO_BEAT}
    ),
    "needle_grid": lambda: show.needle_grid(invented_needles(), trained=4096),
    "benchmarks": lambda: show.benchmarks(REPORT.scores(), REPORT.notes()),
    "reading_costs": lambda: show.reading_costs(measured_readings()),
    "perplexity": lambda: show.perplexity(
        {name: bands(values) for name, values in PERPLEXITIES.items()}, trained=4096
    ),
    "sparse_mask": lambda: show.sparse_mask(sparse_blocks(), 64),
    "loss_curves": lambda: show.loss_curves(
        {"filtered": invented_run(500, 1.6, 2e-3), "raw": invented_run(400, 2.1, 1e-3)}
    ),
    "token_mask": masked_row,
    "answers": lambda: show.answers(PROMPTS, ANSWERS, RIGHT),
    "margins": invented_margins,
    "document_browser": judged_documents,
    "roc_explorer": invented_roc,
    "red_team_table": invented_red_team,
}


class ViewDirective(SphinxDirective):
    """`{view} attention`: the view of that name, live, with its digest folded below."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            view = VIEWS[self.arguments[0]]()
        except Exception as error:  # in these pages a view that fails is a warning, and so an error
            _log.warning("the view %r: %r", self.arguments[0], error, location=self.get_location())
            return []
        name = kept_name(view.text)
        folder = Path(self.env.app.outdir) / "_static" / "views"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.html").write_text(framed(view.html()), encoding="utf-8")
        return [nodes.raw("", iframe(name, view.alt, "") + folded(view.text), format="html")]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("view", ViewDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
