"""What is wrong with a text that a model wrote, as far as a program can tell: one function for each fault.

Each check looks at a reply and returns the fault in a few words, or None. Most find bad *form*. Whether a
sentence is true they cannot say, but where a reply states a sum, or is a program, it can be tried.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from tinyphi.data import rules
from tinyphi.data.pages import Pages


class Reply(NamedTuple):
    """What a model wrote."""

    text: str
    message: str  # what it was told
    ended: bool  # whether it stopped by itself, not at the limit of tokens


Check = Callable[[Reply], str | None]

_SHORTEST = 20  # words of prose
_ECHO = 8  # words of the message in a row that a reply does not have by chance
_REFUSAL = re.compile(
    r"\bas an? (ai|artificial intelligence|language model)\b|\bi(['’]m| am) (an ai|a language model)\b"
    r"|\bi (can(no|['’])t|am unable to|am not able to) (help|assist|write|create|provide|fulfil)"
    r"|^\W*(i['’]m |i am )?sorry\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"question:(.*?)answer:(.*)", re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
_NUMBER = r"\$?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?: [a-z]{2,})?"  # perhaps with a unit: 3 apples
_SIGN = r"[-+*/×÷−x]"
# Not within a longer sum: "12 + 7 + 3 = 22" says nothing of 7 + 3.
_SUM = re.compile(
    rf"({_SIGN}\s*)?(?<![\d.,]){_NUMBER} *({_SIGN}) *{_NUMBER} *= *{_NUMBER}(?! *{_SIGN}|[,.]?\d)"
)
_ABOUT_LANGUAGE = tuple(rule for rule in rules.OURS if rule.name in ("english", "other_scripts"))


def too_short(reply: Reply) -> str | None:
    """Fewer than 20 words."""
    count = len(reply.text.split())
    return f"too short: {count} words" if count < _SHORTEST else None


def cut_off(reply: Reply) -> str | None:
    """Ended by the limit of tokens within a sentence."""
    whole = reply.ended or re.search(r"[.!?…][\"'”’)*]*\s*$", reply.text)
    return None if whole else "cut off in mid-sentence"


def repeats(reply: Reply) -> str | None:
    """Says the same over and over, by the rules of MassiveText."""
    return _broken(reply, rules.REPETITION, "repeats itself")


def other_language(reply: Reply) -> str | None:
    """Not English, by its function words or its letters."""
    return _broken(reply, _ABOUT_LANGUAGE, "not English")


def refuses(reply: Reply) -> str | None:
    """Speaks of being a model, or declines, in place of writing."""
    found = _REFUSAL.search(reply.text)
    return f"refuses: {found[0].strip()!r}" if found else None


def echoes(reply: Reply) -> str | None:
    """Has eight words of the message in a row, or all of them if there are fewer."""
    told, said = (re.findall(r"\w+", text.lower()) for text in (reply.message, reply.text))
    length = min(_ECHO, len(told))
    runs = {tuple(said[place : place + length]) for place in range(len(said))}
    for place in range(len(told) - length + 1):
        if tuple(told[place : place + length]) in runs:
            return f"echoes the prompt: {' '.join(told[place : place + length])!r}"
    return None


def no_question_and_answer(reply: Reply) -> str | None:
    """Not "Question: …" with an "Answer: …" behind it."""
    found = _QUESTION.search(reply.text)
    if not found or not found[1].strip():
        return "no question" if "question:" not in reply.text.lower() else "a question without an answer"
    return None if re.search(r"\w", found[2]) else "a question without an answer"


def wrong_sum(reply: Reply) -> str | None:
    """States a sum, difference, product or quotient of two numbers that is another number.

    Only "a + b = c" is read, so what is said in words goes unnoticed, as does the wrong sum for the question.
    """
    for before, first, sign, second, stated in _SUM.findall(reply.text):
        a, b, c = (Fraction(number.replace(",", "")) for number in (first, second, stated))
        if before:
            continue
        digits = len(stated.partition(".")[2])
        if (sign in "/÷" and not b) or abs(_result(a, sign, b) - c) * 10**digits > Fraction(1, 2):
            return f"wrong sum: {first} {sign} {second} = {stated}"  # and what is rounded is not wrong
    return None


def does_not_compile(reply: Reply) -> str | None:
    """Not Python. It is compiled and never run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about an invalid escape sequence
            compile(program_in(reply.text), "the reply", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"does not compile: {str(error).partition(' (')[0]}"
    return None


def program_in(text: str) -> str:
    """The blocks between ``` and ```, or without any the whole text."""
    return "\n".join(_FENCE.findall(text)) or text


def first_fault(reply: Reply, checks: Sequence[Check]) -> str | None:
    """What the first check that finds something says."""
    return next((fault for check in checks if (fault := check(reply))), None)


def _result(a: Fraction, sign: str, b: Fraction) -> Fraction:
    if sign in "*×x":
        return a * b
    return a / b if sign in "/÷" else a + b if sign == "+" else a - b


def _broken(reply: Reply, those: Sequence[rules.Rule], fault: str) -> str | None:
    verdict = rules.judge(Pages([reply.text]), those)[0]
    return None if verdict.kept else f"{fault}: {verdict.rule} {verdict.value:.2f}"


_ALWAYS: tuple[Check, ...] = (refuses, echoes)
FORMS: dict[str, tuple[Check, ...]] = {  # how a reply is checked, in this order
    "sentence": (*_ALWAYS, cut_off, repeats),
    "prose": (*_ALWAYS, too_short, cut_off, repeats, other_language, wrong_sum),
    "question": (*_ALWAYS, no_question_and_answer, cut_off, repeats, other_language, wrong_sum),
    "python": (refuses, does_not_compile),
}
