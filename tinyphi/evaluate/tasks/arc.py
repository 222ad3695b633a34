"""ARC: questions of school science, easy ones and a "challenge" set that simple methods fail on.

Row: {"question", "choices": {"text": […], "label": […]}, "answerKey"}. Source: Clark et al. 2018,
arXiv 1803.05457; the wording is `arc_easy` of lm-eval.
"""

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _parts(row: Row) -> tuple[str, list[str], int]:
    return row["question"], row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])


def _ask(row: Row) -> Question:
    question, options, right = _parts(row)
    return Question((f"Question: {question}\nAnswer:",), tuple(options), right)


ARC_EASY = ChoiceTask(
    name="arc_easy",
    metrics=("acc_norm", "acc"),
    wordings={"lm-eval": Wording(_ask), "report": appendix_a("ARC-E", _parts)},
)
ARC_CHALLENGE = ChoiceTask(
    name="arc_challenge",
    metrics=("acc_norm", "acc"),
    wordings={"lm-eval": Wording(_ask), "report": appendix_a("ARC-C", _parts)},
)
