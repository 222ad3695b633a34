"""The Phi thesis in miniature: the same small model, the same number of tokens, three kinds of data.

    raw                    the small world's web as it is: articles among advertisements, gossip, results
    filtered               the pages that a classifier, trained on 200 labelled ones, finds educational
    filtered + synthetic   half of that, half a textbook with worked exercises

How much of the exam does each learn? The models are not tuned to chat, so they choose among four answers by
likelihood; guessing gives 25 %. Source: Phi-3 technical report (arXiv 2404.14219), sec. 2, "data optimal
regime"; Gunasekar et al. 2023 (arXiv 2306.11644).
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tinyphi.data.packing import Rows, text_example, wrapped
from tinyphi.data.quality import QualityFilter
from tinyphi.data.synthetic.lessons import lesson
from tinyphi.data.synthetic.questions import Question, exam
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.evaluate.nano_exam import choose
from tinyphi.files import write_text
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer
from tinyphi.tokenizer.train import train_sentencepiece
from tinyphi.train.initial import start_alike
from tinyphi.train.log import LogRow
from tinyphi.train.loop import Plan, Trainer
from tinyphi.train.losses import next_token_objective
from tinyphi.train.recipes.nano import CONFIG, PIECES, SHORT, until

COMMITTED = Path(__file__).with_suffix(".json")  # the curves of `tinyphi train data-quality`, as it was run
MIXTURES = ("raw", "filtered", "filtered + synthetic")
SMALLER = replace(
    CONFIG,
    hidden_size=96,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=3,
    num_key_value_heads=1,
)
_ROWS = 8
_LABELLED = 200
_POINTS = 6  # of each curve

Curve = list[tuple[int, float]]  # tokens of training, share of the exam


def texts(mixture: str, world: World, seed: int) -> Iterator[str]:
    """An endless stream of documents. Raises InputError for a mixture that there is not."""
    if mixture not in MIXTURES:
        raise InputError(f"There is no mixture {mixture!r}; they are {', '.join(MIXTURES)}.")
    chance = random.Random(f"mixture {seed}")
    web = (web_page(world, chance) for _ in iter(int, 1))
    if mixture == "raw":
        yield from (page.text for page in web)
    labelled = [(page.text, page.educational) for page in islice(web, _LABELLED)]
    quality = QualityFilter(labelled)
    for page in web:
        if quality.score(page.text) > 0.5:
            yield page.text
            if mixture == "filtered + synthetic":
                written = 0
                while written < len(page.text):
                    made = lesson(world, chance)
                    written += len(made)
                    yield made


def vocabulary() -> Tokenizer:
    """The same for all: half from the web as it is, half from the textbook."""
    world, chance = World(), random.Random("vocabulary")
    pages = [make(world, chance) for _ in range(3000) for make in (_page, lesson)]
    return train_sentencepiece(pages, PIECES)


def _page(world: World, chance: random.Random) -> str:
    return web_page(world, chance).text


def train_once(
    mixture: str, seed: int, tokenizer: Tokenizer, questions: Sequence[Question], steps: int = 1200
) -> Curve:
    """One model from nothing, on 2,048 tokens a step; the exam several times on the way."""
    torch.manual_seed(seed)
    model, world = Phi3(SMALLER), World()
    start_alike(model)
    documents = (text_example(tokenizer, text) for text in texts(mixture, world, seed))
    rows = wrapped(until(steps * _ROWS * SHORT, documents), SHORT)
    every = max(1, steps // _POINTS)
    plan = Plan(steps, 2e-3, warmup_steps=steps // 10, evaluate_every=every, seed=seed)
    source = Rows(rows, _ROWS, CONFIG.pad_token_id or 0, seed=seed)

    def mark(model: Phi3) -> dict[str, float]:
        return {"exam": choose(model, tokenizer, questions).share}

    trainer = Trainer(model, plan, source, next_token_objective, evaluate=mark)
    log: list[LogRow] = trainer.run()
    if trainer.step < steps:  # Ctrl-C: half a curve is none
        raise KeyboardInterrupt
    return [(int(row["tokens"]), float(row["eval_exam"])) for row in log if "eval_exam" in row]


def run(
    file: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1200,
    per_kind: int = 25,
    tell: Callable[[str], object] = print,
) -> dict[str, Any]:
    """All mixtures with all seeds; the curves, written to a JSON file after each training.

    What the file has already is not trained again. Raises InputError for a file of another experiment.
    """
    path, about = Path(file), {"steps": steps, "per_kind": per_kind}
    found: dict[str, Any] = {"about": about, "curves": {name: {} for name in MIXTURES}}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("about") != about:
            raise InputError(f"{path} holds an experiment with {found.get('about')}; take another file.")
    questions, tokenizer = exam(World(), per_kind), vocabulary()
    for seed in seeds:
        for mixture in MIXTURES:
            if str(seed) in found["curves"][mixture]:
                continue
            curve = train_once(mixture, seed, tokenizer, questions, steps)
            found["curves"][mixture][str(seed)] = curve
            write_text(path, json.dumps(found, indent=1) + "\n")
            tell(f"seed {seed}, {mixture}: {curve[-1][1]:.1%} after {curve[-1][0]:,} tokens")
    return found
