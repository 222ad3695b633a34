"""Documents from files of any size, one after the other: .txt and .jsonl, and either with .gz behind it.

A line of a .jsonl file is an object with a "text". A .txt file is cut before every line that begins with
"# ", the title of an article or chapter, and wherever a document would grow beyond 20,000 bytes. Only the
document at hand is in memory, and reading can go on at the position where an earlier reader stopped.
"""

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tinyphi.errors import InputError

_LONGEST = 20_000  # bytes of a document from a .txt file
_KINDS = (".txt", ".jsonl")


class Document(NamedTuple):
    """A text, its file, and where it begins and ends there, in bytes (of the unpacked file)."""

    text: str
    file: str
    start: int
    end: int


def documents(path: str | Path, start: int = 0) -> Iterator[Document]:
    """The documents of a file. start: where to begin, a document's `end` (a packed file is read up to there).

    Raises InputError for a file of another kind, one that cannot be read, or a damaged line.
    """
    kind = _kind(Path(path))
    try:
        with _opened(Path(path)) as file:
            file.seek(start)
            yield from (_lines if kind == ".jsonl" else _articles)(file, str(path), start)
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def text_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files, and in place of a folder all .txt and .jsonl files (and .gz) in it and below, by name.

    Raises InputError for a path that does not exist, and if there is no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist; name files or folders of .txt or .jsonl files.")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inside if path == file or _is_text(file)]
    if not found:
        raise InputError(f"No .txt or .jsonl file in {', '.join(map(str, paths))}.")
    return found


def _is_text(path: Path) -> bool:
    return path.is_file() and Path(path.name.removesuffix(".gz")).suffix in _KINDS


def _kind(path: Path) -> str:
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in _KINDS:
        raise InputError(
            f"{path}: documents are read from .txt and .jsonl files, and from .gz files of these."
        )
    return kind


def _opened(path: Path) -> io.BufferedIOBase | BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines(file: io.BufferedIOBase | BinaryIO, path: str, start: int) -> Iterator[Document]:
    for line in file:
        end = start + len(line)
        if line.strip():
            try:
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError(f"the text is of type {type(text).__name__}")
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f'{path}, at byte {start}: each line must be a JSON object with a "text"; mend or remove '
                    f"it. ({error!r})"
                ) from error
            yield Document(text, path, start, end)
        start = end


def _articles(file: io.BufferedIOBase | BinaryIO, path: str, start: int) -> Iterator[Document]:
    parts: list[bytes] = []
    end = start
    while True:
        line = _limited_line(file)
        new = not line or line.startswith(b"# ") or end + len(line) - start > _LONGEST
        if new and parts:
            text = b"".join(parts).decode("utf-8", "replace").strip()
            if text:
                yield Document(text, path, start, end)
            parts, start = [], end
        if not line:
            return
        parts.append(line)
        end += len(line)


def _limited_line(file: io.BufferedIOBase | BinaryIO) -> bytes:
    """A line, or of a longer one as many whole characters as a document may have."""
    line = file.readline(_LONGEST - 3)
    while len(line) >= _LONGEST - 3 and not line.endswith(b"\n"):
        after = file.read(1)
        if not after or after[0] & 0xC0 != 0x80:
            file.seek(-len(after), io.SEEK_CUR)
            break
        line += after
    return line
