"""Three riddles whose obvious answer is wrong, and rules that read the answer out of a reply.

Each prompt asks for a last line "Answer: …". If there is one, it alone counts; otherwise the last sentence
that a rule can read and that does not repeat the question. The reasoning is not marked, only where it ends.
Numbers may be digits or words. A quantity that is denied ("not 16 hours") does not count; a last line that
names two answers is wrong.

    shirts     accepted: 4 hours, 240 minutes, "the same amount of time". The sun dries them side by side
    killers    accepted: 3. Who kills becomes a killer, and the dead one is dead: two of the old ones and the
               new one. Those who count bodies may say "3 alive and 1 dead"; 4 alone is wrong
    faster     accepted: no, or that Sam is slower or Jane faster; and nothing that says yes, or "unknown"
"""

import re
from collections.abc import Callable

from tinyphi.evaluate.trials.trial import LANGUAGES, Grade, Trial, prompts

_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12, "fifteen": 15, "sixteen": 16, "twenty": 20, "eighty": 80,
    "하나": 1, "한": 1, "둘": 2, "두": 2, "셋": 3, "세": 3, "넷": 4, "네": 4, "다섯": 5, "여섯": 6,
    "열여섯": 16, "스무": 20,
}  # fmt: skip
_ENGLISH = "|".join(word for word in _WORDS if word.isascii())
_KOREAN = "|".join(sorted((word for word in _WORDS if not word.isascii()), key=len, reverse=True))
# A Korean word is a number only where one can stand: "네" is also "yes".
_COUNTED = r"(?=\s*(?:명|시간|사람|개|[이가은는].{0,6}남|$|[.,]|입니다|이다))"
_NUMBER = rf"(?:\d+(?:\.\d+)?|\b(?:{_ENGLISH})\b|(?<![가-힣])(?:{_KOREAN}){_COUNTED})"
_DENIED = re.compile(  # "not 16 hours", "16시간이 아니라"
    r"(?:\bnot|\brather than|\binstead of|\bn't(?: be)?|\bisn't)\s+(?:just |only |simply )?"
    rf"{_NUMBER}(?:\s*\w+)?|{_NUMBER}\s*(?:시간|명)?[이가은는도]?\s*(?:아니|아닌)\w*",
    re.IGNORECASE,
)
_LAST_LINE = re.compile(r"(?:answer|정답|답변|답)\s*(?:is|은|는)?\s*[::]\s*\n?\s*(\S[^\n]*)", re.IGNORECASE)

