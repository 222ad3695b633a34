"""Every entry of ledger and glossary leads somewhere, and no public function is missing from the ledger."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER = (ROOT / "docs/ledger.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
WORDS = re.findall(r"^- \*\*(.+?)\*\*: [A-Z].*\. → `(\w+)`, `([\w.]+)`$", GLOSSARY, flags=re.MULTILINE)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
WHOLE = ("tinyphi.model", "tinyphi.generation")  # every public function and class of these has a row
# Every module of these, or something in it
BY_MODULE = ("tinyphi.tokenizer", "tinyphi.weights", "tinyphi.data", "tinyphi.train")
BY_NAME = ("tinyphi", "tinyphi.show", "tinyphi.tokenizer", "tinyphi.course")  # all that these offer


def rows(page):
    """The rows of the tables of a page, each a list of cells."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))]
        for line in lines
    ]


def names(cell):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


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


def modules(package):
    """The public modules of a package."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
    return [importlib.import_module(module.name) for module in found if "._" not in module.name]


def defined_in(module):
    """The public functions and classes that are written in a module."""
    return [
        thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    ]


def wanted():
    """Everything that must have a row: objects, and modules of which something must have one."""
    things = [thing for package in WHOLE for module in modules(package) for thing in defined_in(module)]
    for name in BY_NAME:
        package = importlib.import_module(name)
        offered = [getattr(package, public) for public in package.__all__]
        things += [thing for thing in offered if callable(thing) or inspect.ismodule(thing)]
    return [*dict.fromkeys(things), *(module for package in BY_MODULE for module in modules(package))]


def missing(page, things):
    """Those of `things` that have no row in the ledger `page`."""
    listed = [resolve(name) for row in rows(page) for name in names(row[2])]
    homes = {
        thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", "") for thing in listed
    }
    return [
        thing.__name__
        for thing in things
        if not (thing in listed or (inspect.ismodule(thing) and thing.__name__ in homes))
    ]


@pytest.mark.parametrize("row", rows(LEDGER), ids=lambda row: row[0])
def test_an_entry_of_the_ledger_resolves(row):
    _, source, code, test, notebook = row
    assert source and names(code) and names(test)
    for name in names(code):
        assert resolve(name) is not None
    for path in names(test):
        assert (ROOT / path).is_file(), path
    assert notebook == "–" or (ROOT / "notebooks" / f"{notebook.strip('`')}.ipynb").is_file(), notebook


def test_no_public_function_is_missing_from_the_ledger():
    assert missing(LEDGER, wanted()) == []


def test_a_planted_public_function_without_a_row_is_noticed(monkeypatch):
    from tinyphi.model import rope

    def turn_back(x):
        """Not in the ledger."""

    turn_back.__module__ = rope.__name__
    monkeypatch.setattr(rope, "turn_back", turn_back, raising=False)
    assert missing(LEDGER, wanted()) == ["turn_back"]


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("tinyphi.model.norm.RMSNorm", "RMSNorm"),
        ("tinyphi.generation.sampling.cut_min_p", "cut_min_p"),
        ("tinyphi.show.mask.mask_map", "mask_map"),
        ("tinyphi.weights.save.save", "save"),
        ("tinyphi.course.check.check", "check"),
    ],
)
def test_a_row_taken_out_of_the_ledger_is_noticed(gone, expected):
    page = "\n".join(line for line in LEDGER.splitlines() if f"`{gone}`" not in line)
    assert expected in missing(page, wanted())


def test_a_wrong_entry_would_be_noticed():
    with pytest.raises(AttributeError):
        resolve("tinyphi.model.norm.BatchNorm")
    with pytest.raises(ModuleNotFoundError):
        resolve("tinyfi.model")


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word[0])
def test_a_word_of_the_glossary_leads_to_a_notebook_and_to_code(word):
    _, notebook, code = word
    assert (ROOT / "notebooks" / f"{notebook}.ipynb").is_file(), notebook
    assert resolve(code) is not None


def test_the_glossary_is_whole_and_in_alphabetical_order():
    words = [re.sub(r"\W", " ", word).lower() for word, _, _ in WORDS]
    assert words == sorted(words)
    assert len(words) == GLOSSARY.count("\n- ") >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    made_by_the_build = ("api/", "notebooks/")  # which checks links to them itself
    missing = [
        link
        for link in links
        if not (page.parent / link).exists()
        and not (page.parent.name == "docs" and link.startswith(made_by_the_build))
    ]
    assert not missing


def test_the_course_page_lists_every_notebook():
    page = (ROOT / "docs/course.md").read_text(encoding="utf-8")
    listed = re.findall(r"^notebooks/(\w+)$", page, flags=re.MULTILINE)
    assert listed == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name in listed:
        row = re.search(
            rf"^\|.*\(\.\./notebooks/{name}\.ipynb\).*\| (\d+) \| (\S+) \|$", page, flags=re.MULTILINE
        )
        cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        first = "".join(cells[0]["source"])
        assert row and f"*{row[1]} minutes · difficulty {row[2]} ·" in first
