"""A few weights under the microscope: the levels they may take, where each lands, and which bits are kept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed
from tinyphi.show.given import digits, finite
from tinyphi.show.live import Live, pack
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WEIGHTS = 512
_LARGEST = 65504.0  # of float16, in which the scales of groups are kept
_LINES = 16  # weights of the digest, and bytes of the figure
_USAGE = (
    "bit_microscope() takes a part of one row: weight (i), codes (i), scales (n), such as weight[0, :128]"
)


def bit_microscope(
    weight: Tensor, codes: Tensor, scales: Tensor, minima: Tensor | None = None, group: int = 0
) -> View:
    """A part of one row of a matrix in 4 or 8 bits: levels, codes, bytes, and the error of each weight.

    weight   (i) as it was; at most 512 numbers, whole groups
    codes    (i) uint8, 0 … 15, for 4 bits, two in a byte; or int8 for 8 bits
    scales   (n), one for each group of i/n neighbours: what one step of a code is worth
    minima   (n) what code 0 is worth; without them 4-bit code 8 and 8-bit code 0 stand for 0.0
    group    where to begin

    The codes are shown as given, however they were found. The live face can also round the same weights
    again, to the nearest levels of 2, 3, 4 or 8 bits in groups of 16 to 128, as `tinyphi.quant.groupwise`
    does, and compares bytes and errors. The error of several weights is its root mean square, relative to
    that of the weights. Raises InputError for what does not fit together.
    """
    part = _Part.read(weight, codes, scales, minima)
    groups = len(part.scales)
    if not isinstance(group, int) or not 0 <= group < groups:
        raise InputError(f"group={group!r}, but this part has the groups 0 … {groups - 1}.")
    data = {
        "weight": pack(part.weight),
        "codes": pack(part.codes, "int32"),
        "scales": pack(part.scales),
        "minima": None if part.minima is None else pack(part.minima),
        "bits": part.bits,
        "bytes": part.nbytes,
        "group": group,
    }
    text = _digest(part, group)
    alt = (
        f"The weights of group {group} beside the levels that {part.bits} bits allow, and the bytes that "
        f"keep them; {text.splitlines()[1]}."
    )
    return View(text, alt, lambda: _draw(part, group), live=Live("bit_microscope", data))


@dataclass(frozen=True)
class _Part:
    """What is under the microscope, in copies: weight (i), codes (i), scales (n) and minima (n)."""

    weight: Tensor  # float32, as all numbers here
    codes: Tensor  # int32
    scales: Tensor
    minima: Tensor | None
    bits: int
    nbytes: int  # of codes, scales and minima, as they are stored

    @classmethod
    def read(cls, weight: Tensor, codes: Tensor, scales: Tensor, minima: Tensor | None) -> "_Part":
        numbers = [finite(tensor, 1, _USAGE).float() for tensor in (weight, scales)]
        low = None if minima is None else finite(minima, 1, _USAGE).float()
        count, groups = (len(tensor) for tensor in numbers)
        if count > MOST_WEIGHTS or count % groups or numbers[0].abs().max() > _LARGEST:
            raise InputError(
                f"{_USAGE}; this is {count} weights in {groups} groups, the largest "
                f"{numbers[0].abs().max():.3g}. At most {MOST_WEIGHTS} weights in whole groups can be shown, "
                f"and none beyond {_LARGEST:.0f}."
            )
        if low is not None and len(low) != groups:
            raise InputError(f"{len(low)} minima for {groups} scales: each group has one of both.")
        bits = _bits(codes, count, count // groups, low)
        nbytes = count * bits // 8 + scales.nbytes + (0 if minima is None else minima.nbytes)
        return cls(numbers[0], codes.detach().to("cpu", torch.int32), numbers[1], low, bits, nbytes)

    @property
    def size(self) -> int:
        return len(self.weight) // len(self.scales)

    def levels(self, group: int) -> Tensor:
        """What each code of a group is worth, from the lowest code to the highest."""
        first, count = (0, 16) if self.bits == 4 else (-128, 256)
        return self.worth(torch.arange(first, first + count), group)

    def worth(self, codes: Tensor, group: int) -> Tensor:
        zero = 8 if self.bits == 4 and self.minima is None else 0
        worth = (codes - zero) * self.scales[group]
        return worth if self.minima is None else worth + self.minima[group]

    def group(self, group: int) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, codes, and what the codes are worth, of one group: (g) each."""
        here = slice(group * self.size, (group + 1) * self.size)
        return self.weight[here], self.codes[here], self.worth(self.codes[here], group)

    def error(self) -> tuple[float, int, float]:
        """Relative to the weights' root mean square; the weight that is farthest off, and by how much."""
        worth = torch.cat([self.group(number)[2] for number in range(len(self.scales))])
        off = worth.double() - self.weight.double()
        share = off.norm() / self.weight.double().norm().clamp_min(1e-300)
        return share.item(), int(off.abs().argmax()), off.abs().max().item()

    def bytes_of(self, group: int) -> list[int]:
        """The bytes of a group's codes; of two 4-bit codes the first is in the low half."""
        codes = self.group(group)[1] & (2**self.bits - 1)
        packed = codes if self.bits == 8 else codes[0::2] | codes[1::2] << 4
        return [int(byte) for byte in packed]


