"""Scores of models on benchmarks, how sure they are, and what one model has more than another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BENCHMARKS, MOST_MODELS = 40, len(style.MARKS)
_NAME, _MODEL = 20, 28  # letters of a benchmark and of a model that are shown
Score = float | None
Limits = tuple[float, float] | None  # of the interval around a score
Given = float | tuple[float, float, float] | None  # a score, or a score with its limits


@dataclass(frozen=True)
class _Table:
    """Scores and limits (benchmarks models), and the two models that are compared."""

    names: list[str]
    models: list[str]
    scores: list[list[Score]]
    limits: list[list[Limits]]
    notes: list[str]
    sources: list[str]
    pair: tuple[int, int]

    def gain(self, row: int) -> Score:
        """What the second model of the pair has more than the first."""
        first, second = (self.scores[row][model] for model in self.pair)
        return None if first is None or second is None else second - first

    def unclear(self, row: int) -> bool:
        """Whether the intervals of the pair meet; a score without one is an interval of no width."""
        if self.gain(row) is None or not any(self.limits[row][model] for model in self.pair):
            return False
        first, second = (self._span(row, model) for model in self.pair)
        return max(first[0], second[0]) <= min(first[1], second[1])

    def _span(self, row: int, model: int) -> tuple[float, float]:
        score = self.scores[row][model]
        assert score is not None
        return self.limits[row][model] or (score, score)

    def by_gain(self) -> list[int]:
        """The rows, the largest gain first; those without one come last."""
        known = [row for row in range(len(self.names)) if self.gain(row) is not None]
        return sorted(known, key=lambda row: -(self.gain(row) or 0.0)) + [
            row for row in range(len(self.names)) if self.gain(row) is None
        ]


def benchmarks(
    scores: Mapping[str, Mapping[str, Given]],
    notes: Mapping[str, str] | None = None,
    pair: tuple[str, str] | None = None,
    sources: Mapping[str, str] | None = None,
) -> View:
    """One row for each benchmark, one mark for each model, sorted by what one model has more than another.

    scores   benchmark → model → a score from 0 to 100, or (score, low, high) with the limits of its interval;
             None, or no entry, for what is not known
    notes    benchmark → how it was asked, such as "5 shots"
    pair     the two models to compare; the first and the last one unless given
    sources  model → where its scores come from, such as "measured here" or the title of a report

    Up to 40 benchmarks and 6 models. The digest has all scores, in the order in which they are given; ~ marks
    a difference that the intervals do not settle, since they meet (a paired comparison still may). The live
    face compares any two models, sorts, and hides the rows in which the two are close. Raises InputError for
    scores outside 0 … 100 (bring others to that scale first), limits that do not enclose their score, and for
    models or benchmarks that are not there.
    """
    table = _table(scores, notes or {}, pair, sources or {})
    lines = _lines(table)
    data = {
        "names": table.names,
        "models": table.models,
        "scores": table.scores,
        "limits": table.limits,
        "notes": table.notes,
        "sources": table.sources,
        "pair": list(table.pair),
    }
    first, second = (words(table.models[model]) for model in table.pair)
    bars = ", with intervals as bars" if _has_limits(table) else ""
    alt = (
        f"Dot plot of {len(table.names)} benchmarks and {len(table.models)} models{bars}, "
        f"sorted by what {second} has more than {first}. {_summary(table)}"
    )
    return View("\n".join(lines), alt, lambda: _draw(table), live=Live("benchmarks", data))


def _table(
    scores: Mapping[str, Mapping[str, Given]],
    notes: Mapping[str, str],
    pair: tuple[str, str] | None,
    sources: Mapping[str, str],
) -> _Table:
    names = list(scores)
    models = list(dict.fromkeys(model for row in scores.values() for model in row))
    if not 0 < len(names) <= MOST_BENCHMARKS or not 0 < len(models) <= MOST_MODELS:
        raise InputError(
            f"benchmarks() draws 1 to {MOST_BENCHMARKS} benchmarks and 1 to {MOST_MODELS} models; these are "
            f"{len(names)} and {len(models)}."
        )
    if unknown := [name for name in notes if name not in scores]:
        raise InputError(f"There is a note on {unknown[0]!r}, but no such benchmark.")
    if unknown := [model for model in sources if model not in models]:
        raise InputError(f"There is a source for {unknown[0]!r}, but no such model.")
    chosen = pair or (models[0], models[-1])
    if len(chosen) != 2 or any(model not in models for model in chosen):
        raise InputError(f"pair={chosen!r}: name two of the models: {', '.join(map(repr, models))}.")
    read = [[_checked(name, model, scores[name].get(model)) for model in models] for name in names]
    return _Table(
        names,
        models,
        [[score for score, _ in row] for row in read],
        [[limits for _, limits in row] for row in read],
        [notes.get(name, "") for name in names],
        [sources.get(model, "") for model in models],
        (models.index(chosen[0]), models.index(chosen[1])),
    )


def _checked(name: str, model: str, given: object) -> tuple[Score, Limits]:
    if given is None:
        return None, None
    numbers: tuple[Any, ...] = given if isinstance(given, tuple) and len(given) == 3 else (given,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 100:
            raise InputError(
                f"{model!r} has {given!r} on {name!r}; give a number from 0 to 100, three of them "
                "(score, low, high), or None."
            )
    score, low, high = (float(number) for number in (numbers if len(numbers) == 3 else numbers * 3))
    if not low <= score <= high:
        raise InputError(f"{model!r} has {given!r} on {name!r}: the score must lie between low and high.")
    return score, None if len(numbers) == 1 else (low, high)


def _has_limits(table: _Table) -> bool:
    return any(limits is not None for row in table.limits for limits in row)


def _summary(table: _Table) -> str:
    """The mean gain over the rows that both models have, and how often it is a loss."""
    gains = [gain for gain in map(table.gain, range(len(table.names))) if gain is not None]
    first, second = (words(table.models[model]) for model in table.pair)
    if not gains:
        return f"{first} and {second} have no benchmark in common."
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    count = f"{len(gains)} common benchmark{'' if len(gains) == 1 else 's'}"
    open_ = sum(map(table.unclear, range(len(table.names))))
    note = f"; in {open_} the intervals meet" if open_ else ""
    return (
        f"{second} against {first}: {_signed(sum(gains) / len(gains))} on average of {count}, "
        f"ahead in {ahead}, behind in {behind}{note}."
    )


def _signed(gain: float) -> str:
    """One decimal and a sign; 0.0 has none."""
    text = f"{gain:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _shown(score: Score, limits: Limits) -> str:
    if score is None:
        return "–"
    return f"{score:.1f}" if limits is None else f"{score:.1f} [{limits[0]:.1f}, {limits[1]:.1f}]"


def _gain(table: _Table, row: int) -> str:
    gain = table.gain(row)
    return "–" if gain is None else _signed(gain) + " ~" * table.unclear(row)


def _lines(table: _Table) -> list[str]:
    """All scores; the models' names stand above, since they are long."""
    lines = [f"benchmarks, {len(table.names)} × {len(table.models)} models; the last column: their gain"]
    for number, (model, source) in enumerate(zip(table.models, table.sources, strict=True), 1):
        lines.append(f"  ({number}) {words(model)[:60]}" + (f": {words(source)[:110]}" if source else ""))
    cells = [
        [_shown(*one) for one in zip(scores, limits, strict=True)]
        for scores, limits in zip(table.scores, table.limits, strict=True)
    ]
    wide = [max(5, *map(len, column)) + 2 for column in zip(*cells, strict=True)]
    heads = "".join(f"{f'({number})':>{wide[number - 1]}}" for number in range(1, len(table.models) + 1))
    gain_head = f"({table.pair[1] + 1})−({table.pair[0] + 1})"
    lines.append(f"{'benchmark':<{_NAME}}{heads}{gain_head:>9}  how it was asked")
    for row, name in enumerate(table.names):
        numbers = "".join(f"{cell:>{width}}" for cell, width in zip(cells[row], wide, strict=True))
        shown = _gain(table, row)
        line = f"{words(name)[:_NAME]:<{_NAME}}{numbers}{shown:>9}  {words(table.notes[row])[:40]}"
        lines.append(line.rstrip())
    return [*lines, _summary(table)]


