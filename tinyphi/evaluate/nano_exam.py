"""The exam of tinyphi-nano: questions that nobody asked before, requests to be refused, a long text.

    exam          400 held-out questions of eight kinds, answered in a conversation, marked by rule
    refusals      harmful requests refused, and harmless look-alikes refused (that should be none)
    preferences   pairs of answers: does it give the better one a higher reward, β log(π / π_ref)?
    passkey       a number hidden in a text of 2,048 tokens, eight times the context of the first phases

Every model that speaks Phi-3's chat format can take it; only those that read the world's textbook can pass.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from tinyphi.data.packing import NO_TARGET, Batch, chat_example, padded, text_example
from tinyphi.data.synthetic.conversations import preference, turns, wrong_reply
from tinyphi.data.synthetic.lessons import people_page
from tinyphi.data.synthetic.questions import KINDS, Question, exam
from tinyphi.data.synthetic.requests import Request, held_out_requests, is_refusal
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.world import World
from tinyphi.generation.chat import replies
from tinyphi.longcontext.needle import needle_grid
from tinyphi.longcontext.perplexity import surprise
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer

_LONGEST = 72  # tokens of an answer; the longest right one has about 50


@dataclass(frozen=True)
class Answer:
    """A question, what the model said, and whether that is right."""

    question: Question
    reply: str

    @property
    def right(self) -> bool:
        return self.question.is_right(self.reply)


@dataclass(frozen=True)
class Share:
    """So many of so many, with the standard error of their share."""

    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / self.of

    @property
    def standard_error(self) -> float:
        """√(p (1 − p) / n), by which the share of another sample of as many would typically differ."""
        return math.sqrt(self.share * (1 - self.share) / self.of)

    def __str__(self) -> str:
        return f"{self.share:6.1%} ± {self.standard_error:.1%}  ({self.right} of {self.of})"


@dataclass(frozen=True)
class Refusal:
    """A request and what the model said."""

    request: Request
    reply: str

    @property
    def refused(self) -> bool:
        return is_refusal(self.reply)


def reply_to(model: Phi3, tokenizer: Tokenizer, texts: Sequence[str], most: int = _LONGEST) -> list[str]:
    """The model's greedy reply to each text, as the first message of a conversation."""
    return replies(model, tokenizer, [turns(text) for text in texts], most)


def sit_exam(model: Phi3, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[Answer]:
    """The model's answers to some questions."""
    said = reply_to(model, tokenizer, [question.text for question in questions])
    return [Answer(question, reply) for question, reply in zip(questions, said, strict=True)]


def choose(model: Phi3, tokenizer: Tokenizer, questions: Sequence[Question], options: int = 4) -> Share:
    """How often the right answer is the likeliest of several, each below the question as in the textbook.

    For models that were not tuned to chat. Guessing gives one in `options`.
    """
    chance, right = random.Random("options"), 0
    for question in tqdm(questions, desc="choices", leave=False, disable=len(questions) < 50):
        wrong = {wrong_reply(question, chance) for _ in range(4 * options)} - {question.reply}
        answers = [question.reply, *sorted(wrong)[: options - 1]]
        prompt = f"Exercise: {question.text}\nSolution:"
        start = len(text_example(tokenizer, prompt).ids) - 1
        batch = padded(
            [text_example(tokenizer, f"{prompt} {answer}") for answer in answers], tokenizer.pad_id or 0
        )
        surprises = surprise(model, batch.ids, batch.segments)[:, start:]
        right += int(surprises.nanmean(1).argmin()) == 0
    return Share(right, len(questions))


def by_kind(answers: Sequence[Answer]) -> dict[str, Share]:
    """How many answers of each kind are right."""
    found = {}
    for kind in KINDS:
        marks = [answer.right for answer in answers if answer.question.kind == kind]
        if marks:
            found[kind] = Share(sum(marks), len(marks))
    return found


def refusals(model: Phi3, tokenizer: Tokenizer, requests: Sequence[Request]) -> list[Refusal]:
    """What the model says to some requests."""
    said = reply_to(model, tokenizer, [request.text for request in requests])
    return [Refusal(request, reply) for request, reply in zip(requests, said, strict=True)]


def preference_accuracy(
    model: Phi3, reference: Phi3, tokenizer: Tokenizer, pairs: int = 200, seed: int = 0
) -> Share:
    """How often the better of two held-out answers has gained more on the reference than the worse one."""
    chance, world = random.Random(f"held-out pairs {seed}"), World()
    made = [preference(world, chance, held_out=True) for _ in range(pairs)]
    gains = []
    for side in ("chosen", "rejected"):
        rows = [pair.prompt + turns("", getattr(pair, side))[1:] for pair in made]
        batch = padded([chat_example(tokenizer, row) for row in rows], tokenizer.pad_id or 0)
        gains.append(_log_probabilities(model, batch) - _log_probabilities(reference, batch))
    return Share(int((gains[0] > gains[1]).sum()), pairs)


def passkey(model: Phi3, tokenizer: Tokenizer, length: int, repeats: int = 4, seed: int = 0) -> Share:
    """How often a hidden number is found, at five depths of a text of `length` tokens about the world."""
    chance, world = random.Random(f"haystack {seed}"), World()
    pages = [chance.choice((story, people_page))(world, chance) for _ in range(length // 20)]
    haystack = tokenizer.encode(" ".join(pages))
    grid = needle_grid(model, tokenizer, [length], repeats=repeats, seed=seed, haystack=haystack)
    return Share(sum(trial.score == 1 for trial in grid.trials), len(grid.trials))


def report(
    model: Phi3,
    tokenizer: Tokenizer,
    reference: Phi3 | None = None,
    lengths: Sequence[int] = (256, 2048),
    per_kind: int = 50,
    seed: int = 0,
) -> dict[str, Share]:
    """Everything, by name. reference: what preference tuning started from; None: no preferences."""
    world = World()
    answers = sit_exam(model, tokenizer, exam(world, per_kind, seed))
    found = {"exam": Share(sum(answer.right for answer in answers), len(answers))}
    found |= {f"  {kind}": share for kind, share in by_kind(answers).items()}
    for name, harmful in (("harmful requests refused", True), ("harmless requests refused", False)):
        said = refusals(model, tokenizer, held_out_requests(world, harmful, seed=seed))
        found[name] = Share(sum(one.refused for one in said), len(said))
    if reference is not None:
        found["preferences"] = preference_accuracy(model, reference, tokenizer, seed=seed)
    for length in lengths:
        found[f"pass key in {length} tokens"] = passkey(model, tokenizer, length, seed=seed)
    return found


def table(found: Mapping[str, Share]) -> str:
    """The report as lines of text."""
    return "\n".join(f"{name:28}{share}" for name, share in found.items())


def _log_probabilities(model: Phi3, batch: Batch) -> torch.Tensor:
    """log π of each row's targets: (b)."""
    counted = batch.labels != NO_TARGET
    surprises = surprise(model, batch.ids, batch.segments)
    return -(surprises * counted).nan_to_num().sum(1)
