"""Perplexity of whole texts: by word, by byte, and bits per byte.

Tokens are not the same for two models, words and bytes are: so the surprise of a text is divided by these.
Row: {"text"}. Words are what white space separates. Source: `loglikelihood_rolling` of lm-eval, whose
documents begin after a BOS token too.
"""

import re

from tinyphi.evaluate.tasks.base import Question, Row, Score, TextSurpriseTask, Wording


def text_scores(text: str, log_probability: float) -> dict[str, Score]:
    """The scores of one text: its log-probability over its words and its bytes."""
    size = len(text.encode())
    return {
        "word_perplexity": Score(log_probability, len(re.split(r"\s+", text))),
        "byte_perplexity": Score(log_probability, size),
        "bits_per_byte": Score(log_probability, size),
    }


def _ask(row: Row) -> Question:
    return Question(("",), (row["text"],))


PERPLEXITY = TextSurpriseTask(name="perplexity", wordings={"lm-eval": Wording(_ask)})
