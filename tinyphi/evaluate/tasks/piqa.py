"""PIQA: which of two ways to do something in the physical world works?

Row: {"goal", "sol1", "sol2", "label"}. Source: Bisk et al. 2019, arXiv 1911.11641; the wording is `piqa` of
lm-eval.
"""

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _parts(row: Row) -> tuple[str, list[str], int]:
    return row["goal"], [row["sol1"], row["sol2"]], int(row["label"])


def _ask(row: Row) -> Question:
    goal, solutions, right = _parts(row)
    return Question((f"Question: {goal}\nAnswer:",), tuple(solutions), right)


PIQA = ChoiceTask(
    name="piqa",
    metrics=("acc_norm", "acc"),
    wordings={"lm-eval": Wording(_ask), "report": appendix_a("PIQA", _parts)},
)
