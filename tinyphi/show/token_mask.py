"""A row of a batch as the loss sees it: which tokens are targets, where documents begin, what was hard."""

import html
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import digits, shaped
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST, MOST_LIVE = 128, 1000  # tokens shown in the figure, and in the live face
NO_TARGET = -100
_WIDTH = 96  # letters in a line of the figure
_COUNTED, _READ, _FIRST, _PADDING = "counted", "read", "first", "padding"


class Token(NamedTuple):
    """One token of the row."""

    id: int
    text: str
    kind: str
    document: int  # 0: padding
    loss: float | None  # nats


def token_mask(
    ids: Tensor,
    labels: Tensor,
    decode: Callable[[int], str],
    segments: Tensor | None = None,
    losses: Tensor | None = None,
) -> View:
    """A strip of the tokens of one row: those that count for the loss, and those that are only read.

    ids, labels  (t) int64; labels are unshifted, −100 where a token is no target, as in a
                 `tinyphi.data.packing.Batch`
    decode       id → its text
    segments     (t) int64: 1, 2, … number the documents of the row, 0 is padding. None: one document
    losses       (t) nats, the loss of each target where the target stands: darker where it is larger; other
                 places are not looked at

    Each document begins on a new line. At most 128 tokens are shown, in the live face 1000; there the pointer
    reads id, target and loss. Raises InputError for shapes that differ, labels that are neither −100 nor the
    id, targets in padding or at the start of a document, and losses that are not finite.
    """
    row = _row(ids, labels, decode, segments, losses)
    counted = [token for token in row if token.kind == _COUNTED]
    padding = sum(token.kind == _PADDING for token in row)
    documents = len({token.document for token in row} - {0})
    read = max(1, len(row) - padding)
    head = (
        f"{len(row)} tokens in {documents} {'document' if documents == 1 else 'documents'}: "
        f"{len(counted)} count for the loss ({len(counted) / read:.1%} of those that are read), "
        f"{padding} padding"
    )
    note = f"the first {MOST} of {len(row)} tokens" if len(row) > MOST else ""
    text = "\n".join([head, *_digest(row[:MOST]), *([f"… {note}"] if note else [])])
    most = max([token.loss for token in counted if token.loss is not None], default=0.0)
    data = {
        "head": head,
        "note": f"the first {MOST_LIVE} of {len(row)} tokens" if len(row) > MOST_LIVE else "",
        "tokens": [[*token[:4], None if token.loss is None else float(f"{token.loss:.6g}")] for token in row][
            :MOST_LIVE
        ],
        "most": most,
    }
    shown = row[:MOST]
    markup = _markup(shown, head, note, most)
    return View(text, f"{head}.", lambda: _draw(shown, note, most), markup, Live("token_mask", data))


def _row(
    ids: Tensor, labels: Tensor, decode: Callable[[int], str], segments: Tensor | None, losses: Tensor | None
) -> list[Token]:
    usage = "token_mask() takes ids, labels, segments and losses of one row, each (t)"
    ids = shaped(ids, usage, 1)
    given = [tensor for tensor in (labels, segments, losses) if tensor is not None]
    if any(not isinstance(tensor, Tensor) or tensor.shape != ids.shape for tensor in given):
        raise InputError(f"{usage}; these differ in shape.")
    documents = [1] * len(ids) if segments is None else segments.tolist()
    nats = [0.0] * len(ids) if losses is None else losses.detach().tolist()
    row: list[Token] = []
    for place, (id, label) in enumerate(zip(ids.tolist(), labels.tolist(), strict=True)):
        document = documents[place]
        first = place == 0 or documents[place - 1] != document
        kind = _PADDING if document == 0 else _FIRST if first else _READ if label == NO_TARGET else _COUNTED
        _check(place, id, label, kind)
        loss = nats[place] if kind == _COUNTED and losses is not None else None
        if loss is not None and not (math.isfinite(loss) and loss >= 0):
            raise InputError(f"The loss of token {place} is {loss}; it must be finite and not negative.")
        row.append(Token(id, decode(id), kind, document, loss))
    return row


def _check(place: int, id: int, label: int, kind: str) -> None:
    if label not in (id, NO_TARGET):
        raise InputError(
            f"Token {place} is {id}, but its label {label}: labels stand unshifted here, so each is the id "
            f"or {NO_TARGET}."
        )
    if label != NO_TARGET and kind in (_PADDING, _FIRST):
        why = "is padding" if kind == _PADDING else "is the first of its document, which nothing predicts"
        raise InputError(f"Token {place} {why}, but it is a target. Set its label to {NO_TARGET}.")


def _documents(row: list[Token]) -> Iterator[tuple[str, list[tuple[int, Token]]]]:
    """What is said of each document or stretch of padding, and its tokens with their places."""
    start = 0
    for place in range(1, len(row) + 1):
        if place < len(row) and row[place].document == row[start].document:
            continue
        part = list(enumerate(row))[start:place]
        counted = [token for _, token in part if token.kind == _COUNTED]
        losses = [token.loss for token in counted if token.loss is not None]
        mean = f", mean loss {digits(sum(losses) / len(losses))}" if losses else ""
        name = f"document {row[start].document}: {len(counted)} of {len(part)} count{mean}"
        yield (name if row[start].document else f"padding: {len(part)}", part)
        start = place


