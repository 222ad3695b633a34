"""What a benchmark is: rows of data, a way to ask about a row, and a rule that marks what was said.

    row        one entry of the data set, as its makers published it
    wording    row → `Question`: the words in which it is asked
    task       the wordings, and how an answer is marked

The same rows asked in other words give other scores, which is why each wording has a name: "lm-eval" is the
one of the lm-evaluation-harness (0.4.13), "report" has the shape of the Phi-3 report's appendix A.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinyphi.errors import InputError
from tinyphi.evaluate.likelihood import Likelihood
from tinyphi.evaluate.published import REPORT

Row = Mapping[str, Any]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Score(NamedTuple):
    """A mark of one question. A result is Σ value / Σ weight, so a mean, unless the weights differ."""

    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class Question:
    """One row, asked in some words.

    texts: what stands before an answer; one text, or one for each answer (WinoGrande). answers: what may
    follow; one for each choice, or the one of a solved example where the model writes freely. right: which
    of them is true.
    """

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    right: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.right < self.choices or 1 not in (len(self.texts), len(self.answers)):
            raise InputError(
                f"A question with {len(self.texts)} texts, {len(self.answers)} answers and "
                f"right={self.right} cannot be asked: give one text or one answer, and the number of the "
                "right pair from 0 on. Is the row in the layout that the task's file describes?"
            )

    @property
    def choices(self) -> int:
        return max(len(self.texts), len(self.answers))

    def pairs(self) -> list[tuple[str, str]]:
        """(text, answer) of each choice."""
        several = self.choices
        texts = self.texts * (several if len(self.texts) == 1 else 1)
        answers = self.answers * (several if len(self.answers) == 1 else 1)
        return list(zip(texts, answers, strict=True))


@dataclass(frozen=True)
class Wording:
    """How a row is asked. The prompt is: introduction, solved examples each with `separator`, question."""

    ask: Callable[[Row], Question]
    shots: int = 0  # solved examples before the question, unless asked otherwise
    delimiter: str = " "  # between a text and its answer
    separator: str = "\n\n"  # after each solved example
    stops: tuple[str, ...] = ()  # where the model writes: what ends its answer
    introduction: Callable[[Row, Sequence[Row]], str] = lambda row, examples: ""

    def prompts(self, row: Row, examples: Sequence[Row]) -> list[str]:
        """What stands before each answer: one prompt for each text of the question."""
        before = self.introduction(row, examples)
        for example in examples:
            solved = self.ask(example)
            text, answer = solved.pairs()[solved.right]
            before += text + self.delimiter + answer + self.separator
        return [before + text for text in self.ask(row).texts]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark. `name` is also the name of its data in `tinyphi.evaluate.datasets`."""

    name: str
    wordings: Mapping[str, Wording]  # the first one is used unless asked otherwise
    metrics: tuple[str, ...] = ("acc",)  # the first one is the task's score
    group: str | None = None  # a field of the rows, whose groups have their own solved examples
    examples: tuple[Row, ...] = ()  # the solved examples, where they belong to the task and not to the data


def accuracy(question: Question, likelihoods: Sequence[Likelihood]) -> dict[str, Score]:
    """acc: is the right answer the likeliest? acc_norm: the likeliest per character?

    Long answers have low probabilities, which acc_norm makes up for. Source: `process_results` of lm-eval.
    """
    sums = [likelihood.log_probability for likelihood in likelihoods]
    each = [total / max(len(answer), 1) for total, (_, answer) in zip(sums, question.pairs(), strict=True)]
    return {
        "acc": Score(float(_largest(sums) == question.right)),
        "acc_norm": Score(float(_largest(each) == question.right)),
    }


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """The likeliest answer counts. `mark`: (row, question, likelihoods of its pairs) → scores."""

    mark: Callable[[Row, Question, Sequence[Likelihood]], dict[str, Score]] = field(
        default=lambda row, question, likelihoods: accuracy(question, likelihoods)
    )


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """The model writes until a stop string. `mark`: (row, what it wrote) → scores."""

    mark: Callable[[Row, str], dict[str, Score]]
    most: int = 256  # tokens that it may write


@dataclass(frozen=True, kw_only=True)
class CodeTask(Task):
    """The model writes a program, which is run. `program`: (row, what it wrote) → code that fails or not."""

    program: Callable[[Row, str], str]
    most: int = 512
    seconds: float = 10.0  # that the code may take


@dataclass(frozen=True, kw_only=True)
class TextSurpriseTask(Task):
    """A whole text is read. The metrics are the perplexities by word and by byte, and bits per byte."""

    metrics: tuple[str, ...] = ("word_perplexity", "byte_perplexity", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class ChatTask(Task):
    """A conversation, judged from 1 to 10. `turns`: row → what the user says, one message after another."""

    turns: Callable[[Row], Sequence[str]]
    judge_prompt: Callable[[Row, Sequence[tuple[str, str]]], str]  # (row, [(message, reply)]) → for the judge
    most: int = 512


# What a mean of scores is turned into, where it is not the result itself.
TRANSFORMS: dict[str, Callable[[float], float]] = {
    "word_perplexity": lambda mean: math.exp(-mean) if mean > -700 else math.inf,
    "byte_perplexity": lambda mean: math.exp(-mean) if mean > -700 else math.inf,
    "bits_per_byte": lambda mean: -mean / math.log(2),
}


def appendix_a(name: str, parts: Callable[[Row], tuple[str, Sequence[str], int]]) -> Wording:
    """The shape of the prompts in appendix A of the Phi-3 report, with as many examples as it used.

    name: of the row in `published.REPORT`. parts: row → question, options, number of the right one.
    """

    def ask(row: Row) -> Question:
        question, options, right = parts(row)
        letters = tuple(_LETTERS[: len(options)])
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=True))
        return Question((f"Question:\n{question}\nOptions:\n{listed}\nAnswer:",), letters, right)

    return Wording(ask, shots=REPORT.rows[name].shots or 0)


def _largest(numbers: Sequence[float]) -> int:
    """The place of the largest number; of the first one, if there are several."""
    return max(range(len(numbers)), key=numbers.__getitem__)
