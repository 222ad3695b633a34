"""WinoGrande: whom does the gap in the sentence mean?

The same ending follows two beginnings, each with one of the names in the gap: there are two texts and one
answer. Row: {"sentence" with "_", "option1", "option2", "answer": "1" or "2"}. Source: Sakaguchi et al. 2019,
arXiv 1907.10641; the wording is `winogrande` of lm-eval.
"""

from tinyphi.evaluate.tasks.base import ChoiceTask, Question, Row, Wording, appendix_a


def _parts(row: Row) -> tuple[str, list[str], int]:
    return row["sentence"], [row["option1"], row["option2"]], int(row["answer"]) - 1


def _ask(row: Row) -> Question:
    sentence, options, right = _parts(row)
    before, after = sentence.split("_", 1)
    return Question(tuple(before + option for option in options), (after.strip(),), right)


WINOGRANDE = ChoiceTask(
    name="winogrande", wordings={"lm-eval": Wording(_ask), "report": appendix_a("WinoGrande", _parts)}
)
