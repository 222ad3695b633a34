"""Long texts that are at hand everywhere: Python's standard library, its manual, and books of your own."""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from tinyphi.errors import InputError


def library_source(name: str, docstrings: bool = False) -> str:
    """The source of a module or package of Python's standard library as one text, such as "argparse".

    Of a package, such as "email", come all modules in alphabetical order, without those of its subpackages.
    docstrings: only the prose that stands between the code. Nothing is imported but the packages above the
    module. Raises InputError for a module that is not there, or not written in Python.
    """
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise InputError(f"There is no Python source for {name!r} here; try 'argparse', 'typing' or 'email'.")
    path = Path(found.origin)
    files = sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return "\n\n".join("\n\n".join(_docstrings(text)) if docstrings else text for text in texts)


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def python_manual() -> str:
    """The topics of Python's `help()`, most of its language reference: about 100,000 tokens of prose.

    Raises InputError where Python was installed without them.
    """
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise InputError(
            "This Python came without pydoc_data. Use library_source('argparse', docstrings=True) or a book."
        ) from error
    return "\n\n".join(text.strip() for _, text in sorted(topics.items()))


def book(path: str | Path) -> str:
    """The text of a UTF-8 file, such as a book from Project Gutenberg, whose licence around it is cut off.

    Raises InputError for a file that cannot be read as text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error
    start, end = (text.find(f"*** {word} OF TH") for word in ("START", "END"))
    begin = text.find("\n", start, end) if 0 <= start < end else -1
    if begin >= 0:
        text = text[begin:end]
    return text.strip()


def passages(ids: Sequence[int], tokens: int, most: int) -> list[list[int]]:
    """Up to `most` passages of exactly `tokens` tokens, spread evenly over a text, none overlapping.

    Raises InputError for a text that is shorter than one passage.
    """
    if tokens < 1 or most < 1:
        raise InputError(f"tokens={tokens!r} and most={most!r}: both are whole numbers of at least 1.")
    count = min(most, len(ids) // tokens)
    if count == 0:
        raise InputError(
            f"The text has {len(ids)} tokens, and a passage should have {tokens}: use a longer one."
        )
    gap = (len(ids) - count * tokens) // count
    return [list(ids[start : start + tokens]) for start in range(0, count * (tokens + gap), tokens + gap)]
