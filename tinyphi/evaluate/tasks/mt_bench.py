"""MT-Bench: 80 conversations of two messages, whose replies a judge marks from 1 to 10.

Row: {"category", "turns": [two messages], "reference": [replies] or nothing}. Source: Zheng et al. 2023,
arXiv 2306.05685. The judge is whoever is asked: a larger model, or a person. The published scores come from
GPT-4 with the prompts of FastChat; with another judge, or with the prompt here, they are another measure.
"""

import re
from collections.abc import Sequence

from tinyphi.evaluate.tasks.base import ChatTask, Question, Row, Wording

_INSTRUCTIONS = (
    "Judge the last reply of an assistant in the conversation below. Look at whether it helps, is correct, "
    "goes into the matter and follows what was asked; neither length nor tone counts by itself. Give your "
    'reasons in a few sentences. End with a mark from 1 (useless) to 10 (excellent) in this form: "[[5]]".'
)


def judge_prompt(row: Row, conversation: Sequence[tuple[str, str]]) -> str:
    """What a judge is asked about the last of some (message, reply) pairs."""
    references = row.get("reference") or []
    known = references[len(conversation) - 1] if len(references) >= len(conversation) else None
    talk = "\n\n".join(f"User: {message}\n\nAssistant: {reply}" for message, reply in conversation)
    correct = f"\n\nA correct answer to the last message:\n{known}" if known else ""
    return f"{_INSTRUCTIONS}{correct}\n\nThe conversation:\n\n{talk}"


def mark_in(verdict: str) -> float | None:
    """The last mark in a judge's words, from 1 to 10; None where there is none."""
    found = [float(mark) for mark in re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", verdict)]
    return found[-1] if found and 1 <= found[-1] <= 10 else None


MT_BENCH = ChatTask(
    name="mt_bench",
    metrics=("judged",),
    group="category",
    wordings={"chat": Wording(lambda row: Question((row["turns"][0],), ("",)))},
    turns=lambda row: list(row["turns"]),
    judge_prompt=judge_prompt,
)
