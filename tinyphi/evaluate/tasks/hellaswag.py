"""HellaSwag: how does the scene go on? The wrong endings were written by a machine to fool machines.

Row: {"activity_label", "ctx_a", "ctx_b", "endings": […], "label"}. Source: Zellers et al. 2019,
arXiv 1905.07830; the wording is `hellaswag` of lm-eval.
"""

import re

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _tidy(text: str) -> str:
    """Without the marks that WikiHow left in the texts."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _parts(row: Row) -> tuple[str, list[str], int]:
    beginning = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return _tidy(beginning), [_tidy(ending) for ending in row["endings"]], int(row["label"])


def _ask(row: Row) -> Question:
    beginning, endings, right = _parts(row)
    return Question((beginning,), tuple(endings), right)


HELLASWAG = ChoiceTask(
    name="hellaswag",
    metrics=("acc_norm", "acc"),
    wordings={"lm-eval": Wording(_ask), "report": appendix_a("HellaSwag", _parts)},
)