def _bits(codes: Tensor, count: int, size: int, minima: Tensor | None) -> int:
    kinds = {torch.uint8: 4, torch.int8: 8}
    dtype = codes.dtype if isinstance(codes, Tensor) else None
    if dtype not in kinds or tuple(codes.shape) != (count,) or (dtype == torch.uint8 and codes.max() > 15):
        raise InputError(f"{_USAGE}; codes are one for each of the {count} weights: uint8 0 … 15, or int8.")
    if kinds[dtype] == 8 and minima is not None:
        raise InputError("8-bit codes (int8) are around zero and have no minima.")
    if kinds[dtype] == 4 and size % 2:
        raise InputError(f"Groups of {size}: two 4-bit codes share a byte, so the size of a group is even.")
    return kinds[dtype]


def _digest(part: _Part, group: int) -> str:
    share, farthest, by = part.error()
    weight, codes, worth = part.group(group)
    levels = part.levels(group)
    scale = max(weight.abs().max().item(), worth.abs().max().item())
    finer = 10 * (worth - weight).abs().max().item()
    low, high = (fixed(end.item(), scale) for end in (levels.min(), levels.max()))
    step = digits(part.scales[group].item())
    groups, first = len(part.scales), group * part.size
    lines = [
        f"{len(part.weight)} weights in {groups} group{'s' * (groups > 1)} of {part.size}, {part.bits} bits: "
        f"{part.nbytes} bytes, {8 * part.nbytes / len(part.weight):.2f} bits a weight",
        f"error {_short(100 * share)} % of the root mean square; farthest off is weight {farthest}, "
        f"by {_short(by)}",
        f"group {group}: {len(levels)} levels from {low} to {high}, in steps of {step}",
        f"weight {'was':>10}  code  {'bits':>8} {'is':>10} {'error':>10}",
    ]
    for number, (was, code, now) in enumerate(zip(weight[:_LINES], codes, worth, strict=False)):
        bits = f"{int(code) & (2**part.bits - 1):0{part.bits}b}"
        values = f"{fixed(now.item(), scale):>10} {fixed((now - was).item(), finer):>10}"
        lines.append(
            f"{first + number:>6} {fixed(was.item(), scale):>10}  {int(code):>4}  {bits:>8} {values}"
        )
    if part.size > _LINES:
        lines.append(f"… and {part.size - _LINES} more of this group")
    shown = part.bytes_of(group)[: _LINES * part.bits // 8]
    return "\n".join([*lines, f"bytes: {' '.join(f'{byte:02X}' for byte in shown)}"])


def _short(value: float) -> str:
    """Three digits."""
    return fixed(value, 10 * value)


def _draw(part: _Part, group: int) -> "Figure":
    figure = style.new_figure(8.0, 5.0)
    left, right = figure.subplots(1, 2, width_ratios=[2.1, 1])
    _draw_levels(left, part, group)
    _draw_bytes(right, part, group)
    return figure


def _draw_levels(axes: Any, part: _Part, group: int) -> None:
    """One line a weight: where it was, and the level on which it landed."""
    weight, _, worth = part.group(group)
    levels, rows = part.levels(group).numpy(), range(group * part.size, (group + 1) * part.size)
    axes.vlines(
        levels, rows[0] - 0.7, rows[-1] + 0.7, color=style.PALE, linewidth=0.9 if part.bits == 4 else 0.2
    )
    size = 5.5 if part.size <= 32 else 3.5
    axes.hlines(rows, weight.numpy(), worth.numpy(), color=style.INK, linewidth=1.2)
    axes.plot(worth.numpy(), rows, "s", color=style.ORANGE, markersize=size, label="is now")
    axes.plot(weight.numpy(), rows, "o", color=style.BLUE, markersize=size - 1, label="was")
    axes.set_ylim(rows[-1] + 0.7, rows[0] - 0.7)
    axes.set(xlabel="value; the lines are the levels, with their codes above", ylabel="weight")
    axes.locator_params(axis="y", integer=True)
    if part.bits == 4:
        above = axes.secondary_xaxis("top")
        above.set_xticks(levels, range(16), size=8)
        above.tick_params(length=0, pad=0)
        above.spines["top"].set_visible(False)
    axes.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2, borderpad=0)


def _draw_bytes(axes: Any, part: _Part, group: int) -> None:
    """The first bytes of the group, bit by bit, with the weights that are in them."""
    axes.set_axis_off()
    each, first = 8 // part.bits, group * part.size
    lines = [("byte", "weights", "bits", "hex")]
    for number, byte in enumerate(part.bytes_of(group)[:_LINES]):
        bits = f"{byte:08b}" if each == 1 else f"{byte >> 4:04b} {byte & 15:04b}"
        held = range(first + (number + 1) * each - 1, first + number * each - 1, -1)
        lines.append((str(first // each + number), ", ".join(map(str, held)), bits, f"{byte:02X}"))
    for number, line in enumerate(lines):
        for x, words in zip((0.0, 0.16, 0.47, 0.9), line, strict=True):
            weight = "bold" if number == 0 else "normal"
            axes.text(x, 0.98 - number * 0.055, words, family=style.MONO, size=8, va="top", weight=weight)
    if part.size // each > _LINES:
        axes.text(0, 0.98 - len(lines) * 0.055, f"… and {part.size // each - _LINES} more", size=8, va="top")
    scale = digits(part.scales[group].item())
    axes.set_title(f"stored: scale {scale} and {part.size // each} bytes", size=10)
