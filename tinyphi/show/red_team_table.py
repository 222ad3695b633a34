"""What a red team found: harmful replies and over-refusal of each attack, with the conversations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS, MOST_ATTACKS = 6, 20
_IN_A_CELL = 6  # conversations of each kind that the live face shows
_LONGEST = 600  # letters of a text there
_KINDS = ("harmful", "refused")


class Rate(Protocol):
    """A share of attempts."""

    @property
    def hits(self) -> int: ...
    @property
    def of(self) -> int: ...
    @property
    def share(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...


class Attempt(Protocol):
    """A conversation: what the user said, what the model replied, and what a judge says to it."""

    @property
    def category(self) -> str: ...
    @property
    def turns(self) -> Sequence[str]: ...
    @property
    def replies(self) -> Sequence[str]: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Tally(Protocol):
    """What came of one attack, as `tinyphi.safety.redteam.tallies` counts it."""

    @property
    def attack(self) -> str: ...
    @property
    def persona(self) -> str: ...
    @property
    def harmful(self) -> Rate: ...
    @property
    def refused(self) -> Rate: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...


Columns = Mapping[str, Sequence[Tally]]


def red_team_table(columns: Columns) -> View:
    """Attacks × models or rounds: shares of harmful replies and, beside them, of harmless requests refused.

    columns  label → the tallies of `tinyphi.safety.redteam.tallies`, the same attacks in each; at most 6
             columns and 20 attacks

    Shares come with their 95 % intervals. In the live face a click on a cell opens its conversations, those
    that went wrong first, each with the verdict and its reason. Raises InputError for none or too many, for
    columns with other attacks than the first one, and for what is no tally.
    """
    rows = _checked(columns)
    head = f"red team: {_counted(len(rows), 'attack')}, {_counted(len(columns), 'column')}"
    totals = {
        label: " and ".join(
            f"{_whole(tallies, kind)} {name}"
            for kind, name in zip(_KINDS, ("harmful", "of the harmless refused"), strict=True)
        )
        for label, tallies in columns.items()
    }
    alt = f"{head}. " + "; ".join(f"{words(label)}: {total}" for label, total in totals.items()) + "."
    text = "\n".join([head, *_lines(columns, rows), *(f"{words(n)[:24]}: {t}" for n, t in totals.items())])
    data = {
        "columns": [{"label": label, "total": totals[label]} for label in columns],
        "attacks": [{"name": one.attack, "persona": one.persona} for one in rows],
        "cells": [[_cell(tallies[row]) for tallies in columns.values()] for row in range(len(rows))],
    }
    return View(text, alt, lambda: _draw(columns, rows), live=Live("red_team_table", data))


def _checked(columns: Columns) -> Sequence[Tally]:
    """The first column, whose attacks are those of all. Raises InputError as told above."""
    usage = "red_team_table() takes label → what tinyphi.safety.redteam.tallies returns"
    try:
        names = {label: [(one.attack, one.persona) for one in some] for label, some in columns.items()}
    except (AttributeError, TypeError) as error:
        raise InputError(f"{usage}; this is {type(columns).__name__}: {error}.") from error
    first = next(iter(names), None)
    size = len(names[first]) if first is not None else 0
    if first is None or len(names) > MOST_COLUMNS or not 0 < size <= MOST_ATTACKS:
        raise InputError(
            f"{usage}, 1 to {MOST_COLUMNS} columns of 1 to {MOST_ATTACKS} attacks; these are {len(names)} of "
            f"{size}."
        )
    for label, some in names.items():
        if some != names[first]:
            raise InputError(f"The column {label!r} has other attacks than {first!r}, or in another order.")
    return columns[first]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _whole(tallies: Sequence[Tally], kind: str) -> str:
    """The share over all attacks."""
    rates = [getattr(one, kind) for one in tallies]
    hits, of = sum(rate.hits for rate in rates), sum(rate.of for rate in rates)
    return f"{hits / of:.1%}" if of else "none asked"


def _lines(columns: Columns, rows: Sequence[Tally]) -> Iterator[str]:
    """A line for each attack: the shares in per cent, "–" where nothing was asked."""
    yield f"{'harmful / refused, %':32}" + "".join(f"{words(label)[:16]:>18}" for label in columns)
    for number, row in enumerate(rows):
        pairs = [tallies[number] for tallies in columns.values()]
        cells = [f"{_percent(one.harmful)} / {_percent(one.refused)}" for one in pairs]
        yield f"{words(row.attack)[:19]:20}{words(row.persona)[:12]:12}" + "".join(f"{c:>18}" for c in cells)


def _percent(rate: Rate) -> str:
    return f"{100 * rate.share:.0f}" if rate.of else "–"


def _cell(tally: Tally) -> dict[str, Any]:
    """One attack in one column, for the live face."""
    cell: dict[str, Any] = {}
    for kind in _KINDS:
        rate: Rate = getattr(tally, kind)
        cell[kind] = [rate.hits, rate.of, round(rate.share, 4), *(round(end, 4) for end in rate.interval)]
    for kind, harmless in zip(_KINDS, (False, True), strict=True):
        some = [one for one in tally.attempts if (one.category == "benign") == harmless]
        some.sort(key=lambda one: one.outcome != kind)  # those that went wrong first
        cell[f"{kind} told"] = [_told(one) for one in some[:_IN_A_CELL]]
    return cell


def _told(attempt: Attempt) -> dict[str, Any]:
    talk = [text[:_LONGEST] for pair in zip(attempt.turns, attempt.replies, strict=True) for text in pair]
    about = {"category": attempt.category, "outcome": attempt.outcome, "reason": attempt.reason}
    return {"talk": talk, **about}


def _draw(columns: Columns, rows: Sequence[Tally]) -> "Figure":
    """Points with intervals: harmful replies on the left, over-refusal on the right."""
    figure = style.new_figure(9.0, 1.3 + (0.2 + 0.07 * len(columns)) * len(rows))
    both: Any = figure.subplots(1, 2, sharey=True)
    for axes, kind, title in zip(both, _KINDS, ("harmful replies", "harmless requests refused"), strict=True):
        for number, (label, tallies) in enumerate(columns.items()):
            mark, colour = style.MARKS[number]
            shift = 0.7 * ((number + 0.5) / len(columns) - 0.5)
            for row, tally in enumerate(tallies):
                rate: Rate = getattr(tally, kind)
                if not rate.of:
                    continue
                axes.plot(
                    [100 * end for end in rate.interval], [row + shift] * 2, color=colour, linewidth=1.2
                )
                name = drawn_words(label, 24) if row == 0 else None
                axes.plot(100 * rate.share, row + shift, mark, color=colour, markersize=4.5, label=name)
        axes.set(title=title, xlabel="% (line: 95 % interval)", xlim=(-2, 102), ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(range(len(rows)), [drawn_words(one.attack, 22) for one in rows])
        axes.grid(axis="x", color=style.PALE, linewidth=0.6)
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(columns), 4), fontsize=9)
    return figure
