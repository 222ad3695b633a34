"""BIG-Bench Hard: 27 kinds of puzzles, solved step by step after three solved examples of the same kind.

Row: {"input", "target", "subject": "boolean_expressions"}; an example has "target" with its steps, and
"introduction", what the kind is about. Source: Suzgun et al. 2022, arXiv 2210.09261; the wording is
`bbh_cot_fewshot` of lm-eval, whose package carries the examples.
"""

import re

from tinyphi.evaluate.tasks.base import Question, Row, Score, TextTask, Wording


def stated_answer(reply: str) -> str:
    """What stands between "the answer is " and the last sign of that line, or "[invalid]"."""
    found = re.search(r"(?<=the answer is )(.*)(?=.)", reply)
    return found[1].strip() if found else "[invalid]"


def _ask(row: Row) -> Question:
    return Question((f"Q: {row['input']}\nA: Let's think step by step.\n",), (row["target"],))


BBH = TextTask(
    name="bbh",
    group="subject",
    metrics=("exact_match",),
    wordings={
        "lm-eval": Wording(
            _ask,
            shots=3,
            delimiter="",
            stops=("</s>", "Q", "\n\n"),
            introduction=lambda row, examples: str(examples[0].get("introduction", "")) if examples else "",
        )
    },
    mark=lambda row, reply: {"exact_match": Score(float(stated_answer(reply) == row["target"]))},
    most=1024,
)
