"""What every view owes: the same digest twice and in spite of rounding noise, small and opaque faces."""

import re
import warnings
from collections.abc import Callable
from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import Tensor

from tinyphi.show import View

STRANGE = (
    " the", "\n", "$x$", "<b>&'\"", "日本", "\u05e9\u05dc", "🙂", "\x00", "a" * 60, "", "\\", "é\u0301",
    "</script>",
)  # fmt: skip


@pytest.fixture
def strange() -> Callable[[int], str]:
    """The text of a token id: each is one that HTML, matplotlib or a column of text could stumble over."""
    return lambda number: STRANGE[number % len(STRANGE)]


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], View]], View]:
    """Checks the view that a function makes from `torch.randn` and `softmax`, and returns it."""

    def check(make: Callable[[], View]) -> View:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a missing glyph, say
            view, again = make(), make()
            image = Image.open(BytesIO(view.png()))
        assert view.text == again.text and view.html() == again.html()
        assert sum(len(data) for data in view._repr_mimebundle_()[0].values()) < 45_000  # in a notebook
        assert len(view.text) < 9_000 and len(view.html()) < 3_000_000
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
        assert image.width <= 1000 and image.height <= 1300
        assert view.alt and not re.search(r"-0\.0+\b", view.text)
        assert "<b>&'" not in view.html()  # text from tokens is escaped
        assert not re.search(r"""(src|href)=["']https?:|@import|url\(""", view.html())
        randn, softmax = torch.randn, Tensor.softmax
        with monkeypatch.context() as patch:  # another processor sums in another order
            patch.setattr(torch, "randn", lambda *sizes, **more: randn(*sizes, **more) * (1 + 1e-7))
            patch.setattr(Tensor, "softmax", lambda *given, **more: softmax(*given, **more) * (1 + 1e-7))
            assert make().text == view.text
        return view

    return check