def _digest(row: list[Token]) -> list[str]:
    lines = []
    for name, part in _documents(row):
        lines.append(name)
        line = "  "
        for _, token in part if part[0][1].document else []:
            shown = style.visible(token.text)
            shown = shown if len(shown) <= 20 else shown[:19] + "…"
            word = f"[{shown}]" if token.kind == _COUNTED else shown
            if len(line) + len(word) > 100:
                lines.append(line.rstrip())
                line = "  "
            line += word + " "
        lines += [line.rstrip()] if line.strip() else []
    return lines


def _look(token: Token, most: float) -> tuple[str, str, str]:
    """Background, letters and edge."""
    if token.kind == _COUNTED:
        share = 0.0 if token.loss is None or most == 0 else token.loss / most
        return (style.TINTS[0], "#000000", style.BLUE) if token.loss is None else (*_shade(share), style.BLUE)
    return (
        ("#FFFFFF", "#595959", style.PALE) if token.kind != _PADDING else (style.PALE, "#595959", style.PALE)
    )


def _shade(share: float) -> tuple[str, str]:
    """From nearly white to dark blue in eight steps, and letters that can be read on it."""
    share = round(8 * share) / 8  # few colours, so that the PNG stays small
    light, dark = (222, 235, 247), (8, 69, 148)
    channels = (round(low + share * (high - low)) for low, high in zip(light, dark, strict=True))
    return "#" + "".join(f"{channel:02X}" for channel in channels), "#FFFFFF" if share > 0.45 else "#000000"


def _title(place: int, token: Token) -> str:
    loss = "" if token.loss is None else f", loss {token.loss:.2f}"
    said = {_COUNTED: "counts", _READ: "is only read", _FIRST: "begins a document", _PADDING: "is padding"}
    return f"token {place}, id {token.id}: {said[token.kind]}{loss}"


def _markup(row: list[Token], head: str, note: str, most: float) -> str:
    lines = []
    for name, part in _documents(row):
        boxes = []
        for place, token in part if part[0][1].document else []:
            ground, ink, edge = _look(token, most)
            bold = ";font-weight:bold" if token.kind == _COUNTED else ""
            boxes.append(
                f'<span title="{html.escape(_title(place, token))}" style="display:inline-block;margin:1px;'
                f'padding:0 3px;background:{ground};color:{ink};border-bottom:2px solid {edge}{bold}">'
                f"{html.escape(style.visible(token.text)) or '∅'}</span>"
            )
        lines.append(f"<div>{html.escape(name)}</div><div>{''.join(boxes)}</div>")
    tail = f"<div>… {html.escape(note)}</div>" if note else ""
    return (
        '<div style="background:#fff;color:#222;padding:6px;font-family:monospace;line-height:1.5">'
        f"<div>{html.escape(head)}</div>{''.join(lines)}{tail}</div>"
    )


def _draw(row: list[Token], note: str, most: float) -> "Figure":
    placed: list[tuple[float, int, str, Token | None]] = []  # where each token, or the head of a document, is
    left, line = 0.0, -1
    for name, part in _documents(row):
        left, line = 0.0, line + 1
        placed.append((left, line, name, None))
        line += 1 if part[0][1].document else 0
        for _, token in part if part[0][1].document else []:
            label = style.drawable(token.text) or "∅"
            width = len(label.replace(r"\$", "$")) + 1.5
            if left + width > _WIDTH and left > 0:
                left, line = 0.0, line + 1
            placed.append((left, line, label, token))
            left += width
    figure = style.new_figure(8.0, 0.27 * (line + 1) + (0.4 if note else 0.15))
    axes: Any = figure.add_subplot(xlim=(0, _WIDTH), ylim=(line + 1, 0))
    axes.set_axis_off()
    if note:
        axes.set_title(f"… {note}")
    for left, line, label, one in placed:
        _draw_one(axes, left, line, label, one, most)
    return figure


def _draw_one(axes: Any, left: float, line: int, label: str, token: Token | None, most: float) -> None:
    from matplotlib.patches import Rectangle

    if token is None:
        axes.text(left, line + 0.5, label, va="center", size=9)
        return
    ground, ink, edge = _look(token, most)
    width = len(label.replace(r"\$", "$")) + 1.5
    weight = "bold" if token.kind == _COUNTED else "normal"
    ends = (left + 0.1, line + 0.08), width - 0.2, 0.84
    axes.add_patch(Rectangle(*ends, facecolor=ground, edgecolor=edge, linewidth=0.8))  # one pixel
    look = {"ha": "center", "va": "center", "family": style.MONO, "size": 8.5, "weight": weight}
    axes.text(left + width / 2, line + 0.5, label, color=ink, **look)
