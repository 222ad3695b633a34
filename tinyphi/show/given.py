"""What several views share: what they ask of tensors and labels, and how they write numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.digest import fixed

_MOST_PAIRS = 1024


def shaped(tensor: object, usage: str, *axes: int) -> Tensor:
    """`tensor` if it has one of these numbers of axes and is not empty; an InputError with `usage` if not."""
    if not isinstance(tensor, Tensor) or tensor.dim() not in axes or tensor.numel() == 0:
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"{usage}; this is {shape}.")
    return tensor


def finite(tensor: object, axes: int, usage: str) -> Tensor:
    """`tensor` in float64 on the CPU. Raises InputError, beginning with `usage`, for what cannot be shown."""
    tensor = shaped(tensor, usage, axes)
    if tensor.is_complex() or not tensor.isfinite().all():
        raise InputError(f"{usage}, of finite real numbers; this tensor has others.")
    return tensor.detach().to("cpu", torch.float64)


def row_of(tensor: Tensor, row: int) -> Tensor:
    """One row of a batch (b …). Raises InputError for a row that is not there."""
    if not isinstance(row, int) or not 0 <= row < tensor.shape[0]:
        raise InputError(f"row={row!r}, but this trace has rows 0 … {tensor.shape[0] - 1}.")
    return tensor[row].detach().to("cpu", torch.float64)


def labels_for(labels: Sequence[str] | None, tokens: int) -> list[str]:
    """One text for each token, its number where none are given. Raises InputError for another count."""
    if labels is None:
        return [str(place) for place in range(tokens)]
    if isinstance(labels, str) or len(labels) != tokens:
        raise InputError(f"{len(labels)} labels for {tokens} tokens: give one per token.")
    return list(labels)


def check_sources(queries: int, sources: int, labels: Sequence[str] | None) -> None:
    """For weights or masks (t s), whose queries are the last t of s tokens. Raises InputError otherwise."""
    if queries > sources:
        raise InputError(f"{queries} queries but only {sources} source tokens.")
    if labels is not None and (isinstance(labels, str) or len(labels) != sources):
        raise InputError(f"{len(labels)} labels for {sources} source tokens: give one text per source token.")


def digits(value: float) -> str:
    """Four digits. What is round by nature, such as 1, looks the same when rounding makes it 0.99999."""
    return fixed(value, 1.01 * abs(value))


def two_decimals(value: Tensor) -> str:
    """For shares and cosines, whose scale is 1."""
    return fixed(value.item(), 10.0)


def in_bytes(count: int) -> str:
    """Bytes in the unit in which they are a small number."""
    if count < 1024:
        return f"{count} bytes"
    power = 1 if count < 1024**2 else 2 if count < 1024**3 else 3
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def words(text: str) -> str:
    """A name or a sentence on one line: spaces stay, all that cannot be printed becomes visible."""
    return " ".join(map(style.visible, text.split()))


def drawn_words(text: str, longest: int) -> str:
    """`words(text)` as matplotlib can draw it, shortened."""
    line = words(text)
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return " ".join(style.drawable(word, longest) for word in line.split(" "))


def column(label: str, width: int = 14) -> str:
    """A token's text as the first column of a digest."""
    shown = style.visible(label)
    return f"{shown if len(shown) <= width else shown[: width - 1] + '…':<{width}}"


def speeds_of_pairs(values: object, usage: str) -> Tensor:
    """RoPE's speeds (r), radians per token. Raises InputError, beginning with `usage`, for others."""
    row = finite(values, 1, usage)
    if row.min() <= 0 or len(row) > _MOST_PAIRS:
        raise InputError(f"{usage}: above zero, and at most {_MOST_PAIRS} of them.")
    return row


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, first and last among them."""
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
