"""Planting a trap and taking it out again, and the table of all traps."""

import html
import random
import textwrap
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple
from unittest import mock

from tinyphi.errors import InputError


class Thread(NamedTuple):
    """An upstream discussion of the mistake."""

    repository: str
    number: int
    title: str
    kind: str = "pull"  # or "issues"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repository}/{self.kind}/{self.number}"


class Change(NamedTuple):
    """One attribute of a module or class, and what stands there while the trap is planted."""

    owner: Any
    attribute: str
    value: Any


@dataclass(frozen=True, repr=False)
class Trap:
    """A mistake that happened, and everything known about it."""

    name: str
    mistake: str  # what the program does, in one sentence
    happened: tuple[Thread, ...]
    needs: str  # the configuration and input that expose it
    hides: str  # where it changes nothing at all, which is why it lasts
    shows: str  # what a user sees, and where a comparison finds it
    cure: str
    first: str = ""  # how the name of the first intermediate that differs ends; "" outside the forward pass
    cause: str = ""  # how what `parity.bisect` says begins
    suspect: bool = False  # whether a mystery may be this one: the miniature model shows it
    changes: Callable[[], Iterable[Change]] = field(default=tuple, compare=False)

    def __repr__(self) -> str:
        lines = [
            _row(label, getattr(self, label)) for label in ("mistake", "needs", "hides", "shows", "cure")
        ]
        reading = [f"  {thread.title}: {thread.url}" for thread in self.happened]
        return "\n".join([f"trap {self.name!r}", *lines, "reading", *reading])


def _row(label: str, text: str) -> str:
    return textwrap.fill(text, 100, initial_indent=f"{label:9}", subsequent_indent=" " * 9)


def current(owner: Any, attribute: str) -> Any:
    """What stands there now, which may be another trap's."""
    return getattr(owner, attribute)


TRAPS: dict[str, Trap] = {}
_planted: set[str] = set()


def enter(**facts: Any) -> Callable[[Callable[[], Iterable[Change]]], Callable[[], Iterable[Change]]]:
    """Enter a trap into the table under its function's name; the function yields what to change."""

    def decorate(changes: Callable[[], Iterable[Change]]) -> Callable[[], Iterable[Change]]:
        TRAPS[changes.__name__] = Trap(changes.__name__, changes=changes, **facts)
        return changes

    return decorate


class Planted:
    """A trap for a `with` block: planted on entering, undone on leaving, however the block is left.

    It changes the library itself. So every model in the process is trapped, in every thread, and another trap
    may be planted inside of the block, but not the same one again.
    """

    def __init__(self, trap: Trap, title: str) -> None:
        self._trap, self._title = trap, title
        self._stack = ExitStack()

    def __enter__(self) -> "Planted":
        if self._trap.name in _planted:
            raise InputError(f"{self._title} is planted already; leave its block first.")
        with ExitStack() as stack:
            for owner, attribute, value in self._trap.changes():
                new = not hasattr(owner, attribute)  # set on instances only
                stack.enter_context(mock.patch.object(owner, attribute, value, create=new))
            _planted.add(self._trap.name)
            stack.callback(_planted.discard, self._trap.name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stack.close()

    def reveal(self) -> Trap:
        """Which trap it is, and everything about it."""
        return self._trap

    def __repr__(self) -> str:
        return f"{self._title} ({'planted' if self._trap.name in _planted else 'not planted'})"


def trap(name: str | None = None, *, seed: int | None = None) -> Planted:
    """A trap to plant with `with`: one by its name, or a mystery by its number.

    seed: one of the suspects, chosen by this number; `.reveal()` says which. Raises InputError for an unknown
    name, and unless exactly one of the two is given.
    """
    if (name is None) == (seed is None):
        raise InputError('Give a name, trap("stale_longrope"), or a number, trap(seed=3).')
    if seed is not None:
        if type(seed) is not int:
            raise InputError(f"seed is {seed!r}; it must be a whole number.")
        suspects = [one for one in TRAPS.values() if one.suspect]
        return Planted(random.Random(seed).choice(suspects), f"mystery {seed}")
    if name not in TRAPS:
        raise InputError(f"There is no trap {name!r}. The traps are {', '.join(TRAPS)}.")
    return Planted(TRAPS[name], f"the trap {name!r}")


class TrapTable(tuple[Trap, ...]):
    """Traps that show themselves as a table of names and mistakes."""

    def __repr__(self) -> str:
        wide = max((len(one.name) for one in self), default=0) + 2
        return "\n".join(
            textwrap.fill(one.mistake, 108, initial_indent=f"{one.name:{wide}}", subsequent_indent=" " * wide)
            for one in self
        )

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        head = "".join(
            f"<th>{title}</th>" for title in ("trap", "mistake", "exposed by", "where it happened")
        )
        rows = "".join(f"<tr>{_cells(one)}</tr>" for one in self)
        style = "background:#fff;color:#222;text-align:left"
        return {
            "text/plain": repr(self),
            "text/html": f'<table style="{style}"><tr>{head}</tr>{rows}</table>',
        }


def _cells(one: Trap) -> str:
    links = "<br>".join(
        f'<a href="{thread.url}">{thread.repository} #{thread.number}</a>' for thread in one.happened
    )
    texts = (f"<code>{one.name}</code>", html.escape(one.mistake), html.escape(one.needs), links)
    return "".join(f'<td style="text-align:left;vertical-align:top">{text}</td>' for text in texts)


def traps() -> TrapTable:
    """All traps, as a table that can be read, searched and looped over."""
    return TrapTable(TRAPS.values())
