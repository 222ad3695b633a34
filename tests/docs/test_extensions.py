"""The small parts that make pages: docstrings, references, notebooks, formulas."""

import copy
import json
import re

import api_pages
import pytest
from api_pages import modules, write
from course_pages import as_page, framed
from docutils.core import publish_string
from plain_docstrings import restructured
from references import referred

from tinyphi.show.view import kept_name

DOCSTRING = """Keep it short: `x` and `y`s, *never* 2*3, name_ and a|b \\n.

    drawn  as it is
      stays_as_it_is

name: what it is,
    on two lines.
other, more: two at once. Not: this.
Raises InputError when wrong.

field   the digest: text
longer  a picture

- one, with `a b` and
  a second line
- two

1. *Words.* First.
2. Second.

Source: Su et al. 2021 (arXiv 2104.09864), sec. 3; https://example.org/a_b.
"""


def html(text, names=()):
    settings = {"report_level": 1, "halt_level": 2, "warning_stream": False, "output_encoding": "unicode"}
    return publish_string(restructured(text, set(names)), writer="html5", settings_overrides=settings)


def test_a_docstring_becomes_what_it_looks_like():
    page = html(DOCSTRING, ["name", "other", "more", "field", "longer"])
    page = re.sub(
        r"(</?(tt|code|span)\b[^>]*>)+", "`", page
    )  # which element marks code depends on the version
    assert "Keep it short: `x` and `y`s, <em>never</em> 2*3, name_ and a|b \\n." in page
    assert "drawn  as it is\n  stays_as_it_is" in page
    assert page.count("<li>") == 8  # four lines about names, two items, two numbers
    assert "<li><p>`name`: what it is, on two lines.</p>" in page
    assert "`other`, `more`: two at once. Not: this." in page
    assert "<ol" in page and "<em>Words.</em> First." in page
    assert "<p>Raises InputError when wrong.</p>" in page
    assert 'href="https://arxiv.org/abs/2104.09864"' in page
    assert 'href="https://example.org/a_b"' in page


def test_code_may_begin_with_a_space():
    assert "␣the" in html("The token ` the` and ` `.") and "␣<" in html("The token ` the` and ` `.")


def test_two_columns_are_a_list_whatever_their_names():
    assert html("one    what it is\n  and more\nother  this").count("<li>") == 2


def test_a_line_with_a_colon_is_prose_if_it_names_no_parameter():
    assert "<li>" not in html("What it does: this.\nNote: that.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see `tinyphi.model.norm`", "see {py:obj}`tinyphi.model.norm <tinyphi.model.norm>`"),
        (
            "| a | `tinyphi.model.norm.RMSNorm` |",
            "| a | {py:obj}`norm.RMSNorm <tinyphi.model.norm.RMSNorm>` |",
        ),
        ("`tinyphi/model/norm.py`", "{py:obj}`tinyphi/model/norm.py <tinyphi.model.norm>`"),
        ("`06_rope`, `99_none`", "[`06_rope`](notebooks/06_rope.ipynb), `99_none`"),
        ("arXiv 1706.03762", "[arXiv 1706.03762](https://arxiv.org/abs/1706.03762)"),
        ("```python\n`06_rope`\n```\n", "```python\n`06_rope`\n```\n"),
        ("`tinyphi lab` and [`06_rope`](x.md)", "`tinyphi lab` and [`06_rope`](x.md)"),
    ],
)
def test_references(text, expected):
    assert referred(text, {"06_rope"}, "notebooks/") == expected


def output(**data):
    return {"output_type": "display_data", "metadata": {}, "data": data}


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "source": ["# A\n", "[b](../docs/b.md) [c](../LICENSE)\n", "*25 minutes · x*"],
        },
        {
            "cell_type": "code",
            "source": [],
            "outputs": [
                output(**{"text/plain": ["a < b\n", "c"], "image/png": "iVBOR\nw0=\n"}),
                output(**{"text/plain": "two", "image/png": "iVBOR"}),
                output(**{"text/plain": "three"}),
                output(**{"text/plain": "four", "text/html": ["<b>", "4</b>"]}),
            ],
        },
    ]
}
NOTEBOOK["cells"][1]["outputs"][1]["metadata"] = {"image/png": {"alt": 'Two "quotes".'}}


def test_a_notebook_as_a_page(tmp_path):
    before = copy.deepcopy(NOTEBOOK)
    (tmp_path / f"{kept_name('two')}.html").write_text("<b>2</b>", encoding="utf-8")
    page, shown = as_page(NOTEBOOK, tmp_path)
    assert before == NOTEBOOK and shown == {kept_name("two")}
    assert page["cells"][0]["source"] == "# A\n[b](../b.md) [c](../../LICENSE)\n\n*25 minutes · x*"
    first, second, third, fourth = (one["data"] for one in page["cells"][1]["outputs"])
    assert 'src="data:image/png;base64,iVBORw0="' in first["text/html"]
    assert "<pre>a &lt; b\nc</pre>" in first["text/html"]  # the digest, folded
    assert f'src="../_static/views/{kept_name("two")}.html"' in second["text/html"]
    assert (
        'title="Two &quot;quotes&quot;."' in second["text/html"] and "<pre>two</pre>" in second["text/html"]
    )
    assert third == {"text/plain": "three"}
    assert fourth["text/html"] == '<div class="tinyphi-markup"><b>4</b></div>'


def test_a_frame_is_a_page_of_its_own():
    assert framed("<b>x</b>").startswith("<!doctype html>") and "<b>x</b>" in framed("<b>x</b>")


def test_generated_folders_hold_what_they_should(tmp_path):
    write(tmp_path / "api", {"a.md": "1", "b.md": "2"})
    kept = (tmp_path / "api/a.md").stat().st_mtime_ns
    write(tmp_path / "api", {"a.md": "1", "c.md": "3"})
    assert {path.name for path in (tmp_path / "api").iterdir()} == {"a.md", "c.md"}
    assert (tmp_path / "api/a.md").stat().st_mtime_ns == kept


def test_modules_stand_in_reading_order_and_exercises_are_hidden():
    model = [name.rsplit(".", 1)[-1] for name in modules()["model"]]
    assert model[:4] == ["model", "norm", "rope", "mask"]
    assert "exercises" not in json.dumps(modules())


def test_a_module_without_its_package_is_left_out(monkeypatch):
    assert "tinyphi.data.datatrove_steps" in modules()["data"]  # datatrove is in the test extra
    monkeypatch.setattr(api_pages, "find_spec", lambda name: None)
    assert "tinyphi.data.datatrove_steps" not in modules()["data"]
