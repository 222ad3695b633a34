"""Reading and writing tokenizer files, so that every damage becomes one clear `TokenizerError`.

Everything read here came from somewhere else and may be truncated, mistyped or hostile: sizes are limited
before reading, and no value is used before its type was looked at.
"""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tinyphi.errors import TokenizerError

LARGEST_FILE = 128 * 2**20  # bytes; the largest published tokenizer.json files have about 35 MB
LARGEST_ID = 2**22  # four million; the largest published vocabularies have about 260 thousand tokens
FETCH_AGAIN = "Fetch the tokenizer's files again."

Kind = TypeVar("Kind")


def read_bytes(path: Path) -> bytes:
    """The content of a file of at most `LARGEST_FILE` bytes; raises TokenizerError."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise TokenizerError(
                f"{path} has {size:,} bytes; a tokenizer file has at most {LARGEST_FILE:,}. Is it really "
                "the tokenizer? Fetch it again."
            )
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}). {FETCH_AGAIN}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises TokenizerError if it is anything else."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(
            f"{path} is not valid JSON ({error}); it may be truncated. {FETCH_AGAIN}"
        ) from error
    if not isinstance(content, dict):
        raise TokenizerError(
            f"{path} should hold a JSON object, not a {type(content).__name__}. {FETCH_AGAIN}"
        )
    return content


def field(mapping: Mapping[str, Any], key: str, kind: type[Kind], where: str) -> Kind:
    """`mapping[key]`, which must be a `kind`; raises TokenizerError naming `where` (a file) and the key."""
    if key not in mapping:
        raise TokenizerError(f"{where} has no {key!r}, which tinyphi needs. {FETCH_AGAIN}")
    return checked(mapping[key], kind, f"{where}: {key!r}")


def checked(value: object, kind: type[Kind], where: str) -> Kind:
    """`value` if it is a `kind` (a bool is not an int); raises TokenizerError naming `where`."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TokenizerError(
            f"{where} should be a {kind.__name__}, not a {type(value).__name__}. {FETCH_AGAIN}"
        )
    return value


def checked_id(value: object, where: str) -> int:
    """`value` if it can be a token id; raises TokenizerError naming `where`."""
    number = checked(value, int, where)
    if not 0 <= number < LARGEST_ID:
        raise TokenizerError(f"{where} is {number}; ids are between 0 and {LARGEST_ID - 1}. {FETCH_AGAIN}")
    return number


def checked_vocabulary(vocabulary: Mapping[str, Any], where: str) -> dict[str, int]:
    """A mapping token → id in which no id occurs twice; raises TokenizerError naming `where`."""
    seen: dict[int, str] = {}
    for token, value in vocabulary.items():
        number = checked_id(value, f"{where}: the id of {token!r}")
        if number in seen:
            raise TokenizerError(
                f"{where} gives id {number} to both {seen[number]!r} and {token!r}. {FETCH_AGAIN}"
            )
        seen[number] = token
    return {token: number for number, token in seen.items()}


def merge_pairs(merges: Iterable[object], where: str) -> list[tuple[str, str]]:
    """Merges as pairs; files spell them "left right" or ["left", "right"]. Raises TokenizerError."""
    pairs = []
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not (
            isinstance(parts, list | tuple)
            and len(parts) == 2
            and all(isinstance(p, str) and p for p in parts)
        ):
            raise TokenizerError(f"{where}: merge {number} is {merge!r}, not two tokens. {FETCH_AGAIN}")
        pairs.append((parts[0], parts[1]))
    return pairs


def write_files(directory: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Writes each file under a temporary name and renames it, so that no reader ever sees half a file."""
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            temporary = folder / f".{name}.{secrets.token_hex(8)}"
            try:
                temporary.write_bytes(content)
                os.replace(temporary, folder / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TokenizerError(
            f"The tokenizer cannot be saved in {folder} ({error.strerror}). Choose a directory you can "
            "write to."
        ) from error


def json_bytes(content: object) -> bytes:
    """JSON as UTF-8, indented, so that a person can read it."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8")
