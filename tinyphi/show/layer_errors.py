"""Where rounding hurts: the error of every matrix of a model, and what it costs to keep some in 8 bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import drawn_words, finite, in_bytes, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MATRICES = 512
_TOP = 3  # most sensitive matrices in the digest


def layer_errors(
    names: Sequence[str],
    errors: Mapping[str, Sequence[float]],
    bytes: Sequence[int],
    kept: Mapping[str, str] | None = None,
    errors_in_8_bits: Mapping[str, Sequence[float]] | None = None,
    bytes_in_8_bits: Sequence[int] | None = None,
) -> View:
    """The relative error of each quantized matrix as a map, kinds by blocks, and against its bytes.

    names    as in the model: "layers.3.mlp.down_proj" stands in block 3, "lm_head" outside of the blocks
    errors   measure, such as "weights" or "real activations" → one number, 0 or more, for each name
    bytes    how many each matrix takes as it is stored
    kept     name → why this matrix stays in more bits; its numbers above are those of what was kept

    With `errors_in_8_bits` and `bytes_in_8_bits`, like the two above for every matrix in 8 bits, a slider
    keeps the k most sensitive ones there, those with the largest error by the measure shown, and tells total
    bytes and the sum of the errors. That sum only compares choices: what the errors of all layers together do
    to the model, a perplexity shows. The text has three digits. Raises InputError for lists that do not fit.
    """
    model = _Model.read(names, errors, bytes, kept or {}, errors_in_8_bits, bytes_in_8_bits)
    data = {
        "names": model.names,
        "kinds": model.kinds,
        "places": model.places,
        "errors": {measure: values.tolist() for measure, values in model.errors.items()},
        "bytes": model.bytes.long().tolist(),
        "kept": [model.kept.get(name) for name in model.names],
        "wide": model.wide
        and {
            "errors": {measure: values.tolist() for measure, values in model.wide.errors.items()},
            "bytes": model.wide.bytes.long().tolist(),
        },
    }
    text = "\n".join(_digest(model))
    alt = f"Heat map of the errors of {len(model.names)} matrices, and their errors against their bytes."
    return View(text, alt, lambda: _draw(model), live=Live("layer_errors", data))


@dataclass(frozen=True)
class _Wide:
    """Every matrix in 8 bits."""

    errors: dict[str, Tensor]
    bytes: Tensor


@dataclass(frozen=True)
class _Model:
    names: list[str]
    places: list[tuple[int, int]]  # (row of the heat map, block or −1) of each matrix
    kinds: list[str]  # the rows
    errors: dict[str, Tensor]  # measure → (m) float64
    bytes: Tensor  # (m)
    kept: dict[str, str]
    wide: _Wide | None

    @classmethod
    def read(
        cls, names: Any, errors: Any, bytes: Any, kept: Any, wide_errors: Any, wide_bytes: Any
    ) -> "_Model":
        names = list(names)
        if not 0 < len(names) <= MOST_MATRICES or len(set(names)) < len(names):
            raise InputError(
                f"layer_errors() takes 1 to {MOST_MATRICES} names, each once; these are {len(names)}."
            )
        if unknown := sorted(set(kept) - set(names)):
            raise InputError(f"kept has {unknown[0]!r}, which is not among the names.")
        if (wide_errors is None) != (wide_bytes is None):
            raise InputError("errors_in_8_bits and bytes_in_8_bits go together: give both, or none.")
        kinds = list(dict.fromkeys(_kind(name) for name in names))
        places = [(kinds.index(_kind(name)), _block(name)) for name in names]
        if len(set(places)) < len(places):
            raise InputError("two names stand for the same kind of matrix in the same block.")
        found = _measures("errors", errors, len(names))
        wide = None
        if wide_errors is not None:
            wide = _Wide(
                _measures("errors_in_8_bits", wide_errors, len(names)),
                _numbers("bytes_in_8_bits", wide_bytes, len(names), 1),
            )
            if list(wide.errors) != list(found):
                raise InputError(
                    f"errors has the measures {list(found)}, errors_in_8_bits {list(wide.errors)}."
                )
        return cls(names, places, kinds, found, _numbers("bytes", bytes, len(names), 1), dict(kept), wide)

    def sensitive(self, measure: str) -> list[int]:
        """The matrices that are not kept already, the one with the largest error first."""
        order = self.errors[measure].sort(descending=True, stable=True).indices.tolist()
        return [number for number in order if self.names[number] not in self.kept]

    def budget(self, measure: str) -> tuple[Tensor, Tensor]:
        """Total bytes and sum of the errors with the 0, 1, 2 … most sensitive in 8 bits: (1 + m) each."""
        assert self.wide is not None
        order = self.sensitive(measure)
        before = torch.stack((self.bytes, self.errors[measure]))
        after = torch.stack((self.wide.bytes, self.wide.errors[measure]))
        steps = torch.cat((before.sum(dim=1, keepdim=True), (after - before)[:, order]), dim=1)
        total, error = steps.cumsum(dim=1)
        return total, error


def _kind(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _block(name: str) -> int:
    """The number of the block that a matrix stands in, −1 for one outside of the blocks."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "layers" and len(parts) > 2 and parts[1].isdigit() else -1


