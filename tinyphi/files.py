"""Files that are whole or as they were before, whenever the program is stopped."""

import os
from pathlib import Path
from uuid import uuid4


def write_text(path: Path, text: str) -> None:
    """Write a file under another name beside it, then give it its own. Raises OSError as `open` does."""
    scratch = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def noted(path: Path, text: str) -> bool:
    """Whether the note of what a folder is for says this; it is written where there is none yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path.read_text(encoding="utf-8") == text
