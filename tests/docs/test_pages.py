"""The built pages are whole, load nothing from elsewhere, and show views that live, by day and by night."""

import re
from pathlib import Path

import pytest
from api_pages import modules
from gallery import VIEWS

from tinyphi import show
from tinyphi.course.exercise import all_exercises

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|audio|video|embed|object)\b[^>]*?\b(?:src|href|data|srcset)\s*="
    r"\s*[\"']?\s*(?:https?:)?//[^\"'\s>]+"
    r"|@import\s+(?:url\()?[\"']?(?:https?:)?//\S+"
    r"|\burl\(\s*[\"']?(?:https?:)?//[^)]+"
    r"|\b(?:fetch|import|importScripts)\(\s*[\"'`](?:https?:)?//[^\"'`]+"
    r"|\.src\s*=\s*[\"'`](?:https?:)?//[^\"'`]+"
    r"|[\"'/](?:cdn\.|fonts\.|unpkg\.com|[\w.]*jsdelivr\.net|cdnjs\.)[^\"'\s]*",
    re.IGNORECASE,
)


def elsewhere(text):
    """What a page, style or script would load from another machine. A link that one may click is no load."""
    return [found[0] for found in LOADED.finditer(text) if 'rel="canonical"' not in found[0]]


@pytest.mark.parametrize(
    "text",
    [
        '<script defer src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex.js"></script>',
        "<link rel=stylesheet href=//fonts.example.org/css?family=Lato>",
        '<img alt="x" src="http://example.org/a.png">',
        "@import url(https://example.org/a.css)",
        "background: url('//example.org/a.png')",
        'fetch("https://example.org/data.json")',
        'const base = "https://unpkg.com/lib"',
    ],
)
def test_a_planted_load_is_noticed(text):
    assert elsewhere(text)


def test_a_link_to_click_and_a_name_space_are_no_loads():
    assert (
        elsewhere('<a href="https://arxiv.org/abs/1706.03762">paper</a> xmlns="http://www.w3.org/2000/svg"')
        == []
    )


def test_nothing_is_loaded_from_elsewhere(built):
    files = [path for path in built.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"}]
    assert len(files) > 40
    found = {path.name: elsewhere(path.read_text(encoding="utf-8")) for path in files}
    assert {name: loads for name, loads in found.items() if loads} == {}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_has_a_page_with_its_outputs(built, name):
    text = (built / f"notebooks/{name}.html").read_text(encoding="utf-8")
    assert 'class="cell_output' in text
    assert "application/vnd.jupyter" not in text
    assert text.count("tinyphi-digest") >= text.count("tinyphi-figure")  # a picture has its digest below


def test_every_public_module_is_described(built):
    pages = "".join(path.read_text(encoding="utf-8") for path in (built / "api").glob("*.html"))
    missing = [name for names in modules().values() for name in names if f'id="module-{name}"' not in pages]
    assert missing == []
    assert 'id="tinyphi.model.rope.rotate"' in pages and 'href="https://arxiv.org/abs/2104.09864"' in pages


def test_no_page_tells_a_solution(built):
    pages = {path.name: path.read_text(encoding="utf-8") for path in built.rglob("*.html")}
    assert not [name for name, text in pages.items() if "tinyphi.course.exercises." in text]
    assert all_exercises()


def test_a_view_that_a_test_run_kept_stands_in_for_the_picture(built):
    text = (built / "notebooks/03_rmsnorm.html").read_text(encoding="utf-8")
    (name,) = re.findall(r'<iframe class="tinyphi-frame" src="\.\./_static/views/(\w{16})\.html"', text)
    assert "kept by a test run" in (built / f"_static/views/{name}.html").read_text(encoding="utf-8")
    assert 'loading="lazy"' in text and 'title="' in text


def test_formulas_are_drawn_by_the_browser(built):
    assert "<math" in (built / "notebooks/03_rmsnorm.html").read_text(encoding="utf-8")


def test_the_gallery_shows_every_view_once(built):
    views = {name for name in show.__all__ if name not in {"View", "show"}}
    assert set(VIEWS) == views
    text = (built / "views.html").read_text(encoding="utf-8")
    frames = re.findall(r'src="_static/views/(\w{16})\.html"', text)
    assert len(frames) == len(set(frames)) == len(views)
    assert all((built / f"_static/views/{name}.html").stat().st_size < 3_000_000 for name in frames)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_in_a_browser(built, page, scheme):
    """The fixture `page` fails on errors in the console and on requests that leave the machine."""
    page.emulate_media(color_scheme=scheme)
    for name in ("index", "course", "ledger", "glossary", "api/model", "notebooks/03_rmsnorm", "views"):
        page.goto((built / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        ground, ink = (luminance(page, name) for name in ("background-color", "color"))
        assert (ground > 0.8 and ink < 0.2) if scheme == "light" else (ground < 0.1 and ink > 0.5)


def luminance(page, name):
    """How bright the page's ground or letters are, from 0 to 1."""
    found = page.evaluate(f"() => getComputedStyle(document.body).getPropertyValue('{name}')")
    return sum(map(float, re.findall(r"[\d.]+", found)[:3])) / 765


@pytest.mark.browser
def test_views_live_in_the_pages(built, page):
    page.goto((built / "views.html").as_uri())
    for number in range(len(VIEWS)):
        frame = page.locator("iframe.tinyphi-frame").nth(number)
        frame.scroll_into_view_if_needed()
        inside = frame.content_frame.locator(".tinyphi-view")
        inside.first.wait_for()
        page.wait_for_function(
            "(frame) => Math.abs(frame.getBoundingClientRect().height - 480) > 1", arg=frame.element_handle()
        )  # the frame has taken the height of its view
        inner, outer = inside.first.bounding_box(), frame.bounding_box()
        assert inner["height"] <= outer["height"] <= inner["height"] + 40
        assert inner["width"] <= outer["width"]


@pytest.mark.browser
def test_a_kept_view_has_its_own_height(built, page):
    page.goto((built / "notebooks/03_rmsnorm.html").as_uri())
    frame = page.locator("iframe.tinyphi-frame")
    frame.scroll_into_view_if_needed()
    frame.content_frame.locator("#kept").wait_for()
    page.wait_for_function(
        "(frame) => frame.getBoundingClientRect().height > 700", arg=frame.element_handle()
    )


@pytest.mark.browser
def test_a_view_in_a_page_answers_to_the_mouse(built, page):
    page.goto((built / "views.html").as_uri())
    places = list(VIEWS)

    tokens = page.locator("iframe.tinyphi-frame").nth(places.index("tokens"))
    tokens.scroll_into_view_if_needed()
    readout = tokens.content_frame.get_by_test_id("readout")
    before = readout.text_content()
    tokens.content_frame.get_by_test_id("token").nth(2).hover()
    assert readout.text_content() != before

    rope = page.locator("iframe.tinyphi-frame").nth(places.index("rope_pairs"))
    rope.scroll_into_view_if_needed()
    total = rope.content_frame.get_by_test_id("sum")
    before = total.text_content()
    rope.content_frame.get_by_test_id("query").fill("40")
    assert total.text_content() != before
