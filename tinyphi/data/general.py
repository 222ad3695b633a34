"""General text for a first phase of training: books and stories from a folder, in passages that are easy.

A model of a few million weights has no room for rare words. Like Phi-3's makers (arXiv 2404.14219, sec. 2),
who leave out of the web what a small model need not know, this keeps the passages with the commonest words.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tinyphi.errors import InputError
from tinyphi.longcontext.texts import book, library_source, python_manual

_LIBRARY = ("argparse", "typing", "datetime", "random", "statistics", "textwrap", "email", "json", "logging")
_PASSAGE = 700  # characters, about 200 tokens of a small vocabulary
_COMMON = 3000  # words that count as common


def general_passages(folder: str | Path | None) -> list[str]:
    """Passages of up to 700 characters or so, from all .txt and .jsonl files in a folder and below, by name.

    A line of a .jsonl file is an object with a "text"; of a .txt file Project Gutenberg's licence is left
    out. folder: None takes what every Python has, its manual and the docstrings of its library.
    Raises InputError for a folder without text, or a damaged file.
    """
    if folder is None:
        sources = [python_manual(), *(library_source(name, docstrings=True) for name in _LIBRARY)]
        return [passage for source in sources for passage in cut(source)]
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".txt", ".jsonl"))
    passages = [passage for file in files for text in _read(file) for passage in cut(text)]
    if not passages:
        raise InputError(f"{folder} holds no .txt or .jsonl file with text to learn from; put some there.")
    return passages


def easiest(passages: Iterable[str], share: float = 0.5) -> list[str]:
    """That share of the passages with the fewest rare words among theirs, in their order; more if some tie.

    Rare is a word that is not among the 3,000 most frequent ones of all passages together. share: above 0 and
    at most 1, else raises InputError.
    """
    if not 0 < share <= 1:
        raise InputError(f"share={share}: it is a part of all, above 0 and at most 1.")
    everything = list(passages)
    if not everything:
        return []
    words = [re.findall(r"[a-z']+", passage.lower()) for passage in everything]
    frequent = Counter(word for passage in words for word in passage).most_common(_COMMON)
    common = {word for word, _ in frequent}
    rarity = [sum(word not in common for word in passage) / (len(passage) or 1) for passage in words]
    limit = sorted(rarity)[max(1, round(share * len(everything))) - 1]
    return [passage for passage, rare in zip(everything, rarity, strict=True) if rare <= limit]


def cut(text: str) -> list[str]:
    """Whole paragraphs, put together until a passage is full; a longer paragraph stays whole.

    Whitespace within a paragraph becomes one space. What has no small letter from a to z, such as headings,
    rules and numbers, is left out; so is text in other scripts.
    """
    passages: list[str] = []
    current = ""
    for paragraph in re.split(r"\n\s*\n", text):
        tidy = " ".join(paragraph.split())
        if not re.search(r"[a-z]", tidy):
            continue
        if current and len(current) + len(tidy) > _PASSAGE:
            passages.append(current)
            current = ""
        current = f"{current}\n\n{tidy}" if current else tidy
    return [*passages, current] if current else passages


def _read(file: Path) -> Iterator[str]:
    """The texts of a file."""
    if file.suffix == ".txt":
        yield book(file)
        return
    where = str(file)
    try:
        with file.open(encoding="utf-8") as lines:  # str.splitlines would also cut at U+2028
            for number, line in enumerate(lines, start=1):
                where = f"{file}, line {number}"
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError(f"the text is of type {type(text).__name__}")
                yield text
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{where}: each line must be a JSON object with a "text"; mend or remove it. ({error!r})'
        ) from error