def _draw(table: _Table) -> "Figure":
    order = table.by_gain()
    figure = style.new_figure(8.4, 1.15 + 0.235 * len(order))
    axes = figure.subplots()
    for place, row in enumerate(order):
        known = [score for score in table.scores[row] if score is not None]
        if known and not _has_limits(table):
            axes.plot([min(known), max(known)], [place, place], color=style.PALE, linewidth=3, zorder=1)
        gain = table.gain(row)
        axes.text(
            1.01,
            place,
            _gain(table, row),
            transform=axes.get_yaxis_transform(),
            va="center",
            size=9,
            color=style.RED if gain is not None and gain < 0 else style.INK,
        )
    for model in range(len(table.models)):
        _draw_model(axes, table, model, order)
    axes.set_yticks(range(len(order)), [drawn_words(table.names[row], _NAME) for row in order], size=9)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="score")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    first, second = (drawn_words(table.models[model], _MODEL) for model in table.pair)
    note = "; ~ the intervals meet" if any(map(table.unclear, order)) else ""
    axes.set_title(f"right: {second} − {first}{note}", size=9, loc="right")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw_model(axes: Any, table: _Table, model: int, order: list[int]) -> None:
    """A model's marks, and its intervals as bars; with bars, the models lie a little below each other."""
    marker, colour = style.MARKS[model]
    count = len(table.models)
    shift = (model - (count - 1) / 2) * min(0.22, 0.6 / count) if _has_limits(table) else 0.0
    places = [place for place, row in enumerate(order) if table.scores[row][model] is not None]
    for place in places:
        if (limits := table.limits[order[place]][model]) is not None:
            axes.plot(limits, [place + shift] * 2, color=colour, linewidth=1.6, alpha=0.6, zorder=1.5)
    axes.plot(
        [table.scores[order[place]][model] for place in places],
        [place + shift for place in places],
        marker,
        color=colour,
        mec="white",
        markersize=8,
        linestyle="none",
        label=drawn_words(table.models[model], _MODEL),
    )