def _measures(name: str, given: Any, count: int) -> dict[str, Tensor]:
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"{name} maps the name of a measure to its list, such as {{'weights': [0.08, …]}}.")
    return {str(one): _numbers(f"{name}[{one!r}]", values, count) for one, values in given.items()}


def _numbers(name: str, given: Any, count: int, least: int = 0) -> Tensor:
    try:
        numbers = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is not a list of numbers: {error}") from error
    numbers = finite(numbers, 1, f"{name} has one number for each of the {count} names")
    if len(numbers) != count or numbers.min() < least:
        raise InputError(f"{name} has {len(numbers)} numbers for {count} names; each is {least} or more.")
    return numbers


def _short(value: float) -> str:
    """Three digits."""
    return fixed(value, 10 * abs(value))


def _digest(model: _Model) -> list[str]:
    blocks = len({block for _, block in model.places if block >= 0})
    total = in_bytes(int(model.bytes.sum()))
    lines = [f"{len(model.names)} matrices, {blocks} blocks, {total}"]
    for measure, errors in model.errors.items():
        heads = "".join(f"{name:>10}" for name in ("smallest", "median", "largest"))
        lines += [f"error by {words(measure)}", f"{'kind':<20} {'matrices':>8} {'bytes':>10}{heads}"]
        for row, kind in enumerate(model.kinds):
            here = [number for number, place in enumerate(model.places) if place[0] == row]
            ends = (errors[here].min(), errors[here].median(), errors[here].max())
            numbers = "".join(f"{_short(end.item()):>10}" for end in ends)
            size = in_bytes(int(model.bytes[here].sum()))
            lines.append(f"{words(kind)[:20]:<20} {len(here):>8} {size:>10}{numbers}")
        top = [(words(model.names[i]), _short(errors[i].item())) for i in model.sensitive(measure)[:_TOP]]
        lines.append("most sensitive: " + ", ".join(f"{name} {error}" for name, error in top))
        if model.wide is not None:
            lines += _budget_lines(*model.budget(measure))
    return lines + [f"kept: {words(name)}: {words(reason)}" for name, reason in list(model.kept.items())[:16]]


def _budget_lines(total: Tensor, error: Tensor) -> list[str]:
    steps = sorted({0, 1, 4, 16, 64, len(total) - 1} & set(range(len(total))))
    sums = [(k, in_bytes(int(total[k])), _short(error[k].item())) for k in steps]
    return [f"{k:>4} most sensitive in 8 bits: {size:>10}, sum of errors {sum}" for k, size, sum in sums]


def _draw(model: _Model) -> "Figure":
    measures = list(model.errors)[:2]
    figure = style.new_figure(8.0, 2.6 + len(measures) * (0.75 + 0.24 * len(model.kinds)))
    heights = [*[0.6 + 0.24 * len(model.kinds)] * len(measures), 2.6]
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    for part, measure in zip(parts, measures, strict=False):
        _draw_map(part, model, measure)
    panels: Any = parts[-1].subplots(1, 1 if model.wide is None else 2, squeeze=False)[0]
    _draw_bytes(panels[0], model, measures[0])
    if model.wide is not None:
        _draw_budget(panels[1], *model.budget(measures[0]))
    return figure


