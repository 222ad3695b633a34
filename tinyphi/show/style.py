"""How every figure looks: opaque white, readable letters, colours that colour-blind readers tell apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from tinyphi.errors import TinyphiError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
TINTS = ("#D6EAF8", "#FCE8C3", "#D5F0E6", "#F6E1EC")  # backgrounds for black text
MARKS = (  # colours with a shape each, for the points of a plot
    ("o", BLUE),
    ("s", ORANGE),
    ("^", GREEN),
    ("D", PURPLE),
    ("v", RED),
    ("P", INK),
)
SEQUENTIAL, DIVERGING = "Blues", "PuOr"
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # come with matplotlib: the same letters on every machine

_RULES = {
    "font.family": [SANS],
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.dpi": 90.0,
    "savefig.dpi": "figure",
    "legend.frameon": False,
    "hatch.color": GREY,
    "image.interpolation": "nearest",  # cells stay cells, and the PNG stays small
}


@contextmanager
def house_style() -> Iterator[None]:
    """Inside this, the reader's own matplotlib settings (a dark theme, say) change nothing."""
    try:
        import matplotlib.style
    except ImportError as error:
        raise TinyphiError(
            "Figures need matplotlib, which is not installed. Install it with: pip install 'tinyphi[lab]'"
        ) from error
    with matplotlib.style.context(["default", _RULES]):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches. It is not pyplot's, so notebooks do not show it a second time."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def visible(text: str) -> str:
    """`text` with its white space and control characters made visible."""
    signs = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
    return "".join(
        signs.get(letter) or (letter if letter.isprintable() else f"<U+{ord(letter):04X}>") for letter in text
    )


def drawable(text: str, longest: int = 18) -> str:
    """`visible(text)` as matplotlib can draw it: shortened, code points for letters missing in the font."""
    shown = "".join(letter if _has_glyph(letter) else f"<U+{ord(letter):04X}>" for letter in visible(text))
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")  # between two bare dollar signs matplotlib would set a formula


@cache
def _has_glyph(letter: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts: list[Any] = [get_font(findfont(FontProperties(family=name))) for name in (SANS, MONO)]
    return all(font.get_char_index(ord(letter)) for font in fonts)
