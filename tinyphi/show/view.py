"""View: one thing to look at, with several faces."""

import base64
import html
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tinyphi.show.style import house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class View:
    """One picture of one thing.

    text    the digest: plain text at a fixed precision. It is what a notebook test compares.
    alt     one sentence that says what the picture shows, for readers who cannot see it.
    draw    makes the matplotlib figure; called inside the house style.
    markup  HTML by hand, for views that are better read than drawn; a notebook then shows it, not the figure.

    In a notebook a view shows itself: its digest and either `image/png` (which nbval never compares, so
    pixels may differ between machines) or `text/html` (which it does compare, so markup keeps to the digest's
    precision).
    """

    text: str
    alt: str
    draw: Callable[[], "Figure"]
    markup: str | None = None

    def figure(self) -> "Figure":
        """The matplotlib figure, to save or to change."""
        with house_style():
            return self.draw()

    def png(self) -> bytes:
        """The figure as a PNG on an opaque white ground, in few colours so that notebooks stay small."""
        with house_style():
            raw = BytesIO()
            self.draw().savefig(raw, format="png", metadata={"Software": None})
        from PIL import Image  # comes with matplotlib

        small = BytesIO()
        image = Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True)
        return small.getvalue()

    def html(self) -> str:
        """HTML that needs nothing else: the markup, or else the figure inside the page as an image."""
        if self.markup is not None:
            return self.markup
        picture = base64.b64encode(self.png()).decode("ascii")
        alt = html.escape(self.alt)
        return (
            f'<img alt="{alt}" src="data:image/png;base64,{picture}" style="max-width:100%;background:white">'
        )

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """What Jupyter displays. It filters by `include` and `exclude` itself."""
        if self.markup is not None:
            return {"text/plain": self.text, "text/html": self.markup}, {}
        picture = base64.b64encode(self.png()).decode("ascii")
        return {"text/plain": self.text, "image/png": picture}, {"image/png": {"alt": self.alt}}
