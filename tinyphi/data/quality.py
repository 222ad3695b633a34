"""Is a page worth reading? A naive Bayes classifier of educational value, from a few hundred labelled pages.

Phi-3's makers let a large model judge some pages for "educational value", trained a small classifier
on its verdicts, and let that one filter the rest (arXiv 2306.11644, sec. 2.1). The classifier here is the
simplest that does the job: words are counted in good and bad pages, and a new page's words vote.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable

from tinyphi.errors import InputError


class QualityFilter:
    """Trained on labelled pages: (text, whether it is educational). Raises InputError without both kinds."""

    def __init__(self, labelled: Iterable[tuple[str, bool]]) -> None:
        counts = {True: Counter[str](), False: Counter[str]()}
        pages = Counter[bool]()
        for text, educational in labelled:
            counts[educational].update(_words(text))
            pages[educational] += 1
        if len(pages) < 2:
            raise InputError("A filter learns from good and from bad pages; these are all of one kind.")
        vocabulary = counts[True].keys() | counts[False].keys()
        totals = {kind: sum(counted.values()) + len(vocabulary) for kind, counted in counts.items()}
        self._prior = math.log(pages[True] / pages[False])
        self._votes = {  # log P(word | good) / P(word | bad), each word counted once more than it was seen
            word: math.log((counts[True][word] + 1) / totals[True])
            - math.log((counts[False][word] + 1) / totals[False])
            for word in vocabulary
        }

    def score(self, text: str) -> float:
        """The probability that the page is educational, if its words came one by one (they do not)."""
        votes = self._prior + sum(self._votes.get(word, 0.0) for word in _words(text))
        return 1 / (1 + math.exp(-max(-700.0, min(votes, 700.0))))


def _words(text: str) -> list[str]:
    """Words, and marks of which the web has more: runs of signs, and numbers as one kind."""
    return re.findall(r"[a-z']+|[^\w\s]+|\d", re.sub(r"\d+", "0", text.lower()))
