"""View: one thing to look at, with four faces."""

import base64
import hashlib
import html
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyphi.show import live as living
from tinyphi.show.live import Live
from tinyphi.show.style import house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDGET = "application/vnd.jupyter.widget-view+json"


def kept_name(digest: str) -> str:
    """The name under which the HTML of a view with this digest is kept for the documentation."""
    return hashlib.sha256(digest.encode()).hexdigest()[:16]


@dataclass(frozen=True, repr=False)
class View:
    """One picture of one thing.

    text    the digest: plain text at a fixed precision. It is what a notebook test compares.
    alt     one sentence that says what the picture shows, for readers who cannot see it.
    draw    makes the matplotlib figure; called inside the house style.
    markup  HTML by hand, for views that are better read than drawn; it then stands for the figure.
    live    the interactive face, for notebooks (a widget) and for pages (`html()`).

    In a notebook a view shows itself: live where a kernel and anywidget are, else its picture, `image/png`
    (which nbval never compares, so pixels may differ between machines) or `text/html` (which it does compare,
    so markup keeps to the digest's precision).
    """

    text: str
    alt: str
    draw: Callable[[], "Figure"]
    markup: str | None = None
    live: Live | None = None

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
        # Pillow's usual method spends its palette on what covers most pixels, and makes colour bars muddy.
        image = Image.open(raw).convert("RGB")
        image = image.quantize(48, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True)
        return small.getvalue()

    def html(self) -> str:
        """HTML that needs nothing else: the live face, or else the markup or the figure as an image."""
        if self.live is not None:
            return living.page(self.live, self.alt)
        if self.markup is not None:
            return self.markup
        picture = base64.b64encode(self.png()).decode("ascii")
        alt = html.escape(self.alt)
        return (
            f'<img alt="{alt}" src="data:image/png;base64,{picture}" style="max-width:100%;background:white">'
        )

    def widget(self) -> Any:
        """The live face as an anywidget; None for a view without one."""
        return None if self.live is None else living.widget(self.live)

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What Jupyter displays. It filters by `include` and `exclude` itself."""
        bundle: dict[str, Any] = {"text/plain": self.text}
        notes: dict[str, Any] = {}
        if self.markup is not None:
            bundle["text/html"] = self.markup
        else:
            bundle["image/png"] = base64.b64encode(self.png()).decode("ascii")
            notes["image/png"] = {"alt": self.alt}
        if living.has_kernel():
            self._keep()
            if self.live is not None and find_spec("anywidget") is not None:
                bundle[_WIDGET] = self.widget()._repr_mimebundle_()[0][_WIDGET]
        return bundle, notes

    def _keep(self) -> None:
        """Leave the HTML face where the build of the documentation looks for it, named after the digest."""
        folder = os.environ.get("TINYPHI_KEEP_VIEWS")
        if folder and self.live is not None:
            name = kept_name(self.text)
            Path(folder).mkdir(parents=True, exist_ok=True)
            half_way = Path(folder, f"{name}.{os.getpid()}.tmp")  # several kernels may keep the same view
            half_way.write_text(self.html(), encoding="utf-8")
            half_way.replace(Path(folder, f"{name}.html"))
