"""The dashboard of a training run: loss, held-out loss, learning rate, gradient norm; also while it runs."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyphi.errors import InputError
from tinyphi.show import live as living
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import drawn_words, spread, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_RUNS, MOST_POINTS, MOST_EVALUATIONS = 6, 1000, 200
_EVERY = 0.5  # seconds between two pictures of a run that goes on
_SMOOTHING = 0.9  # of the figure, from as many points on as say something: the weight of what came before
_SMOOTH_FROM = 60
_CURVES = ("loss", "learning_rate", "gradient_norm")

Row: TypeAlias = Mapping[str, Any]
Point: TypeAlias = dict[str, float | None]


class LossCurves(View):
    """A view that grows: `add` is what a trainer calls with every row of its log; see `loss_curves`."""

    markup = None

    def __init__(self, runs: Mapping[str, Sequence[Row]]) -> None:
        self.runs: dict[str, list[Point]] = {}
        self._widgets: list[Any] = []
        self._drawn, self._late = -math.inf, False
        for name, rows in runs.items():
            self._points_of(name)
            for row in rows:
                self.add(row, name)

    def add(self, row: Row, run: str = "training") -> None:
        """Take one more row of a log, and show it where the view is alive; at most twice a second.

        A step that is there already, or after which there are others, is where the run was resumed: what
        came after it is forgotten. Raises InputError for a row without step and loss, and a seventh run.
        """
        point = _point(row)
        points = self._points_of(run)
        while points and _step(points[-1]) >= _step(point):
            points.pop()
        points.append(point)
        self._late = True
        if time.monotonic() - self._drawn >= _EVERY:
            self._renew()

    def _points_of(self, run: str) -> list[Point]:
        if run not in self.runs and len(self.runs) == MOST_RUNS:
            raise InputError(f"loss_curves() draws at most {MOST_RUNS} runs; {run!r} is one more.")
        return self.runs.setdefault(run, [])

    def widget(self) -> Any:
        """The live face, which follows `add`."""
        made = living.widget(self.live)
        self._widgets.append(made)
        living.after_each_cell(self._renew)
        return made

    def _renew(self) -> None:
        if self._late and self._widgets:
            live = self.live
            for widget in self._widgets:
                living.renew(widget, live)
            self._drawn, self._late = time.monotonic(), False

    @property
    def text(self) -> str:
        return "\n".join(_digest(self.runs))

    @property
    def alt(self) -> str:
        ends = [
            f"{words(name)} from {_short(points[0]['loss'])} to {_short(points[-1]['loss'])} in step "
            f"{_step(points[-1])}"
            for name, points in self.runs.items()
            if points
        ]
        return f"Loss by step: {'; '.join(ends) or 'no rows yet'}."

    @property
    def live(self) -> Live:
        return Live("loss_curves", {"runs": [_data(name, points) for name, points in self.runs.items()]})

    def draw(self) -> "Figure":
        return _draw(self.runs)


def loss_curves(runs: Mapping[str, Sequence[Row]] | Sequence[Row] = ()) -> LossCurves:
    """Loss, learning rate and gradient norm of one run or several, by step or by tokens.

    runs  label → rows of a trainer's log, or the rows of one run: mappings with step and loss (nats a token),
          perhaps learning_rate, gradient_norm, tokens (seen so far), and where held-out texts were evaluated
          eval_loss and other eval_… numbers. At most 6 runs; of a run with more than 1000 rows each point is
          the mean of neighbours.

    While a model is trained: `chart = loss_curves()`, show it, and give `chart.add` to the trainer as a
    watcher. In the live face a slider smooths the curves, and the pointer reads all numbers of a step. Raises
    InputError for rows of another form and for more runs.
    """
    return LossCurves(runs if isinstance(runs, Mapping) else {"training": runs} if runs else {})


def _point(row: Row) -> Point:
    """The numbers of a row that are drawn; None for one that is not finite, which JSON does not know."""
    if not isinstance(row, Mapping) or not {"step", "loss"} <= row.keys():
        raise InputError(
            "A row of a log is a mapping with at least 'step' and 'loss', such as Trainer.run's."
        )
    wanted = [name for name in row if name in ("step", "tokens", *_CURVES) or name.startswith("eval_")]
    wrong = [name for name in wanted if not isinstance(row[name], (int, float))]
    if wrong or not math.isfinite(row["step"]):
        raise InputError(f"{(wrong or ['step'])[0]!r} of a row of the log must be a number.")
    return {name: float(row[name]) if math.isfinite(row[name]) else None for name in wanted}


def _step(point: Point) -> int:
    return int(point["step"] or 0)


def _short(value: float | None) -> str:
    """Three digits; "–" for none."""
    return "–" if value is None else fixed(value, 10 * abs(value))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS`, each a mean of as many neighbours, at the last one's step."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        {name: group[-1].get(name) for name in ("step", "tokens")}
        | {name: _mean([point.get(name) for point in group]) for name in _CURVES}
        for group in groups
    ]


def _evaluations(points: Sequence[Point]) -> list[Point]:
    found = [point for point in points if any(name.startswith("eval_") for name in point)]
    return (
        found if len(found) <= MOST_EVALUATIONS else [found[i] for i in spread(len(found), MOST_EVALUATIONS)]
    )


def _data(name: str, points: Sequence[Point]) -> dict[str, Any]:
    thin = _thinned(points)
    columns = ("step", "tokens", *_CURVES)
    return {
        "name": name,
        "rows": len(points),
        **{column: [_rounded(point[column]) for point in thin] for column in columns},
        "evaluations": [
            {key.removeprefix("eval_"): _rounded(value) for key, value in point.items() if key not in _CURVES}
            for point in _evaluations(points)
        ],
    }


def _rounded(value: float | None) -> float | None:
    """Six digits are more than a curve shows, and keep the page small; steps and tokens stay whole."""
    return None if value is None else int(value) if value.is_integer() else float(f"{value:.6g}")


def _digest(runs: Mapping[str, Sequence[Point]]) -> list[str]:
    lines = [f"training, {len(runs)} {'run' if len(runs) == 1 else 'runs'}: loss by step"]
    for name, points in runs.items():
        tokens = points[-1].get("tokens") if points else None
        seen = "" if tokens is None else f", {int(tokens)} tokens"
        lines.append(f"{words(name)[:40]}: {len(points)} rows{seen}")
        for label, cells in _table(points):
            lines.append(f"  {label:>8} " + " ".join(f"{text:>8}" for text in cells))
    return lines


def _table(points: Sequence[Point]) -> Iterator[tuple[str, list[str]]]:
    """Steps and losses that stand for all: a label and the numbers, row by row."""
    if points:
        yield "step", [str(_step(point)) for point in _some(points, 7)]
        yield "loss", [_short(point["loss"]) for point in _some(points, 7)]
    held = _some([point for point in points if "eval_loss" in point], 7)
    if held:
        yield "step", [str(_step(point)) for point in held]
        yield "held out", [_short(point["eval_loss"]) for point in held]


def _some(points: Sequence[Point], most: int) -> list[Point]:
    """Up to `most` of the points, first and last among them."""
    return [points[i] for i in spread(len(points), most)] if len(points) > most else list(points)


def _smoothed(values: Sequence[float | None], weight: float) -> list[float | None]:
    """A running mean in which every step back counts `weight` times as much; None stays None."""
    total, count, found = 0.0, 0.0, list[float | None]()
    for value in values:
        if value is not None:
            total, count = weight * total + value, weight * count + 1
        found.append(None if value is None else total / count)
    return found


def _draw(runs: Mapping[str, Sequence[Point]]) -> "Figure":
    figure = style.new_figure(8.0, 5.0)
    places: Any = [["loss", "loss"], ["learning_rate", "gradient_norm"]]
    axes: Any = figure.subplot_mosaic(places, height_ratios=(2, 1))
    for number, (name, points) in enumerate(runs.items()):
        _draw_run(axes, number, drawn_words(name, 28), points)
    for curve, what in zip(_CURVES, ("loss, nats a token", "learning rate", "gradient norm"), strict=True):
        axes[curve].set(ylabel=what, xlabel="step")
        axes[curve].grid(color=style.PALE, linewidth=0.5)
    if runs:
        axes["loss"].legend(fontsize=8.5)
    return figure


def _draw_run(axes: Any, number: int, name: str, points: Sequence[Point]) -> None:
    marker, colour = style.MARKS[number]
    thin, held = _thinned(points), [point for point in points if "eval_loss" in point]
    steps = [_step(point) for point in thin]
    for curve in _CURVES:
        values = [point[curve] for point in thin]
        if curve != "learning_rate" and len(values) >= _SMOOTH_FROM:
            axes[curve].plot(steps, _plain(values), color=colour, linewidth=0.7, alpha=0.35)
            values = _smoothed(values, _SMOOTHING)
        end: Any = {"marker": marker, "markevery": [-1], "markeredgecolor": "white", "markersize": 7}
        axes[curve].plot(steps, _plain(values), color=colour, linewidth=1.6, label=name, **end)
    if held:
        losses = _plain([point["eval_loss"] for point in held])
        look: Any = {"marker": marker, "color": colour, "markeredgecolor": "white", "linestyle": (0, (3, 2))}
        axes["loss"].plot([_step(point) for point in held], losses, label=f"{name}, held out", **look)


def _plain(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
