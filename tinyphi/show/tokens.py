"""How a text falls into tokens: a coloured strip."""

import html
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 128  # tokens shown
MOST_LIVE = 1000
_WIDTH = 96  # letters in a line of the figure


class Piece(Protocol):
    """One token of a text, as a tokenizer's `explain` returns it."""

    @property
    def id(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def bytes(self) -> bytes: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def kind(self) -> str: ...


def tokens(pieces: Sequence[Piece]) -> View:
    """A strip of tokens from `tokenizer.explain(text)`: text, id, and what is special about a token.

    White space is visible (`·` blank, `↵` new line). Tokens that stand for single bytes are shown as bytes
    with a dashed edge, control tokens dark, unknown ones in orange. At most 128 tokens are shown, in the live
    face 1000; there, the same token elsewhere in the text stands out too. Raises InputError for what are no
    pieces.
    """
    if isinstance(pieces, str) or not all(hasattr(piece, "kind") for piece in pieces):
        raise InputError("tokens() takes the pieces of a text: tokenizer.explain(text).")
    shown = list(pieces[:MOST])
    note = f"the first {MOST} of {len(pieces)} tokens" if len(pieces) > MOST else ""
    kinds = Counter(piece.kind for piece in pieces)
    special = "".join(f", {count} {kind}" for kind, count in sorted(kinds.items()) if kind != "normal")
    head = f"{len(pieces)} tokens{special}"
    rows = [f"{_label(piece)} {piece.id}" for piece in shown]
    text = "\n".join([head, *_wrap(rows, 100), *([f"… {note}"] if note else [])])
    alt = f"{head}: " + " | ".join(_label(piece) for piece in shown[:40])
    live = Live("tokens", _data(pieces, head))
    return View(text, alt, lambda: _draw(shown, note), _markup(shown, head, note), live)


def _data(pieces: Sequence[Piece], head: str) -> dict[str, Any]:
    shown = pieces[:MOST_LIVE]
    said = [piece for piece in pieces if piece.kind != "control"]
    spans = {(piece.start, piece.end) for piece in said}  # the bytes of one letter share its span
    return {
        "head": head,
        "note": f"the first {MOST_LIVE} of {len(pieces)} tokens" if len(pieces) > len(shown) else "",
        "letters": sum(end - start for start, end in spans),
        "bytes": sum(len(piece.bytes) for piece in said),
        "count": len(said),
        "pieces": [
            [piece.id, piece.text, list(piece.bytes), piece.start, piece.end, piece.kind] for piece in shown
        ],
    }


def _label(piece: Piece) -> str:
    if piece.kind == "byte":
        return "<" + " ".join(f"{byte:02X}" for byte in piece.bytes) + ">"
    return style.visible(piece.text)


def _wrap(words: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 3 + len(word) <= width:
            lines[-1] += " | " + word
        else:
            lines.append(word)
    return lines


def _colours(piece: Piece, place: int) -> tuple[str, str, str]:
    """Background, text and edge."""
    special = {
        "byte": ("#FFFFFF", style.INK, style.PURPLE),
        "control": (style.INK, "#FFFFFF", style.INK),
        "unknown": (style.ORANGE, "#000000", style.RED),
    }
    tint = style.TINTS[place % len(style.TINTS)]
    return special.get(piece.kind, (tint, "#000000", tint))


def _markup(pieces: Sequence[Piece], head: str, note: str) -> str:
    boxes = []
    for place, piece in enumerate(pieces):
        ground, ink, edge = _colours(piece, place)
        dashes = f";outline:1px dashed {edge};outline-offset:-1px" if piece.kind == "byte" else ""
        details = f"token {place}: {piece.kind}, letters {piece.start}–{piece.end}, "
        details += "bytes " + " ".join(f"{byte:02X}" for byte in piece.bytes)
        boxes.append(
            f'<span title="{html.escape(details)}" style="display:inline-block;margin:1px;padding:0 4px;'
            f'background:{ground};color:{ink}{dashes}">{html.escape(_label(piece))}<br><small>{piece.id}</small></span>'
        )
    tail = f"<div>… {html.escape(note)}</div>" if note else ""
    return (
        '<div style="background:#fff;color:#222;padding:6px;font-family:monospace;line-height:1.3">'
        f"<div>{html.escape(head)}</div>{''.join(boxes)}{tail}</div>"
    )


def _draw(pieces: Sequence[Piece], note: str) -> "Figure":
    labels = [style.drawable(_label(piece)) for piece in pieces]
    places: list[tuple[float, int, int]] = []
    left, row = 0.0, 0
    for piece, label in zip(pieces, labels, strict=True):
        width = max(len(label.replace(r"\$", "$")), len(str(piece.id))) + 2
        if left + width > _WIDTH and left > 0:
            left, row = 0.0, row + 1
        places.append((left, row, width))
        left += width
    figure = style.new_figure(8.0, 0.55 * (row + 1) + (0.4 if note else 0.1))
    axes = figure.add_subplot(xlim=(0, _WIDTH), ylim=(row + 1, 0))
    axes.set_axis_off()
    if note:
        axes.set_title(f"… {note}")
    for place, (piece, label) in enumerate(zip(pieces, labels, strict=True)):
        _draw_box(axes, place, piece, label, places[place])
    return figure


def _draw_box(axes: "Axes", place: int, piece: Piece, label: str, where: tuple[float, int, int]) -> None:
    from matplotlib.patches import Rectangle

    left, row, width = where
    ground, ink, edge = _colours(piece, place)
    line = "--" if piece.kind == "byte" else "-"
    box = Rectangle(
        (left + 0.1, row + 0.08), width - 0.2, 0.84, facecolor=ground, edgecolor=edge, linestyle=line
    )
    axes.add_patch(box)
    middle = left + width / 2
    axes.text(middle, row + 0.36, label, ha="center", va="center", family=style.MONO, size=9, color=ink)
    axes.text(
        middle, row + 0.74, str(piece.id), ha="center", va="center", family=style.MONO, size=6.5, color=ink
    )
