"""Tables of a benchmark, with the command that makes them, in a Markdown file between two markers."""

from pathlib import Path

from tinyphi.errors import InputError
from tinyphi.files import write_text


def section(command: str, lines: str) -> str:
    """A benchmark as it stands in a document, below the command that made it."""
    return f"```sh\n{command}\n```\n\n{lines.strip()}\n"


def paste(text: str, name: str, content: str) -> str:
    """The document with `content` between the markers of that name, which are added at its end if missing.

    Raises InputError if there is one without the other.
    """
    begin, end = f"<!-- tinyphi bench {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{content}{end}"
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n{block}\n".lstrip()
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"The document needs both markers, first {begin} and then {end}, or none.")
    return f"{before}{block}{after}"


def write(path: Path, name: str, content: str) -> None:
    """Paste into a file, or make it. Raises InputError if it cannot be read or written."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, paste(text, name, content))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be written: {error}.") from error
