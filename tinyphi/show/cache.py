"""The key/value cache filling up: what is stored, what is spare room, what a sliding window dropped."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import in_bytes
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 2000  # snapshots in the live face and in the figure
_LINES = 12


class Snapshot(Protocol):
    """How full a cache was, as `KeyValueCache.snapshot()` returns it; counts are tokens of each row."""

    @property
    def tokens(self) -> int: ...
    @property
    def stored(self) -> int: ...
    @property
    def room(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def long_factors(self) -> bool: ...


def cache_filling(snapshots: Sequence[Snapshot]) -> View:
    """A cache over time, from a list of `cache.snapshot()`: tokens stored, spare room, dropped tokens, bytes.

    The text lists the first and last snapshot and those at which something happened: the room grew, old
    tokens were dropped, or LongRoPE's factors changed. Of more than 2000 snapshots every other one is drawn,
    or fewer. Raises InputError without snapshots.
    """
    snapshots = list(snapshots)
    if not snapshots or not all(hasattr(one, "stored") and hasattr(one, "room") for one in snapshots):
        raise InputError(
            "cache_filling() takes a list of cache.snapshot(), collected while decoding; not empty."
        )
    every = -(-len(snapshots) // MOST)
    shown = snapshots[::every] if every == 1 else [*snapshots[:-1:every], snapshots[-1]]
    data = {
        name: [getattr(one, name) for one in shown]
        for name in ("tokens", "stored", "room", "window", "long_factors")
    }
    data["memory"] = [in_bytes(one.bytes) for one in shown]
    last = snapshots[-1]
    alt = (
        f"A key/value cache over {len(snapshots)} steps: at the end {last.stored} tokens stored, room for "
        f"{last.room}, {last.tokens - last.stored} dropped, {in_bytes(last.bytes)}."
    )
    return View(_digest(snapshots), alt, lambda: _draw(shown), live=Live("cache", data))


def _digest(snapshots: list[Snapshot]) -> str:
    window = snapshots[-1].window
    sees = "no window" if window is None else f"a window of {window} tokens"
    events = [(0, "")]
    for step in range(1, len(snapshots)):
        what = _happened(snapshots[step - 1], snapshots[step])
        if what or step == len(snapshots) - 1:
            events.append((step, what))
    left_out = len(events) - _LINES
    if left_out > 0:
        events = [*events[: _LINES - 1], events[-1]]
    lines = [
        f"key/value cache, {len(snapshots)} snapshots, {sees}",
        f"{'step':>5} {'tokens':>7} {'stored':>7} {'spare':>7} {'dropped':>8} {'memory':>10}",
    ]
    for step, what in events:
        one = snapshots[step]
        numbers = f"{one.tokens:>7} {one.stored:>7} {one.room - one.stored:>7} {one.tokens - one.stored:>8}"
        lines.append(f"{step:>5} {numbers} {in_bytes(one.bytes):>10}  {what}".rstrip())
    if left_out > 0:
        lines.insert(-1, f"    … {left_out} more at which something happened")
    return "\n".join(lines)


def _happened(before: Snapshot, now: Snapshot) -> str:
    """What a step did besides storing its tokens."""
    events = []
    if now.room != before.room:
        events.append(f"room {before.room} → {now.room}")
    dropped = (now.tokens - now.stored) - (before.tokens - before.stored)
    if dropped > 0:
        events.append(f"dropped {dropped}")
    if now.long_factors != before.long_factors:
        events.append("all keys again, with the " + ("long" if now.long_factors else "short") + " factors")
    return ", ".join(events)


def _draw(snapshots: list[Snapshot]) -> "Figure":
    figure = style.new_figure(7.4, 3.4)
    axes = figure.add_subplot()
    steps = range(len(snapshots))
    stored, room, tokens = (
        [getattr(one, name) for one in snapshots] for name in ("stored", "room", "tokens")
    )
    visible = [one.stored if one.window is None else min(one.stored, one.window - 1) for one in snapshots]
    filled: Any = {"step": "post", "linewidth": 0}
    axes.fill_between(steps, visible, color=style.BLUE, label="stored, seen by the next token", **filled)
    if visible != stored:
        name = "stored, outside of the window"
        axes.fill_between(steps, visible, stored, color=style.TINTS[0], label=name, **filled)
    hatched: Any = {"facecolor": "white", "edgecolor": style.PALE, "hatch": "////"}
    axes.fill_between(steps, stored, room, label="spare room", **hatched, **filled)
    axes.step(steps, room, where="post", color=style.INK, linewidth=1.2)
    if tokens != stored:
        axes.step(steps, tokens, where="post", color=style.RED, linewidth=1.2, label="seen so far")
    for step in range(1, len(snapshots)):
        if snapshots[step].long_factors != snapshots[step - 1].long_factors:
            axes.axvline(step, color=style.PURPLE, linestyle="--", linewidth=1.2, label="factors changed")
    axes.set(xlabel="step", ylabel="tokens", xlim=(0, max(1, len(snapshots) - 1)))
    axes.set_ylim(0, 1.25 * max(*room, *tokens))  # space for the legend
    axes.legend(fontsize=8.5, loc="upper left", ncols=2)
    _add_bytes(axes, snapshots[-1])
    return figure


def _add_bytes(axes: Any, last: Snapshot) -> None:
    """A second scale at the right: a token costs the same everywhere, so bytes are tokens in another unit."""
    each = last.bytes / last.room / 1024**2
    scale = axes.secondary_yaxis("right", functions=(lambda tokens: tokens * each, lambda mib: mib / each))
    scale.set_ylabel("memory (MiB)")
    axes.spines["right"].set_visible(True)
