"""Writes `docs/api/`: one page for each room of the package, with every public module in it.

The modules stand in the order in which the room's docstring mentions them ("Read in this order: …").
Exercises are left out, because they hold the solutions.
"""

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
PACKAGE = DOCS.parent / "tinyphi"
ROOMS = {
    "model": "The architecture",
    "tokenizer": "Text to ids and back",
    "weights": "Files of weights",
    "generation": "From logits to text",
    "quant": "Fewer bits",
    "longcontext": "Long texts",
    "data": "What to learn from",
    "train": "Training",
    "safety": "What is refused",
    "evaluate": "Scores",
    "show": "Views",
    "course": "The course",
}
HIDDEN = ("tinyphi.course.exercises",)
OPTIONAL = {"tinyphi.data.datatrove_steps": "datatrove", "tinyphi.evaluate.lm_eval": "lm_eval"}


def modules() -> dict[str, list[str]]:
    """The public modules of each room, in reading order; "tinyphi" has those outside the rooms."""
    rooms: dict[str, list[str]] = {"tinyphi": []}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name in OPTIONAL and find_spec(OPTIONAL[name]) is None:
            continue  # it raises InputError; a build with the package has its page
        if not name.startswith(HIDDEN) and not any(part.startswith("_") for part in name.split(".")):
            rooms.setdefault(parts[1] if len(parts) > 2 else "tinyphi", []).append(name)
    return {room: _in_reading_order(room, names) for room, names in rooms.items()}


def _in_reading_order(room: str, names: list[str]) -> list[str]:
    folder = PACKAGE if room == "tinyphi" else PACKAGE / room
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    order = re.findall(r"`(\w+)`|\b(\w+)\.py", said)
    mentioned = [first or second for first, second in order]

    def place(name: str) -> tuple[int, str]:
        last = name.rsplit(".", 1)[-1]
        return (mentioned.index(last) if last in mentioned else len(mentioned)), name

    return sorted(names, key=lambda name: (name.count(".") > (0 if room == "tinyphi" else 1), place(name)))


def pages() -> dict[str, str]:
    """File name → text of every page."""
    found = modules()
    listed = [room for room in [*ROOMS, *sorted(found)] if room in found and room != "tinyphi"]
    listed = ["tinyphi", *dict.fromkeys(listed)]
    written = {"index.md": _index(listed)}
    for room in listed:
        name = "tinyphi" if room == "tinyphi" else f"tinyphi.{room}"
        parts = [f"# {_title(room)}: `{name}`"]
        for module in found[room]:
            names = getattr(import_module(module), "__all__", [])
            if module != name:
                parts.append(f"## `{module}`")
            options = "" if names else "   :members:\n   :show-inheritance:\n"
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n{options}```")
            if names:
                parts.append(_importable(module, names))
        written[f"{room}.md"] = "\n\n".join(parts) + "\n"
    return written


def _importable(module: str, names: list[str]) -> str:
    """The names that a package offers, each leading to where it is defined and described."""
    package = import_module(module)
    return f"Import from `{module}`: {', '.join(_link(package, name) for name in sorted(names))}."


def _link(package: Any, name: str) -> str:
    home = getattr(getattr(package, name), "__module__", None)  # a table has none
    return f"{{py:obj}}`{name} <{home}.{name}>`" if home else f"`{name}`"


def _title(room: str) -> str:
    return "The top level" if room == "tinyphi" else ROOMS.get(room, room.capitalize())


def _index(rooms: list[str]) -> str:
    return (
        "# Reference\n\nOne page for each room of the package. Modules are short, and meant to be read.\n\n"
        "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(rooms) + "\n```\n"
    )


def write(folder: Path, files: dict[str, str]) -> None:
    """Make `folder` hold exactly these files. Files that are right already keep their date."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", lambda app, config: write(DOCS / "api", pages()))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
