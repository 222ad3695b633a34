"""What a trial is: a question in two languages, and a grader that says why.

The questions stand in `prompts_en.md` and `prompts_ko.md`, a section each.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tinyphi.errors import InputError

LANGUAGES = ("en", "ko")
NOT_RUN = "not run: running programs was not asked for (run_code=True, --run-code)"


@dataclass(frozen=True)
class Grade:
    """How good an answer is, and the reasons in words."""

    score: float | None  # 0 to 1; None: it was not graded
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.score == 1


@dataclass(frozen=True)
class Trial:
    """One question. `marks` reads a reply, or runs the program in it."""

    name: str
    level: str  # "riddle", "easy", "medium", "hard", "expert", "game"
    marks: Callable[[str], Grade] = field(repr=False)
    runs_code: bool = False

    def prompt(self, language: str = "en") -> str:
        """Raises InputError for a language that the trial is not written in."""
        if language not in LANGUAGES:
            raise InputError(f"The trials are in {' and '.join(LANGUAGES)}, not in {language!r}.")
        return prompts(language)[self.name]

    def grade(self, reply: str, *, run_code: bool = False) -> Grade:
        """Mark a reply. One that is a program is only run if run_code is True."""
        if self.runs_code and not run_code:
            return Grade(None, (NOT_RUN,))
        return self.marks(reply)


@cache
def prompts(language: str) -> dict[str, str]:
    """The texts of all trials, by name. Line breaks within a paragraph or an item are taken out."""
    page = Path(__file__).with_name(f"prompts_{language}.md").read_text(encoding="utf-8")
    sections = (section.split("\n", 1) for section in page.split("\n## ")[1:])
    return {name: re.sub(r"(?<=\S)\n *(?=[^\s-])", " ", text.strip()) for name, text in sections}
