"""What limits a model's speed: reading the weights, or calculating with them."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 12
ANY_MACHINE = (4.0, 300.0)  # FLOP/byte: from laptops to large accelerators, the ridge lies between these


class Run(NamedTuple):
    """One point: how a model ran, or would run. A plain tuple of these four does as well."""

    tokens: int  # that go through the model at once: 1 while decoding, 200 for a prompt of 200
    operations: float  # FLOP for each token: two for each weight, a product and a sum
    read: float  # bytes from memory in each step, however many tokens: the weights as they are stored
    speed: float  # tokens in a second


def roofline(
    points: Mapping[str, tuple[int, float, float, float]],
    bandwidth: float,
    peak: float,
    measured: bool = True,
) -> View:
    """Operations per second against operations per byte, under the roof that memory and arithmetic make.

    points     label → `Run`, at most 12
    bandwidth  of the memory, in GB/s: the slope of the roof
    peak       of the arithmetic, in GFLOP/s: its flat part. Both meet at the ridge, peak ÷ bandwidth
    measured   whether bandwidth, peak and speeds were measured here, so that the next run has others

    A digest is compared when a notebook is tested, so it must not hold what changes from run to run. With
    `measured`, it has for each point only what follows from the model: operations per byte, and what limits
    it if that is so on any machine (memory below 4 FLOP/byte, arithmetic above 300); the measured numbers are
    in the figure and the live face. With measured=False, for numbers that are fixed, as in an exercise, the
    digest has them all, and what limits each point on that machine.

    In the live face a slider changes how many tokens go through the model at once, which reads the same
    weights for more operations. Source: Williams, Waterman and Patterson 2009, "Roofline". Raises InputError
    for numbers that are not positive.
    """
    runs = {label: _checked(label, run) for label, run in points.items()}
    if not 0 < len(runs) <= MOST_POINTS:
        raise InputError(f"roofline() draws 1 to {MOST_POINTS} points; these are {len(runs)}.")
    for name, value in (("bandwidth", bandwidth), ("peak", peak)):
        if not _positive(value):
            raise InputError(f"{name}={value!r}: give the {name} as a positive number.")
    text = "\n".join(_stable(runs) if measured else _exact(runs, bandwidth, peak))
    data = {
        "points": [{"label": label, **run._asdict()} for label, run in runs.items()],
        "bandwidth": bandwidth,
        "peak": peak,
    }
    found = "; ".join(f"{label} at {_short(_intensity(run))} FLOP/byte" for label, run in runs.items())
    alt = f"Roofline on logarithmic axes with {len(runs)} points: {found}."
    return View(text, alt, lambda: _draw(runs, bandwidth, peak), live=Live("roofline", data))


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _checked(label: str, run: object) -> Run:
    if not isinstance(run, tuple) or len(run) != 4 or not all(map(_positive, run)):
        raise InputError(
            f"point {label!r} is {run!r}; give tokens at once, FLOP for each token, bytes read in a step and "
            "tokens in a second, all of them positive."
        )
    return Run(*run)


def _intensity(run: Run) -> float:
    """FLOP/byte."""
    return run.tokens * run.operations / run.read


def _roof(intensity: float, bandwidth: float, peak: float) -> float:
    """The most GFLOP/s at so many FLOP/byte."""
    return min(peak, intensity * bandwidth)


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else fixed(value, 10 * value)


def _stable(runs: dict[str, Run]) -> list[str]:
    """What no run changes."""
    low, high = ANY_MACHINE
    lines = [f"roofline, {len(runs)} points; what was measured is in the picture"]
    lines.append(f"{'point':<24} {'tokens':>6} {'FLOP/byte':>10}  limited by")
    for label, run in runs.items():
        x = _intensity(run)
        limit = "memory" if x < low else "arithmetic" if x > high else "one or the other, by the machine"
        lines.append(f"{words(label)[:24]:<24} {run.tokens:>6} {_short(x):>10}  {limit}")
    return lines


def _exact(runs: dict[str, Run], bandwidth: float, peak: float) -> list[str]:
    """All numbers."""
    ridge = peak / bandwidth
    lines = [
        f"roofline, {len(runs)} points; {_short(bandwidth)} GB/s and {_short(peak)} GFLOP/s meet at "
        f"{_short(ridge)} FLOP/byte"
    ]
    heads = f"{'tokens':>6} {'FLOP/byte':>10}  {'limited by':<10} {'tokens/s':>9} {'GFLOP/s':>9}  of the roof"
    lines.append(f"{'point':<24} {heads}  turns at")
    for label, run in runs.items():
        x, speed = _intensity(run), run.speed * run.operations / 1e9
        limit, share = "memory" if x < ridge else "arithmetic", speed / _roof(x, bandwidth, peak)
        turn = ridge * run.read / run.operations
        lines.append(
            f"{words(label)[:24]:<24} {run.tokens:>6} {_short(x):>10}  {limit:<10} {_short(run.speed):>9} "
            f"{_short(speed):>9}  {share:>11.0%}  {_short(turn)} tokens at once"
        )
    return lines


def _draw(runs: dict[str, Run], bandwidth: float, peak: float) -> "Figure":
    figure = style.new_figure(8.0, 4.2)
    axes = figure.subplots()
    ridge = peak / bandwidth
    places = [(_intensity(run), run.speed * run.operations / 1e9) for run in runs.values()]
    low, high = min(ridge / 5, *(x for x, _ in places)) / 3, max(ridge, *(x for x, _ in places)) * 6
    bottom = min(_roof(low, bandwidth, peak), *(y for _, y in places)) / 2
    top = 2.5 * max(peak, *(y for _, y in places))
    axes.axvspan(low, ridge, color=style.TINTS[0], linewidth=0)
    axes.axvspan(ridge, high, color=style.TINTS[1], linewidth=0)
    axes.loglog([low, ridge, high], [low * bandwidth, peak, peak], color=style.INK, linewidth=2)
    axes.text(ridge / 1.15, top / 1.15, "limited by memory", ha="right", va="top", size=9)
    axes.text(ridge * 1.15, top / 1.15, "by arithmetic", ha="left", va="top", size=9)
    for number, ((label, run), (x, y)) in enumerate(zip(runs.items(), places, strict=True)):
        marker, colour = style.MARKS[number % len(style.MARKS)]
        name = f"{drawn_words(label, 24)}: {_short(run.speed)} tokens/s"
        inside = colour if number < len(style.MARKS) else "white"
        axes.plot(x, y, marker, markersize=8, color=inside, mec=colour, linestyle="none", label=name)
    axes.set(xlim=(low, high), ylim=(bottom, top), ylabel="GFLOP/s")
    axes.set_xlabel(f"FLOP/byte; the roof: {_short(bandwidth)} GB/s, {_short(peak)} GFLOP/s")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8.5)
    return figure
