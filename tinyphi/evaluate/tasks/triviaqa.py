"""TriviaQA: questions of a quiz, answered from memory. Every known name of the answer is right.

Row: {"question", "answer": {"aliases": […]}}. Source: Joshi et al. 2017, arXiv 1705.03551; the wording is
`triviaqa` of lm-eval, which adds a question mark to questions that have one.
"""

import string

from tinyphi.evaluate.tasks.base import Question, Row, Score, TextTask, Wording

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _plain(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


def _mark(row: Row, reply: str) -> dict[str, Score]:
    names = {_plain(alias) for alias in row["answer"]["aliases"]}
    return {"exact_match": Score(float(_plain(reply.lstrip()) in names))}


def _name(row: Row) -> str:
    return str(row["answer"]["aliases"][0])


TRIVIAQA = TextTask(
    name="triviaqa",
    metrics=("exact_match",),
    wordings={
        "lm-eval": Wording(
            lambda row: Question((f"Question: {row['question']}?\nAnswer:",), (_name(row),)),
            stops=("\n", ".", ","),
        ),
        "report": Wording(
            lambda row: Question((f"Question:\n{row['question']}\nAnswer:",), (_name(row),)),
            shots=5,
            stops=("\n",),
        ),
    },
    mark=_mark,
)
