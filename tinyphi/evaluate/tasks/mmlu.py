"""MMLU: exams of 57 subjects, from abstract algebra to world religions.

Row: {"question", "choices": [four], "answer": 0 … 3, "subject": "abstract_algebra"}. The five solved examples
come from the same subject. Source: Hendrycks et al. 2020, arXiv 2009.03300; "lm-eval" is its `mmlu` with
five shots, "cloze" scores the answers themselves and not their letters, which small models need: below some
size they do not understand letters and guess.
"""

from collections.abc import Sequence

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _parts(row: Row) -> tuple[str, list[str], int]:
    return row["question"].strip(), list(row["choices"]), int(row["answer"])


def _letters(row: Row) -> Question:
    question, options, right = _parts(row)
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
    return Question((f"{question}\n{listed}\nAnswer:",), tuple("ABCD"), right)


def _cloze(row: Row) -> Question:
    question, options, right = _parts(row)
    return Question((f"Question: {question}\nAnswer:",), tuple(options), right)


def _introduction(row: Row, examples: Sequence[Row]) -> str:
    subject = str(row["subject"]).replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


MMLU = ChoiceTask(
    name="mmlu",
    group="subject",
    metrics=("acc", "acc_norm"),
    wordings={
        "lm-eval": Wording(_letters, shots=5, introduction=_introduction),
        "report": appendix_a("MMLU", _parts),
        "cloze": Wording(_cloze),
    },
)
