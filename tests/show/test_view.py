"""A view's faces, and that nbval compares its digest and not its pixels."""

import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from tinyphi.show import View, weight_map
from tinyphi.show.style import drawable, visible

SOURCE = """import torch
from tinyphi.show import show, weight_map
x = torch.arange(12.0).reshape(3, 4)
show(x, "x")
weight_map(x)"""
X = torch.arange(12.0).reshape(3, 4)


def bundle(view: View) -> dict[str, str]:
    return view._repr_mimebundle_()[0]


def test_faces() -> None:
    view = weight_map(X)
    assert repr(view) == str(view) == view.text == bundle(view)["text/plain"]
    assert isinstance(view.figure(), Figure)
    assert set(bundle(view)) == {"text/plain", "image/png"}
    assert view._repr_mimebundle_()[1]["image/png"]["alt"] == view.alt
    assert re.search(r'^<div class="tinyphi-place" role="group" aria-label="Heat map', view.html())
    still = View(view.text, view.alt, view.draw)
    assert re.search(r'^<img alt="Heat map[^"]+" src="data:image/png;base64,', still.html())


def test_without_anywidget_a_notebook_gets_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyphi.show.live.has_kernel", lambda: True)
    monkeypatch.setattr("tinyphi.show.view.find_spec", lambda name: None)
    assert set(bundle(weight_map(X))) == {"text/plain", "image/png"}


def test_a_view_is_kept_for_the_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tinyphi.show.live.has_kernel", lambda: True)
    monkeypatch.setenv("TINYPHI_KEEP_VIEWS", str(tmp_path / "views"))
    view = weight_map(X)
    bundle(view)
    (kept,) = (tmp_path / "views").iterdir()
    assert kept.suffix == ".html" and kept.read_text(encoding="utf-8") == view.html()


def test_markup_is_shown_instead_of_the_figure() -> None:
    view = View("digest", "alt", Figure, "<b>1</b>")
    assert bundle(view) == {"text/plain": "digest", "text/html": "<b>1</b>"}
    assert view.html() == "<b>1</b>"


def test_the_alternative_text_is_escaped() -> None:
    assert 'alt="a&lt;b&gt;&quot;c"' in View("", 'a<b>"c', lambda: weight_map(X).figure()).html()


def test_the_ground_is_opaque_and_white_even_in_a_dark_theme() -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.style.context("dark_background"):
        themed = weight_map(X).png()
    image = Image.open(BytesIO(themed))
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert themed == weight_map(X).png()
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_not_shown_a_second_time_by_pyplot() -> None:
    import matplotlib.pyplot as plt

    weight_map(X).figure()
    assert plt.get_fignums() == []


def test_visible() -> None:
    assert visible(" a\tb\r\n\x1b\u200b") == "·a⇥b␍↵<U+001B><U+200B>"


def test_drawable() -> None:
    assert drawable("$a$ 日") == r"\$a\$·<U+65E5>"
    assert drawable("a" * 30, longest=5) == "aaaa…"


def notebook(outputs: list[dict[str, Any]]) -> str:
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "id": "a", "source": SOURCE}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [{**cell, "outputs": outputs}]}
    )


def test_nbval_compares_the_digest_and_not_the_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tinyphi.show import show

    show(X, "x")
    line = capsys.readouterr().out
    data = bundle(weight_map(X))

    def outputs(text: str = data["text/plain"], picture: str = data["image/png"]) -> list[dict[str, Any]]:
        shown = {"text/plain": text, "image/png": picture}
        result = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": shown}
        return [{"output_type": "stream", "name": "stdout", "text": line}, result]

    other_text = data["text/plain"].replace("max 11.00", "max 11.01")
    assert other_text != data["text/plain"]
    (tmp_path / "same.ipynb").write_text(notebook(outputs()))
    (tmp_path / "other_pixels.ipynb").write_text(notebook(outputs(picture="iVBORw0KGgo=")))
    (tmp_path / "other_number.ipynb").write_text(notebook(outputs(text=other_text)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-rA", "--color=no", "."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    passed = set(re.findall(r"^PASSED .*?(\w+)\.ipynb", run.stdout, flags=re.MULTILINE))
    failed = set(re.findall(r"^FAILED .*?(\w+)\.ipynb", run.stdout, flags=re.MULTILINE))
    assert (passed, failed) == ({"same", "other_pixels"}, {"other_number"}), run.stdout + run.stderr
    assert "mismatch 'text/plain'" in run.stdout
