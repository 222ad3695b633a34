"""How deep in how long a text a model still finds what was hidden there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LENGTHS, MOST_DEPTHS = 12, 21
_IN_A_CELL = 8  # trials of a cell that the live face shows
_LONGEST = 160  # letters of a question or an answer there
_MISSED = 3  # in the digest
_PALEST = -0.15  # would be white, so that a share of 0 has a colour


class Trial(Protocol):
    """One question about a hidden thing, as `tinyphi.longcontext.needle_grid` returns them."""

    @property
    def tokens(self) -> int: ...
    @property
    def depth(self) -> float | None: ...
    @property
    def question(self) -> str: ...
    @property
    def truth(self) -> Sequence[str]: ...
    @property
    def answer(self) -> str: ...
    @property
    def score(self) -> float: ...


class Grid(Protocol):
    """Lengths and depths that were asked for, and what came of it so far."""

    @property
    def lengths(self) -> Sequence[int]: ...
    @property
    def depths(self) -> Sequence[float]: ...
    @property
    def trials(self) -> Sequence[Trial]: ...


@dataclass(frozen=True)
class _Table:
    """The trials of each cell (depths lengths)."""

    lengths: list[int]
    depths: list[float]
    trials: list[list[list[Trial]]]
    trained: int | None

    @property
    def shares(self) -> list[list[float | None]]:
        """The mean score of each cell, None where nothing was tried."""
        return [
            [sum(t.score for t in cell) / len(cell) if cell else None for cell in row] for row in self.trials
        ]

    @property
    def within(self) -> int:
        """How many columns are no longer than what the model was trained on."""
        trained = self.trained
        return len(self.lengths) if trained is None else sum(length <= trained for length in self.lengths)


def needle_grid(grid: Grid, trained: int | None = None) -> View:
    """A heat map length × depth of the share of needles that were found; missing cells are hatched.

    grid     of `tinyphi.longcontext.needle.needle_grid`, finished or not
    trained  the longest text the model was trained on, in tokens: a line marks it

    Depth is where the needle lay: 0 % is the beginning of the text, 100 % its end, next to the question. In
    the live face a cell tells question, truth and answer. The digest has all cells, and the first three
    answers that were wrong. Raises InputError for more than 12 lengths or 21 depths, and for none.
    """
    table = _table(grid, trained)
    shares = table.shares
    known = [share for row in shares for share in row if share is not None]
    missing = sum(share is None for row in shares for share in row)
    mean = f"{sum(known) / len(known):.0%} found on average" if known else "nothing tried yet"
    head = f"needle grid, {len(table.lengths)} lengths × {len(table.depths)} depths, {mean}" + (
        f"; {missing} cells missing" if missing else ""
    )
    text = "\n".join([head, *_lines(table, shares), *_misses(grid.trials)])
    alt = f"Heat map of a {head}, from {table.lengths[0]} to {table.lengths[-1]} tokens."
    data = {
        "lengths": table.lengths,
        "depths": table.depths,
        "shares": shares,
        "within": table.within,
        "trained": trained,
        "trials": [[[_told(trial) for trial in cell[:_IN_A_CELL]] for cell in row] for row in table.trials],
        "counts": [[len(cell) for cell in row] for row in table.trials],
    }
    return View(text, alt, lambda: _draw(table, shares), live=Live("needle_grid", data))


def _table(grid: Grid, trained: int | None) -> _Table:
    try:
        lengths, depths = sorted(set(grid.lengths)), sorted(set(grid.depths))
        trials = list(grid.trials)
    except (AttributeError, TypeError) as error:
        raise InputError(
            "needle_grid() takes what tinyphi.longcontext.needle.needle_grid returns, not "
            f"{type(grid).__name__}."
        ) from error
    if not 0 < len(lengths) <= MOST_LENGTHS or not 0 < len(depths) <= MOST_DEPTHS:
        raise InputError(
            f"needle_grid() draws 1 to {MOST_LENGTHS} lengths and 1 to {MOST_DEPTHS} depths; these are "
            f"{len(lengths)} and {len(depths)}."
        )
    cells = [[[t for t in trials if (t.tokens, t.depth) == (n, d)] for n in lengths] for d in depths]
    return _Table(lengths, depths, cells, trained)


def _told(trial: Trial) -> dict[str, Any]:
    """A trial for the live face."""
    texts = {"question": trial.question, "truth": ", ".join(trial.truth), "answer": trial.answer}
    return {name: text[:_LONGEST] for name, text in texts.items()} | {"score": round(trial.score, 3)}


def _lines(table: _Table, shares: list[list[float | None]]) -> list[str]:
    width = max(7, len(str(table.lengths[-1])) + 1)
    lines = [f"{'depth':>8}" + "".join(f"{length:>{width}}" for length in table.lengths)]
    for depth, row in zip(table.depths, shares, strict=True):
        cells = "".join(f"{'–' if share is None else f'{share:.0%}':>{width}}" for share in row)
        lines.append(f"{f'{depth:g} %':>8}{cells}")
    if table.within < len(table.lengths):
        beyond = len(table.lengths) - table.within
        lines.append(
            f"longer than the {table.trained} tokens of the training: {beyond} of {len(table.lengths)}"
        )
    return lines


def _misses(trials: Sequence[Trial]) -> list[str]:
    wrong = [trial for trial in trials if trial.score < 1 and trial.depth is not None][:_MISSED]
    return [
        f"{trial.tokens} tokens, {trial.depth:g} %: {words(', '.join(trial.truth))[:40]}, but answered: "
        f"{words(trial.answer)[:60]}"
        for trial in wrong
    ]


def _draw(table: _Table, shares: list[list[float | None]]) -> "Figure":
    columns, rows = len(table.lengths), len(table.depths)
    width, height = max(3.0, min(0.62 * columns, 8.0)), max(1.0, 0.34 * rows)
    figure = style.new_figure(width + 2.0, height + 0.95)
    axes = figure.subplots()
    numbers = [[float("nan") if share is None else share for share in row] for row in shares]
    image = axes.pcolormesh(
        range(columns + 1),
        range(rows + 1),
        numbers,
        cmap=style.SEQUENTIAL,
        vmin=_PALEST,
        vmax=1,
        edgecolors="white",
        linewidth=1,
    )
    axes.invert_yaxis()
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            _fill(axes, column, row, share)
    if 0 < table.within < columns:
        axes.axvline(table.within, color=style.RED, linewidth=2, linestyle=(0, (4, 2)))
        axes.set_title(f"dashed line: trained on {table.trained} tokens", size=9, loc="right")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    turned: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if columns > 8 else {}
    axes.set_xticks([n + 0.5 for n in range(columns)], [str(n) for n in table.lengths], size=9, **turned)
    axes.set_yticks([n + 0.5 for n in range(rows)], [f"{depth:g} %" for depth in table.depths], size=9)
    axes.set(xlabel="tokens of the prompt", ylabel="depth of the needle")
    bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=[0, 0.5, 1], label="share found")
    bar.ax.set_ylim(0, 1)
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"], size=9)
    return figure


def _fill(axes: Any, column: int, row: int, share: float | None) -> None:
    """The number in a cell; a hatched cell where there is none."""
    from matplotlib.patches import Rectangle

    if share is None:
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor="white", edgecolor=style.PALE, hatch="////"))
        return
    colour = "white" if share > 0.55 else style.INK
    axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", size=9, color=colour)
