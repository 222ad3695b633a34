"""BoolQ: a passage, and a question about it that is answered by yes or no.

Row: {"passage", "question", "answer": true or false}. Source: Clark et al. 2019, arXiv 1905.10044; the
wording is `boolq` of lm-eval, whose data has "label": 0 or 1 in place of "answer".
"""

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _parts(row: Row) -> tuple[str, list[str], int]:
    return f"{row['passage']}\n{row['question']}?", ["no", "yes"], int(row["answer"])


def _ask(row: Row) -> Question:
    text = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    return Question((text,), ("no", "yes"), int(row["answer"]))


BOOLQ = ChoiceTask(name="boolq", wordings={"lm-eval": Wording(_ask), "report": appendix_a("BoolQ", _parts)})
