"""How many tokens each pair of RoPE needs for one turn, and what slows it down."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import digits, drawn_words, speeds_of_pairs, spread, words
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SERIES = 6
_LINES = 9  # pairs in the digest


def wavelengths(speeds: Mapping[str, Tensor], context: int) -> View:
    """Tokens for one turn of each pair, beside the context, and by how much each series is slower.

    speeds   label → (r) radians per token, such as `inverse_frequencies` gives; up to 6 of one length. The
             first are those that the factors of the others refer to
    context  tokens of training: a pair that needs more for a turn has angles that were never met

    The live face says a pair's numbers. If the first series are RoPE's own speeds, each pair slower than the
    one before by the same ratio, it also has an explorer: it draws the factors of PI, NTK, YaRN or a ramp
    for texts up to 64 times as long.

    Source: LongRoPE (arXiv 2402.13753), sec. 2.1; YaRN (arXiv 2309.00071), sec. 3.2, for "wavelength".
    Raises InputError for speeds that are not finite and above zero, and for lists of different lengths.
    """
    usage = "wavelengths() takes speeds (r), radians per token"
    rows = {name: speeds_of_pairs(values, f"{usage}; {name!r}") for name, values in speeds.items()}
    if not 0 < len(rows) <= MOST_SERIES or len({len(row) for row in rows.values()}) > 1:
        raise InputError(f"wavelengths() takes 1 to {MOST_SERIES} series of one length, one speed per pair.")
    if not isinstance(context, int) or context < 1:
        raise InputError(f"context is {context!r}; give a whole number of tokens above 0.")
    turns = {name: 2 * math.pi / row for name, row in rows.items()}
    never = ", ".join(f"{words(name)} {int((row > context).sum())}" for name, row in turns.items())
    text = "\n".join(_digest(turns, context))
    alt = f"Tokens per turn of {len(next(iter(rows.values())))} pairs; slower than {context}: {never}."
    packed = pack(torch.stack(list(rows.values())))
    explore = _falls_by_one_ratio(next(iter(rows.values())))
    data = {"labels": list(rows), "speeds": packed, "context": context, "explore": explore}
    return View(text, alt, lambda: _draw(turns, context), live=Live("wavelengths", data))


def _falls_by_one_ratio(speeds: Tensor) -> bool:
    ratios = speeds[:-1] / speeds[1:]
    return len(ratios) > 0 and bool(ratios.min() > 1 and ratios.max() < 1.001 * ratios.min())


def _digest(turns: dict[str, Tensor], context: int) -> list[str]:
    first = next(iter(turns.values()))
    count = len(first)
    lines = [f"wavelengths, {count} pairs, tokens for one turn and factor beside {words(next(iter(turns)))}"]
    lines.append("pair " + "".join(f"{words(name)[:17]:>18}" for name in turns))
    for pair in spread(count, _LINES):
        cells = [f"{digits(row[pair].item())} ×{row[pair] / first[pair]:.2f}" for row in turns.values()]
        lines.append(f"{pair:>4} " + "".join(f"{cell:>18}" for cell in cells))
    lines.append(f"pairs that never turn round in {context} tokens: ")
    lines[-1] += ", ".join(f"{words(name)} {int((row > context).sum())}" for name, row in turns.items())
    return lines


def _draw(turns: dict[str, Tensor], context: int) -> "Figure":
    one = len(turns) == 1
    figure = style.new_figure(5.4 if one else 9.6, 3.5)
    panels = figure.subplots(1, 1 if one else 2, squeeze=False)[0]
    first = next(iter(turns.values()))
    for (name, row), (marker, colour) in zip(turns.items(), style.MARKS, strict=False):
        look = {"marker": marker, "color": colour, "markersize": 3, "linewidth": 1.1}
        panels[0].semilogy(row.numpy(), label=drawn_words(name, 20), **look)
        if not one:
            panels[1].semilogy((row / first).numpy(), label=drawn_words(name, 20), **look)
    panels[0].axhline(context, color=style.INK, linestyle="--", linewidth=1)
    panels[0].text(0, context * 1.25, f"context: {context:,} tokens", size=9)
    panels[0].set(xlabel="pair, fast to slow", ylabel="tokens for one turn (log)")
    if not one:
        panels[1].set(xlabel="pair, fast to slow", ylabel="times slower (log)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8.5)
    return figure
