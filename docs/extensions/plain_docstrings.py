"""Docstrings here are plain text, to be read in an editor. This makes reStructuredText of them for autodoc.

What it knows: paragraphs; indented blocks, which stay as they are; lists; `code` and *stress*; lines such as
"name: what it is" or "name    what it is" about a parameter or field of the object; the lines that begin with
"Source:", "Raises" and "Errors:", which become paragraphs; arXiv numbers, which become links.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

_INLINE = re.compile(
    r"(?P<code>`[^`]+`)"
    r"|(?P<stress>(?<![\w*])\*(?=\S)[^*\n]+(?<=\S)\*(?![\w*]))"
    r"|(?P<address>https?://[^\s)>,;]*[^\s)>,;.])"
    r"|(?P<paper>arXiv (?P<number>\d{4}\.\d{4,5}))"
)
_LIST = re.compile(r"(?:-|\d+\.) ")
_NAMED = re.compile(r"(?P<names>\w+(?:, \w+)*)(?P<colon>: +|  +)(?P<rest>\S.*)")
_OWN_PARAGRAPH = re.compile(r"(Source|Errors):|Raises\b|Returns\b")


def restructured(text: str, names: set[str]) -> str:
    """A docstring as reStructuredText. `names`: the parameters and fields that a line may explain."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(part for block in blocks for part in _block(block, names))


def _block(block: str, names: set[str]) -> Iterator[str]:
    if block.startswith("    "):
        yield "::\n\n" + block
        return
    paragraph: list[str] = []
    for line in block.splitlines():
        named = _named(line, names)
        if named or _LIST.match(line) or _OWN_PARAGRAPH.match(line):
            yield from _finished(paragraph)
            paragraph = [named or line]
        elif paragraph and not line.startswith(" ") and _ended(paragraph):
            yield from _finished(paragraph)
            paragraph = [line]
        else:
            paragraph.append(line.strip())
    yield from _finished(paragraph)


def _named(line: str, names: set[str]) -> str | None:
    """The line as an item of a list, if it explains names. After a colon, only those of the object count."""
    found = _NAMED.match(line)
    if not found or (found["colon"].startswith(":") and not set(found["names"].split(", ")) <= names):
        return None
    return "- " + ", ".join(f"`{name}`" for name in found["names"].split(", ")) + f": {found['rest']}"


def _ended(paragraph: list[str]) -> bool:
    """Whether an item whose further lines are indented is over: the next line is not."""
    return len(paragraph) > 1 and bool(_LIST.match(paragraph[0]))


def _finished(paragraph: list[str]) -> Iterator[str]:
    if not paragraph:
        return
    text = " ".join(paragraph)
    mark = _LIST.match(text)
    if mark:
        yield mark[0] + inline(text[mark.end() :])
    else:
        yield inline(text)


def inline(text: str) -> str:
    """One paragraph: its code, stress and links marked, every other sign taken literally."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts += [_literal(text[end : found.start()]), _marked(found)]
        end = found.end()
    return "".join([*parts, _literal(text[end:])])


def _marked(found: re.Match[str]) -> str:
    if found["code"]:
        code = found["code"][1:-1]
        before, after = len(code) - len(code.lstrip()), len(code) - len(code.rstrip())
        mark = f"``{'␣' * before}{code.strip()}{'␣' * after if code.strip() else ''}``"
    elif found["stress"]:
        mark = f"*{_literal(found['stress'][1:-1])}*"
    elif found["paper"]:
        mark = f"`{found['paper']} <https://arxiv.org/abs/{found['number']}>`__"
    else:
        mark = f"`{found['address']} <{found['address']}>`__"
    return rf"\ {mark}\ "


def _literal(text: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", text)


def _names(thing: Any) -> set[str]:
    """Parameters of a function or method; fields and parameters of a class."""
    try:
        names = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        names = set()
    return names | set(getattr(thing, "__annotations__", {}))


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines), _names(thing)).splitlines()


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
