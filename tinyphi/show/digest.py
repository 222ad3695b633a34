"""One line of text for any tensor: shape, statistics, first values, at a fixed precision.

Two machines that compute the same thing differ in the last bits, so a digest shows four significant digits
*of the largest value* and no more: a mean of 1e-9 that is only what rounding left over prints as 0.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tinyphi.errors import InputError

FIRST = 4  # values shown at the end of the line
_CHUNK = 1 << 20  # statistics go through float64 in pieces, so that a large tensor is never copied whole


def show(x: Any, name: str = "") -> None:
    """Print one line about `x`: a tensor of any shape, a number, or nested lists of numbers.

    Shown are dtype, shape, mean, standard deviation (as `torch.std`), smallest and largest of the finite
    values, how many are NaN or infinite, and the first values. Raises InputError for all but real numbers.
    """
    print(digest(x, name))


def digest(x: Any, name: str = "") -> str:
    """The line that `show` prints."""
    tensor = _as_tensor(x)
    prefix = f"{name}: " if name else ""
    dtype = str(tensor.dtype).removeprefix("torch.")
    head = f"{prefix}{dtype} ({', '.join(map(str, tensor.shape))})"
    if tensor.numel() == 0:
        return f"{head} empty"
    if tensor.dtype == torch.bool:
        return f"{head} {int(tensor.sum())} of {tensor.numel()} true"
    scale = _largest(tensor)
    integers = not tensor.dtype.is_floating_point
    values = tensor.flatten()[:FIRST].tolist()
    shown = " ".join(str(value) if integers else fixed(value, scale) for value in values)
    if tensor.numel() == 1:
        return f"{head} {shown}"
    more = " …" if tensor.numel() > FIRST else ""
    return f"{head} {statistics(tensor)} | {shown}{more}"


def statistics(tensor: Tensor) -> str:
    """Mean, standard deviation, smallest and largest of the finite values, and how many are not finite."""
    count, total, low, high = 0, 0.0, math.inf, -math.inf
    for part in _finite_parts(tensor):
        count, total = count + part.numel(), total + part.sum().item()
        low, high = min(low, part.min().item()), max(high, part.max().item())
    counts = {"nan": int(tensor.isnan().sum()), "inf": int(tensor.isinf().sum())}
    odd = "".join(f" {kind} {found}" for kind, found in counts.items() if found)
    if count == 0:
        return f"no finite value{odd}"
    mean, scale = total / count, max(abs(low), abs(high))
    squares = sum(((part - mean) ** 2).sum().item() for part in _finite_parts(tensor))
    std = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
    ends = [low, high]
    bounds = [fixed(end, scale) if tensor.dtype.is_floating_point else str(int(end)) for end in ends]
    return f"mean {fixed(mean, scale)} std {fixed(std, scale)} min {bounds[0]} max {bounds[1]}{odd}"


def fixed(value: float, scale: float | None = None) -> str:
    """`value` as precisely as four significant digits of `scale` (itself, when None) are; never "-0"."""
    if not math.isfinite(value):
        return str(value)
    scale = abs(value) if scale is None else scale
    exponent = max(-300, math.floor(math.log10(scale))) if scale > 0 else 0
    if -4 <= exponent < 7:
        text = f"{value:.{max(0, 3 - exponent)}f}"
        suffix = ""
    else:
        text = f"{value / 10.0**exponent:.3f}"
        suffix = f"e{exponent:+03d}"
    return (text if text.strip("-0.") else text.removeprefix("-")) + suffix


def _as_tensor(x: Any) -> Tensor:
    try:
        tensor = x.detach() if isinstance(x, Tensor) else torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(x).__name__
        raise InputError(
            f"show() takes a tensor, a number or lists of numbers of equal length, not this {kind}: {error}"
        ) from error
    if tensor.is_complex():
        raise InputError("show() takes real numbers, not complex ones; show x.real and x.imag instead.")
    return tensor


def _finite_parts(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.flatten()
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK]
        finite = part[part.isfinite()].to("cpu", torch.float64)
        if finite.numel():
            yield finite


def _largest(tensor: Tensor) -> float:
    return max((part.abs().max().item() for part in _finite_parts(tensor)), default=0.0)
