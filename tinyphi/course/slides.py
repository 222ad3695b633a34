"""Notebooks as reveal.js slides that need no network.

nbconvert's own slide template takes reveal.js, jQuery, require.js and MathJax from other machines. Here
reveal.js lies beside the slides (copied from the Python package `sphinx-revealjs`, or from a folder that you
name), the two libraries that drive it are not needed, and formulas become MathML, which browsers draw
themselves.
"""

import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinyphi.errors import InputError

NEEDED = ["dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "plugin/notes/notes.js"]

# Blocks of nbconvert's template `reveal` that would load something from elsewhere, replaced.
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
:root { --jp-content-font-size1: 24px; --jp-code-font-size: 16px; --jp-cell-prompt-width: 0; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
.reveal .slides h1, .reveal .slides h2, .reveal .slides h3 { text-transform: none; }
.reveal .slides section { text-align: left; max-height: 100%; overflow-y: auto; }
.reveal .slides > section:has(> section) { overflow: visible; }
.reveal .slides img { max-height: 60vh; }
</style>
{%- endblock -%}
{%- block footer_js -%}
<script src="reveal.js/dist/reveal.js"></script>
<script src="reveal.js/plugin/notes/notes.js"></script>
<script>
Reveal.initialize({controls: true, progress: true, hash: true, width: 1280, height: 800, center: false,
                   slideNumber: "c/t", transition: "none", plugins: [RevealNotes]});
</script>
{%- endblock -%}
"""

_FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$\n]+?)\$(?![\w$])", re.DOTALL)
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def find_reveal(folder: Path | None) -> Path:
    """The folder of a built reveal.js: the one that was named, or that of the package `sphinx-revealjs`.

    Raises `InputError` if there is none, or if files are missing in it.
    """
    if folder is None:
        package = find_spec("sphinx_revealjs")
        if package is None or package.origin is None:
            raise InputError(
                'reveal.js is not here: pip install "tinyphi[teach]" brings it, or name a folder of your own '
                "with --reveal DIR (what `npm pack reveal.js` downloads, unpacked)."
            )
        folder = Path(package.origin).parent / "_static" / "revealjs"
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} is not a built reveal.js: {', '.join(missing)} is missing there.")
    return folder


def copy_reveal(folder: Path, target: Path) -> None:
    """Copy the parts of reveal.js that the slides use to `target`/reveal.js."""
    for part in ("dist", "plugin/notes"):
        shutil.copytree(folder / part, target / "reveal.js" / part)
    for licence in folder.glob("LICENSE*"):
        shutil.copy(licence, target / "reveal.js")


def to_html(notebook: Any, title: str) -> str:
    """The slides of a notebook as one HTML page, to lie beside the folder reveal.js.

    A heading begins a slide; below it, each text begins a subslide and shares it with the code cell behind
    it, unless the text is the title's, the code has a picture, which needs the room, or it answers a
    prediction, which must wait.
    """
    try:
        from nbconvert.exporters import SlidesExporter
    except ImportError as error:
        raise InputError('Slides need nbconvert: pip install "tinyphi[teach]" brings it.') from error
    notebook = _in_slides(notebook)
    notebook.metadata["title"] = title
    page, _ = SlidesExporter(
        raw_template=TEMPLATE, reveal_url_prefix="reveal.js", reveal_theme="white"
    ).from_notebook_node(notebook)
    return str(page)


def _in_slides(notebook: Any) -> Any:
    """A copy of the notebook with slide types, texts split at their headings, and formulas in MathML."""
    from nbformat.v4 import new_markdown_cell

    slides, before = deepcopy(notebook), None
    slides.metadata.pop("widgets", None)
    cells, slides.cells = slides.cells, []
    for cell in cells:
        parts = [cell]
        if cell.cell_type == "markdown":
            parts = [new_markdown_cell(_with_mathml(text)) for text in _sections(cell.source)]
        for part in parts:
            kind = _slide_type(part, before)
            part.metadata["slideshow"] = {"slide_type": kind}
            for output in part.get("outputs", []):
                _hold_still(output)
            slides.cells.append(part)
            before = part
    return slides


def _slide_type(cell: Any, before: Any | None) -> str:
    if before is None or (cell.cell_type == "markdown" and re.match(r"##? ", cell.source)):
        return "slide"
    shares = (
        cell.cell_type == "code"
        and before.cell_type == "markdown"
        and not before.source.startswith("# ")
        and "**Predict" not in before.source
        and not any("image/png" in output.get("data", {}) for output in cell.outputs)
    )
    return "-" if shares else "subslide"


def _sections(text: str) -> Iterator[str]:
    """The text cut before each line that is a heading; lines of code blocks are none."""
    lines: list[str] = []
    in_code = False
    for line in text.split("\n"):
        in_code ^= line.lstrip().startswith("```")
        if re.match(r"#{1,2} ", line) and not in_code and "".join(lines).strip():
            yield "\n".join(lines).strip()
            lines = []
        lines.append(line)
    yield "\n".join(lines).strip()


def _hold_still(output: Any) -> None:
    """Take away the live face of a view, which would need a kernel."""
    for kind in [kind for kind in output.get("data", {}) if "widget" in kind]:
        del output.data[kind]


def _with_mathml(text: str) -> str:
    """The text with its formulas, outside of code, as MathML."""
    try:
        from latex2mathml.converter import convert
    except ImportError as error:
        raise InputError('Formulas need latex2mathml: pip install "tinyphi[teach]" brings it.') from error

    def formula(found: re.Match[str]) -> str:
        block = found["block"] is not None
        markup: str = convert(found["block" if block else "inline"], display="block" if block else "inline")
        return markup.replace("\n", " ")

    pieces = _CODE.split(text)  # code stands at the odd places
    return "".join(
        piece if number % 2 else _FORMULA.sub(formula, piece) for number, piece in enumerate(pieces)
    )
