"""The engine under all views: a script runs in a page and in JupyterLab, hears Python, and harms nobody."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tinyphi.show import View, attention_head, probabilities, tokens
from tinyphi.show.live import Live, pack, page, source
from tinyphi.tokenizer import Piece

WEIGHTS = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
IN_A_CELL = """import torch
from tinyphi.show import attention_head
attention_head(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]), ["a", " b", "c"])"""


def test_a_page_shows_the_live_face(static: Callable[[View], Any]) -> None:
    opened = static(attention_head(WEIGHTS, ["a", " b", "c"]))
    assert opened.locator(".tinyphi-view canvas").count() >= 1


def test_jupyterlab_shows_the_live_face(lab: Callable[[str], Any]) -> None:
    opened = lab(IN_A_CELL)
    opened.wait_for_selector(".tinyphi-view canvas")
    ground = opened.evaluate("getComputedStyle(document.querySelector('.tinyphi-view')).backgroundColor")
    assert ground == "rgb(255, 255, 255)"


def test_packed_numbers_arrive_as_they_were(page: Any) -> None:
    values = torch.tensor([[0.0, -1.5, 65504.0], [1e-7, torch.inf, -0.333]])
    for dtype in ("float32", "float16"):
        packed = pack(values, dtype)
        reading = "const {shape, values} = unpack(packed); return [shape, [...values].map(String)];"
        got = page.evaluate(f"(packed) => {{ {source('attention_head')}; {reading} }}", packed)
        assert got[0] == [2, 3]
        exact = values.to(getattr(torch, dtype)).flatten().double().tolist()
        assert [float(text.replace("Infinity", "inf")) for text in got[1]] == pytest.approx(exact, rel=1e-7)


def test_text_cannot_break_out_of_the_page() -> None:
    written = page(Live("attention_head", {"labels": ["</script><b>", "<!--"]}), 'a "quoted" <alt>')
    assert len(re.findall("</script", written)) == 1 and "<b>" not in written and "<!--" not in written


def test_views_of_one_page_do_not_dress_each_other(static: Callable[[Any], Any]) -> None:
    chosen = probabilities(torch.tensor([0.75, 0.25]), "ab".__getitem__)
    strip = tokens([Piece(1, "a", b"a", 0, 1, "normal")])
    heights = []
    for views in ([chosen], [strip, chosen], [chosen, strip]):
        opened = static(SimpleNamespace(html=lambda views=views: "".join(view.html() for view in views)))
        readout = opened.locator(".tinyphi-probabilities .readout")
        heights.append(readout.evaluate("(box) => getComputedStyle(box).minHeight"))
    assert len(set(heights)) == 1


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_ground_is_white_in_both_themes(static: Callable[[View], Any], page: Any, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    opened = static(attention_head(WEIGHTS, ["a", "b", "c"]))
    look = "getComputedStyle(document.querySelector('.tinyphi-view'))"
    assert opened.evaluate(f"{look}.backgroundColor") == "rgb(255, 255, 255)"
    assert opened.evaluate(f"{look}.color") == "rgb(34, 34, 34)"
