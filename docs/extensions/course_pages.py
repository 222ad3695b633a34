"""Brings the notebooks into the pages, with their views.

Each notebook is copied to `docs/notebooks/`. In the copy, every output that is a view becomes one block: the
interactive view if its HTML was kept by a test run (`docs/_build/views/<sha256 of the digest>.html`), or else
the stored picture; and below it, folded, the digest.
"""

import copy
import html
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from api_pages import DOCS, write
from references import referred

from tinyphi.show.view import kept_name

NOTEBOOKS = DOCS.parent / "notebooks"
IFRAME = (
    '<iframe class="tinyphi-frame" src="{src}" title="{title}" loading="lazy" '
    'style="height:{height}px"></iframe>'
)
_FIRST_GUESS = 480  # pixels, until the view says how high it is
_TOLD = """<script>
const tell = () => parent.postMessage({ tinyphiHeight: document.body.offsetHeight }, "*");
addEventListener("message", (event) => { if (event.data === "tinyphi: how high?") tell(); });
new ResizeObserver(tell).observe(document.body);
</script>"""


def kept_views() -> Path:
    """Where test runs keep the HTML of the views that they displayed."""
    return Path(os.environ.get("TINYPHI_KEEP_VIEWS") or DOCS / "_build" / "views")


def framed(view: str) -> str:
    """A view's HTML as a page of its own, which tells the page around it how high it is."""
    return (
        '<!doctype html><html><head><meta charset="utf-8"><title>view</title></head>'
        f'<body style="margin:0;padding:1px;background:white;color:#222">{view}{_TOLD}</body></html>'
    )


def iframe(name: str, alt: str, up: str) -> str:
    """The element that shows the kept view `name`; `up` leads from the page to the root."""
    title = html.escape(alt, quote=True).replace("\n", " ")
    return IFRAME.format(src=f"{up}_static/views/{name}.html", title=title, height=_FIRST_GUESS)


def folded(digest: str) -> str:
    """The digest, for those who read rather than look."""
    text = html.escape(digest)
    return f"<details class='tinyphi-digest'><summary>As text</summary><pre>{text}</pre></details>"


def as_page(
    notebook: dict[str, Any], views: Path, notebooks: Collection[str] = ()
) -> tuple[dict[str, Any], set[str]]:
    """A copy of the notebook with links and views, and the names of the kept views that it shows."""
    notebook, shown = copy.deepcopy(notebook), set()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = referred(_prose("".join(cell["source"])), notebooks, "")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            digest = "".join(data.get("text/plain", ""))
            kept = (views / f"{kept_name(digest)}.html").is_file()
            if kept or "image/png" in data:
                output["data"] = {"text/html": _face(output, digest, kept) + folded(digest)}
                shown |= {kept_name(digest)} if kept else set()
            elif "text/html" in data:
                markup = "".join(data["text/html"])
                output["data"] = {"text/html": f'<div class="tinyphi-markup">{markup}</div>'}
    return notebook, shown


def _face(output: dict[str, Any], digest: str, kept: bool) -> str:
    alt = output.get("metadata", {}).get("image/png", {}).get("alt") or digest.split("\n")[0]
    if kept:
        return iframe(kept_name(digest), alt, "../")
    picture = "".join("".join(output["data"]["image/png"]).split())
    return f'<img class="tinyphi-figure" alt="{html.escape(alt)}" src="data:image/png;base64,{picture}">'


def _prose(text: str) -> str:
    """Links out of `notebooks/` as seen from `docs/notebooks/`; the line of costs as a line of its own."""
    text = re.sub(r"\]\(\.\./(docs/)?", lambda found: "](../" if found[1] else "](../../", text)
    return re.sub(r"\n(?=\*\d+ minutes\b)", "\n\n", text)


def _bring_notebooks(app: Any, config: Any) -> None:
    found = sorted(NOTEBOOKS.glob("*.ipynb"))
    app.notebooks, app.views = {path.stem for path in found}, set()
    files = {}
    for path in found:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        page, shown = as_page(notebook, kept_views(), app.notebooks)
        files[path.name] = json.dumps(page, ensure_ascii=False, indent=1)
        app.views |= shown
    write(DOCS / "notebooks", files)


def _bring_views(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_static" / "views"
        folder.mkdir(parents=True, exist_ok=True)
        for name in app.views:
            view = (kept_views() / f"{name}.html").read_text(encoding="utf-8")
            (folder / f"{name}.html").write_text(framed(view), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", _bring_notebooks)
    app.connect("build-finished", _bring_views)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