def _draw_map(part: Any, model: _Model, measure: str) -> None:
    axes = part.subplots()
    blocks = sorted({block for _, block in model.places})
    cells = torch.full((len(model.kinds), len(blocks)), torch.nan)
    for (row, block), error in zip(model.places, model.errors[measure], strict=True):
        cells[row, blocks.index(block)] = error
    shown = model.errors[measure][model.sensitive(measure)]
    low, high = (shown.min().item(), shown.max().item()) if len(shown) else (0.0, 1.0)
    low -= 0.15 * (high - low)  # the least error has a colour too
    edges = ([place - 0.5 for place in range(count + 1)] for count in (len(blocks), len(model.kinds)))
    image = axes.pcolormesh(
        *edges, cells.numpy(), cmap=style.SEQUENTIAL, vmin=low, vmax=high, edgecolors="white", linewidth=0.5
    )
    axes.invert_yaxis()
    axes.spines[["left", "bottom"]].set_visible(False)
    kept = [place for name, place in zip(model.names, model.places, strict=True) if name in model.kept]
    if kept:
        x, y = [blocks.index(block) for _, block in kept], [row for row, _ in kept]
        axes.plot(x, y, "o", markersize=6, color="white", mec=style.INK, label="kept in more bits")
        axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, borderaxespad=0.2)
    every = -(-len(blocks) // 32)
    labels = ["none" if block < 0 else str(block) for block in blocks]
    axes.set_xticks(range(len(blocks))[::every], labels[::every], size=7.5)
    axes.set_yticks(range(len(model.kinds)), [drawn_words(kind, 18) for kind in model.kinds], size=8)
    axes.set_title(f"error by {drawn_words(measure, 40)}", size=10)
    axes.set_xlabel("block", size=9, labelpad=1)
    axes.tick_params(length=2)
    part.colorbar(image, ax=axes, pad=0.01, extend="min" if kept else "neither").ax.tick_params(labelsize=8)


def _draw_bytes(axes: Any, model: _Model, measure: str) -> None:
    for row, kind in enumerate(model.kinds):
        here = [number for number, place in enumerate(model.places) if place[0] == row]
        marker, colour = style.MARKS[row % len(style.MARKS)]
        x, y = model.bytes[here].numpy(), model.errors[measure][here].numpy()
        axes.plot(x, y, marker, color=colour, markersize=5, alpha=0.8, mew=0, label=drawn_words(kind, 18))
    axes.set_xscale("log", base=2)
    low, high = 0.7 * model.bytes.min().item(), 1.4 * model.bytes.max().item()
    ticks = [4**power for power in range(17) if low <= 4**power <= high]
    axes.set_xticks(ticks, [in_bytes(tick).replace(".0", "") for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=(low, high), ylim=(0, 1.08 * model.errors[measure].max().item() or 1))
    axes.set(xlabel="bytes of the matrix (log scale)", ylabel=f"error by {drawn_words(measure, 40)}")
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)
    axes.legend(fontsize=8, loc="best")


def _draw_budget(axes: Any, total: Tensor, error: Tensor) -> None:
    mebibytes = total / 2**20
    axes.plot(mebibytes.numpy(), error.numpy(), color=style.BLUE, marker="o", markersize=3)
    for k, side, away in ((0, "left", (2, 9)), (len(total) - 1, "right", (-8, 0))):
        place = (mebibytes[k].item(), error[k].item())
        beside: Any = {"xytext": away, "textcoords": "offset points", "va": "center", "ha": side}
        axes.annotate(f"{k} in 8 bits", place, size=8.5, **beside)
    axes.set_ylim(0, 1.15 * error.max().item() or 1)
    axes.set(xlabel="total MiB, the most sensitive kept in 8 bits", ylabel="sum of errors")
    axes.grid(axis="y", color=style.PALE, linewidth=0.6)