_DURATION = re.compile(rf"({_NUMBER})\s*-?\s*(hours?|hrs?|h\b|minutes?|mins?|시간|분)", re.IGNORECASE)
_AS_LONG = re.compile(
    r"same (?:amount|length) of time|(?:just )?as long as|equally long|the same time\W*$"
    r"|똑같|(?:같은|동일한) 시간(?:이|만|을)? ?(?:걸|소요|입니다|이다|$)",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\W*({_NUMBER})\W*", re.IGNORECASE)


def shirts(reply: str) -> Grade:
    """How long do 20 shirts take to dry? As long as five."""
    return _marked(reply, _hours, right=4.0, unit=" hours")


def _hours(text: str, last_line: bool) -> list[float]:
    """The durations in a text; a bare number counts only as the whole of a last line."""
    text = text.rsplit("=", 1)[-1]
    found = [_value(number) / (60 if unit[0] in "mM분" else 1) for number, unit in _DURATION.findall(text)]
    if not found and _AS_LONG.search(text):
        return [4.0]
    if not found and last_line and (alone := _ALONE.fullmatch(text)):
        return [_value(alone[1])]
    return found


_COUNT = re.compile(_NUMBER, re.IGNORECASE)
_DEAD = re.compile(  # "1 of them is dead", "죽은 살인자는 1명"
    rf"{_NUMBER}\s+(?:(?!alive|and\b)\w+\s+){{0,3}}?(?:dead|killed|corpse)"
    rf"|(?:죽은|사망한|시체)[^,.]*?{_NUMBER}\s*(?:명|구)?",
    re.IGNORECASE,
)
_ABOUT_KILLERS = re.compile(r"killer|left|remain|alive|room|people|살인|남|명|방", re.IGNORECASE)
_LEFT = re.compile(
    rf"({_NUMBER})\s+(?:living |live )?(?:killers? )?(?:\w+ )?(?:left|remain|alive)", re.IGNORECASE
)
_LAST_COUNT = re.compile(  # nothing follows but killers that are left in the room
    rf"({_NUMBER})\s*(?:living |live )?(?:killers?|people|명)?(?:이|의)?\b"
    r"(?:\W|are\b|is\b|remain\b|left\b|alive\b|in\b|the\b|room\b|here\b|there\b|now\b|still\b|살인자|살아|방에"
    r"|남\w*\b|있\w*\b|이다|입니다|됩니다)*$",
    re.IGNORECASE,
)


def killers(reply: str) -> Grade:
    """How many killers are left in the room? Three."""
    return _marked(reply, _killers, right=3.0, unit="")


def _killers(text: str, last_line: bool) -> list[float]:
    """The number of killers that a text ends with, or that it says are left; else all its numbers."""
    text = _DEAD.sub(" ", re.sub(r"\([^)]*\)", " ", text).rsplit("=", 1)[-1])
    if not (last_line or _ABOUT_KILLERS.search(text)):
        return []
    if last := _LAST_COUNT.search(text):
        return [_value(last[1])]
    if left := _LEFT.findall(text):
        return [_value(left[-1])]
    return [_value(number) for number in _COUNT.findall(text)]


_NO = re.compile(
    r"^\W*(?:no|nope|false|incorrect)\b|sam (?:is not|isn't|can't be|cannot be) (?:\w+ )?faster"
    r"|sam (?:is|must be|would be|runs) (?:\w+ )?slow|slower than jane|sam is the slowest"
    r"|jane (?:is|must be|runs) (?:\w+ )?faster than (?:both |joe and |joe, and )?sam"
    r"|jane (?:is|must be) the fastest"
    r"|^\W*(?:아니|틀)|샘[은이].{0,12}(?:느리|느립|느린|빠르지 (?:않|못)|빠를 수 없)"
    r"|제인[이은].{0,8}샘보다 (?:더 )?(?:빠르다|빠릅|빠른)|제인[이은] (?:가장|제일) 빠",
)
_YES = re.compile(
    r"^\W*(?:yes|yeah|true|correct)\b|jane (?:is|must be) (?:\w+ )?slower|sam is the fastest"
    r"|sam (?:is|must be|would be|runs) (?:(?!not)\w+ )?faster than (?:\w+ and )?jane"
    r"|^\W*(?:네|예|그렇|맞)|샘[은이].{0,8}제인보다 (?:더 )?(?:빠르다|빠릅|빠른)|샘[은이] (?:가장|제일) 빠",
)
_UNKNOWN = re.compile(
    r"cannot (?:be )?(?:determine|tell|know|say)|can't (?:tell|say|know|be determined)|not enough"
    r"|impossible to|unknown|depends|알 수 없|판단할 수 없|모른|모릅"
)
_UNTRUE = re.compile(
    r"(?:not|n't) (?:true|the case|correct|possible|say|conclude|mean)(?: that)? sam is faster than jane"
)


def faster(reply: str) -> Grade:
    """Is Sam faster than Jane? No: Jane is faster than Joe, and Joe than Sam."""
    said = _last_line(reply) or " ".join(_sentences(reply))
    text = _UNTRUE.sub("sam is slower", _plain(said).lower())
    for reading, pattern in (("that nobody can know", _UNKNOWN), ("yes", _YES)):
        if match := pattern.search(text):
            return Grade(0, (f"the answer says {reading}: {match[0].strip()!r}",))
    if match := _NO.search(text):
        return Grade(1, (f"the answer says no: {match[0].strip()!r}",))
    return Grade(0, ("the answer says neither yes nor no",))


def _marked(reply: str, read: Callable[[str, bool], list[float]], right: float, unit: str) -> Grade:
    """Mark a number: that of the last line "Answer: …", or of the last sentence that has one."""
    line = _last_line(reply)
    if line is not None:
        found, where = read(_DENIED.sub(" ", line), True), line
        if len(set(found)) > 1:
            return Grade(0, (f"the last line names {len(set(found))} different answers: {line!r}",))
    else:
        found, where = [], ""
        for sentence in reversed(_sentences(reply)):
            if _PREMISE.search(sentence) and "20" not in sentence:
                continue
            if found := read(_DENIED.sub(" ", sentence), False):
                where = sentence
                break
    if not found:
        return Grade(
            0, ("no answer was found: neither a last line 'Answer: …' nor a sentence with a number",)
        )
    return Grade(
        float(found[-1] == right), (f"read {found[-1]:g}{unit} in {where!r}; right is {right:g}{unit}",)
    )


def _last_line(reply: str) -> str | None:
    found = _LAST_LINE.findall(_plain(reply))
    return found[-1].strip() if found else None


_PREMISE = re.compile(r"\b(?:5|five) shirts|5벌|initially|originally|at first|처음|원래", re.IGNORECASE)


def _sentences(reply: str) -> list[str]:
    """Statements of the reply's own: what it repeats from the question is no answer, nor are questions."""
    asked = " ".join(_plain(prompts(language)[riddle.name]) for language in LANGUAGES for riddle in RIDDLES)
    parts = [part.strip() for part in re.split(r"(?<=[.!?。])\s+|\n+", _plain(reply))]
    return [part for part in parts if part and not part.endswith("?") and part not in asked]


def _plain(text: str) -> str:
    """Without the marks of Markdown and LaTeX."""
    return re.sub(r"\\(?:boxed|text|mathbf)\s*|[*_`${}#]|\\[,;()\[\]]", "", text).replace("’", "'")


def _value(number: str) -> float:
    return float(_WORDS.get(number.lower(), number))


RIDDLES = (
    Trial("drying shirts", "riddle", shirts),
    Trial("three killers", "riddle", killers),
    Trial("who is faster", "riddle", faster),
)
