"""Scores of several models on several benchmarks, and what one model has more than another."""

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


@dataclass(frozen=True)
class _Table:
    """Scores (benchmarks models), and the two models that are compared."""

    names: list[str]
    models: list[str]
    scores: list[list[Score]]
    notes: list[str]
    pair: tuple[int, int]

    def gain(self, row: int) -> Score:
        """What the second model of the pair has more than the first."""
        first, second = (self.scores[row][model] for model in self.pair)
        return None if first is None or second is None else second - first

    def by_gain(self) -> list[int]:
        """The rows, the largest gain first; those without one come last."""
        known = [row for row in range(len(self.names)) if self.gain(row) is not None]
        return sorted(known, key=lambda row: -(self.gain(row) or 0.0)) + [
            row for row in range(len(self.names)) if self.gain(row) is None
        ]


def benchmarks(
    scores: Mapping[str, Mapping[str, Score]],
    notes: Mapping[str, str] | None = None,
    pair: tuple[str, str] | None = None,
) -> View:
    """One row for each benchmark, one mark for each model, sorted by what one model has more than another.

    scores  benchmark → model → a score from 0 to 100; None, or no entry, for what is not known
    notes   benchmark → how it was asked, such as "5 shots"
    pair    the two models to compare; the first and the last one unless given

    Up to 40 benchmarks and 6 models. The digest has all scores, in the order in which they are given. The
    live face compares any two models, sorts, and hides the rows in which the two are close. Raises InputError
    for scores outside 0 … 100 (bring others to that scale first), and for models or benchmarks that are not
    there.
    """
    table = _table(scores, notes or {}, pair)
    lines = _lines(table)
    data = {
        "names": table.names,
        "models": table.models,
        "scores": table.scores,
        "notes": table.notes,
        "pair": list(table.pair),
    }
    first, second = (words(table.models[model]) for model in table.pair)
    alt = (
        f"Dot plot of {len(table.names)} benchmarks and {len(table.models)} models, "
        f"sorted by what {second} has more than {first}. {_summary(table)}"
    )
    return View("\n".join(lines), alt, lambda: _draw(table), live=Live("benchmarks", data))


def _table(
    scores: Mapping[str, Mapping[str, Score]], notes: Mapping[str, str], pair: tuple[str, str] | None
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
    chosen = pair or (models[0], models[-1])
    if len(chosen) != 2 or any(model not in models for model in chosen):
        raise InputError(f"pair={chosen!r}: name two of the models: {', '.join(map(repr, models))}.")
    return _Table(
        names,
        models,
        [[_checked(name, model, scores[name].get(model)) for model in models] for name in names],
        [notes.get(name, "") for name in names],
        (models.index(chosen[0]), models.index(chosen[1])),
    )


def _checked(name: str, model: str, score: object) -> Score:
    if score is None:
        return None
    if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 100:
        return float(score)
    raise InputError(f"{model!r} has {score!r} on {name!r}; give a number from 0 to 100, or None.")


def _summary(table: _Table) -> str:
    """The mean gain over the rows that both models have, and how often it is a loss."""
    gains = [gain for gain in map(table.gain, range(len(table.names))) if gain is not None]
    first, second = (words(table.models[model]) for model in table.pair)
    if not gains:
        return f"{first} and {second} have no benchmark in common."
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    count = f"{len(gains)} common benchmark{'' if len(gains) == 1 else 's'}"
    return (
        f"{second} against {first}: {_signed(sum(gains) / len(gains))} on average of {count}, "
        f"ahead in {ahead}, behind in {behind}."
    )


def _signed(gain: float) -> str:
    """One decimal and a sign; 0.0 has none."""
    text = f"{gain:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _lines(table: _Table) -> list[str]:
    """All scores; the models' names stand above, since they are long."""
    lines = [f"benchmarks, {len(table.names)} × {len(table.models)} models; the last column: their gain"]
    lines += [f"  ({number}) {words(model)[:60]}" for number, model in enumerate(table.models, 1)]
    heads = "".join(f"{f'({number})':>7}" for number in range(1, len(table.models) + 1))
    gain_head = f"({table.pair[1] + 1})−({table.pair[0] + 1})"
    lines.append(f"{'benchmark':<{_NAME}}{heads}{gain_head:>9}  how it was asked")
    for row, name in enumerate(table.names):
        numbers = "".join(f"{'–' if score is None else f'{score:.1f}':>7}" for score in table.scores[row])
        gain = table.gain(row)
        shown = "–" if gain is None else _signed(gain)
        line = f"{words(name)[:_NAME]:<{_NAME}}{numbers}{shown:>9}  {words(table.notes[row])[:40]}"
        lines.append(line.rstrip())
    return [*lines, _summary(table)]


def _draw(table: _Table) -> "Figure":
    order = table.by_gain()
    figure = style.new_figure(8.4, 1.15 + 0.235 * len(order))
    axes = figure.subplots()
    for place, row in enumerate(order):
        known = [score for score in table.scores[row] if score is not None]
        if known:
            axes.plot([min(known), max(known)], [place, place], color=style.PALE, linewidth=3, zorder=1)
        gain = table.gain(row)
        axes.text(
            1.01,
            place,
            "–" if gain is None else _signed(gain),
            transform=axes.get_yaxis_transform(),
            va="center",
            size=9,
            color=style.RED if gain is not None and gain < 0 else style.INK,
        )
    for model, name in enumerate(table.models):
        marker, colour = style.MARKS[model]
        found: Any = [
            (score, place)
            for place, row in enumerate(order)
            if (score := table.scores[row][model]) is not None
        ]
        xs, ys = zip(*found, strict=True) if found else ((), ())
        label = drawn_words(name, _MODEL)
        axes.plot(xs, ys, marker, color=colour, mec="white", markersize=8, linestyle="none", label=label)
    axes.set_yticks(range(len(order)), [drawn_words(table.names[row], _NAME) for row in order], size=9)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="score")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    first, second = (drawn_words(table.models[model], _MODEL) for model in table.pair)
    axes.set_title(f"right: {second} − {first}", size=9, loc="right")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure
