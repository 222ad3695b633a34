"""A needle in a haystack: how far back, and how deep in a long text, can a model still find one sentence?

    passkey   The road went on. … The pass key is 71432. … The river was slow. … The pass key is
    needle    the same, hidden in a real text

Sources: Mohtashami and Jaggi 2023 (arXiv 2305.16300, sec. 4.2) for the passkey among sentences that repeat;
Kamradt 2023, "Needle in a haystack", for the grid and the real text. The sentences here are our own, and the
prompt ends within the answer's sentence, so that it suits models that were not trained to chat, too.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinyphi.errors import InputError
from tinyphi.longcontext.trials import (
    Haystack,
    Needle,
    Prompt,
    TaskTokenizer,
    Trial,
    ask,
    assemble,
    check_whole,
    mean_score,
    score_table,
)
from tinyphi.model.transformer import Phi3

_HEAD = "A pass key is hidden in the text below. Find it and remember it.\n\n"
_NEEDLE = "\nThe pass key is {key}. Remember it: {key} is the pass key.\n"
# "In the text above": where the key came just before a bare question, SmolLM2 explained what pass keys are.
_QUESTION = "\n\nWhat is the pass key in the text above? The pass key is"


@dataclass(frozen=True)
class NeedleGrid:
    """All trials, and the lengths and depths that were asked for. `show.needle_grid` draws it."""

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    trials: tuple[Trial, ...]  # fewer than there should be after Ctrl-C

    def score(self, length: int, depth: float) -> float | None:
        """The share of keys that were found there, 0 … 1; None where nothing was tried."""
        return mean_score(t for t in self.trials if (t.tokens, t.depth) == (length, depth))

    def __str__(self) -> str:
        names = [f"{f'{depth:g} %':>8}" for depth in self.depths]
        return score_table(
            "   depth", names, self.lengths, lambda row, length: self.score(length, self.depths[row])
        )


def needle_grid(
    model: Phi3,
    tokenizer: TaskTokenizer,
    lengths: Sequence[int],
    depths: Sequence[float] = (0, 25, 50, 75, 100),
    *,
    repeats: int = 1,
    seed: int = 0,
    haystack: Sequence[int] | None = None,
    before: NeedleGrid | None = None,
) -> NeedleGrid:
    """Hide a pass key of five digits at each depth in prompts of each length, and ask for it.

    lengths: tokens of the prompt, exactly; beyond what the model was trained on, too.
    depths: per cent of the haystack that comes before the key; it stands at the nearest end of a sentence.
    repeats: of each cell, with another key and another stretch of the haystack.
    haystack: ids of a long text (`tinyphi.longcontext.texts`); None: a few sentences, over and over.
    before: what an earlier call for the same model returned; its trials are not made again.
    A key counts as found if it is the first number of the answer. Depths share the text before the needle,
    so the deepest goes first and its keys and values are used again. Ctrl-C ends early, with what is done.
    Raises InputError for lengths too short for the question, and for depths outside of 0 … 100.
    """
    check_whole("needle_grid()", lengths=lengths, repeats=[repeats])
    if not depths or not all(0 <= depth <= 100 for depth in depths):
        raise InputError(f"needle_grid() takes one or more depths of 0 … 100; these are {list(depths)}.")
    straw = Haystack(tokenizer, haystack)
    cells = [
        (length, depth, repeat)
        for length in sorted(set(lengths))
        for repeat in range(repeats)
        for depth in sorted(set(depths), reverse=True)
    ]
    prompts = [passkey(tokenizer, straw, *cell, seed=seed) for cell in cells]
    trials = ask(model, tokenizer, prompts, first_number, before.trials if before else ())
    return NeedleGrid(tuple(sorted(set(lengths))), tuple(sorted(set(depths))), tuple(trials))


def passkey(
    tokenizer: TaskTokenizer, haystack: Haystack, length: int, depth: float, repeat: int = 0, seed: int = 0
) -> Prompt:
    """The prompt of one cell, of exactly `length` tokens. The same arguments make the same prompt."""
    key = str(random.Random(f"key {seed} {length} {depth:g} {repeat}").randrange(10_000, 100_000))
    start = random.Random(f"start {seed} {repeat}").randrange(len(haystack.ids))
    needle = Needle(_NEEDLE.format(key=key), depth)
    ids = assemble(tokenizer, length, _HEAD, haystack, start, [needle], _QUESTION)
    return Prompt("passkey", ids, depth, repeat, _QUESTION.strip(), (key,))


def first_number(answer: str, truth: Sequence[str]) -> float:
    """1 if the first number of the answer is the key, else 0."""
    found = re.search(r"\d+", answer)
    return float(found is not None and found[0] == truth[0])
