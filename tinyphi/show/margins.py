"""Reward margins: how far a model has come to prefer the chosen answers, and what β makes of that."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import digits, finite, spread, two_decimals
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PAIRS, MOST_ROWS = 2000, 500
_LEAST_BETA, _MOST_BETA = 0.01, 10.0
_LOGGED = ("rewards/accuracies", "rewards/margins")

Row = Mapping[str, Any]


def margins(chosen: Tensor, rejected: Tensor, beta: float = 0.1, log: Sequence[Row] = ()) -> View:
    """Log-ratios of chosen and rejected answers, pair by pair, and DPO's loss for any β.

    chosen, rejected  (pairs) log π − log π_ref of each answer, nats; β times them are the implicit rewards.
                      At most 2000 pairs
    beta              between 0.01 and 10, with which the model was trained
    log               rows of a trainer's log with "step", "rewards/accuracies" and "rewards/margins"; others
                      are passed over

    With Δ = chosen − rejected, the model prefers the chosen answer with probability σ(βΔ), and the loss is
    −log σ(βΔ). In the live face a slider changes β for the same model: its preference order stays, and the
    loss and its slope, the weight with which each pair pulls, do not. Source: Rafailov et al. 2023 (arXiv
    2305.18290), eqs. 5 and 7. Raises InputError for other shapes, numbers that are not finite and β outside.
    """
    usage = "margins() takes chosen and rejected log-ratios, each (pairs)"
    pairs = [finite(values, 1, usage) for values in (chosen, rejected)]
    sizes = [len(values) for values in pairs]
    if sizes[0] != sizes[1] or sizes[0] > MOST_PAIRS:
        raise InputError(
            f"{usage}, as many of both and at most {MOST_PAIRS}; these are {sizes[0]} and {sizes[1]}."
        )
    both = torch.stack(pairs)
    if not _LEAST_BETA <= beta <= _MOST_BETA:
        raise InputError(f"beta is {beta!r}; this view takes {_LEAST_BETA} to {_MOST_BETA:g}.")
    rows = _logged(log)
    margin = both[0] - both[1]
    accuracy = float((margin > 0).double().mean())
    alt = (
        f"{len(margin)} pairs, β {beta:g}: {accuracy:.1%} prefer the chosen answer, mean reward margin "
        f"{digits(float(beta * margin.mean()))}, loss {digits(float(-F.logsigmoid(beta * margin).mean()))}."
    )
    data = {
        "pairs": pack(both.T),
        "beta": beta,
        "betas": [_LEAST_BETA, _MOST_BETA],
        "log": [[row[0], *(float(f"{value:.5g}") for value in row[1:])] for row in rows],
    }
    text = "\n".join(_digest(both, beta, rows))
    return View(text, alt, lambda: _draw(both, beta, rows), live=Live("margins", data))


def _logged(log: Sequence[Row]) -> list[tuple[float, float, float]]:
    """Step, accuracy and margin of the rows that have them, at most `MOST_ROWS`."""
    names = ("step", *_LOGGED)
    rows = [tuple(float(row[name]) for name in names) for row in log if {*names} <= row.keys()]
    known = [(row[0], row[1], row[2]) for row in rows if all(map(math.isfinite, row))]
    return [known[i] for i in spread(len(known), MOST_ROWS)] if len(known) > MOST_ROWS else known


def _digest(both: Tensor, beta: float, rows: Sequence[tuple[float, float, float]]) -> list[str]:
    chosen, rejected = both
    margin = beta * (chosen - rejected)
    lines = [f"{len(margin)} pairs, beta {beta:g}: {int((margin > 0).sum())} prefer the chosen answer"]
    for name, values in (("chosen", beta * chosen), ("rejected", beta * rejected), ("margin", margin)):
        ends = torch.quantile(values, torch.tensor([0, 0.25, 0.5, 0.75, 1.0], dtype=values.dtype))
        quarters = " ".join(f"{two_decimals(end):>8}" for end in ends)
        lines.append(f"  {name:>8} rewards: mean {two_decimals(values.mean()):>7}, quarters {quarters}")
    lines.append(f"  loss {two_decimals(-F.logsigmoid(margin).mean())}; at margin 0 it is 0.69")
    for step, accuracy, mean in [rows[i] for i in spread(len(rows), 5)] if len(rows) > 5 else rows:
        lines.append(f"  step {int(step):>6}: accuracy {accuracy:.2f}, margin {mean:.2f}")
    return lines


def _draw(both: Tensor, beta: float, rows: Sequence[tuple[float, float, float]]) -> "Figure":
    figure = style.new_figure(9.0 if rows else 7.5, 3.2)
    places: Any = [["rewards", "loss", "accuracy"], ["rewards", "loss", "margin"]]
    axes: Any = figure.subplot_mosaic(places if rows else [["rewards", "loss"]])
    chosen, rejected = (beta * both).tolist()
    margin = (beta * (both[0] - both[1])).tolist()
    low, high = min(chosen + rejected), max(chosen + rejected)
    edges = [low + (high - low or 1) * place / 24 for place in range(25)]
    axes["rewards"].hist(rejected, edges, color=style.ORANGE, alpha=0.75, label="rejected", hatch="///")
    axes["rewards"].hist(chosen, edges, color=style.BLUE, alpha=0.6, label="chosen")
    axes["rewards"].set(xlabel=f"reward, β = {beta:g}", ylabel="answers")
    axes["rewards"].legend(fontsize=8.5)
    reach = max(4.0, *(abs(value) for value in margin)) * 1.05
    along = torch.linspace(-reach, reach, 200)
    axes["loss"].plot(along, -F.logsigmoid(along), color=style.INK, linewidth=1.2)
    losses = (-F.logsigmoid(torch.tensor(margin))).tolist()
    axes["loss"].scatter(margin, losses, s=12, color=style.BLUE, alpha=0.5, linewidths=0)
    axes["loss"].axvline(0, color=style.GREY, linewidth=0.8)
    axes["loss"].set(xlabel="reward margin βΔ", ylabel="loss −log σ(βΔ)")
    for number, name in enumerate(("accuracy", "margin") if rows else (), start=1):
        steps, values = [row[0] for row in rows], [row[number] for row in rows]
        axes[name].plot(steps, values, color=style.BLUE)
        axes[name].set(ylabel=name, ylim=(min(0.0, *values), 1.05 * max(1.0, *values)))
    if rows:
        axes["accuracy"].set_xticklabels([])
        axes["margin"].set_xlabel("step of the training")
    return figure
