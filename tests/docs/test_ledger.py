"""Every entry of docs/ledger.md leads somewhere, and so does every relative link of the Markdown pages."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/ledger.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "`" in line
]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def resolve(path):
    """The object that a dotted path names: a module, or an attribute of one."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_an_entry_resolves(row):
    _, source, code, test, notebook = row
    assert source
    assert resolve(code.strip("`")) is not None
    assert (ROOT / test.strip("`")).is_file(), test
    assert notebook == "–" or (ROOT / "notebooks" / f"{notebook.strip('`')}.ipynb").is_file(), notebook


def test_a_wrong_entry_would_be_noticed():
    with pytest.raises(AttributeError):
        resolve("tinyphi.model.norm.LayerNorm")
    with pytest.raises(ModuleNotFoundError):
        resolve("tinyfi.model")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
