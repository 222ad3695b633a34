"""How a matrix lies in memory for the kernel: eight rows beside each other, four columns of each at a time.

    codes, 4 bits:   [rows/8][columns/32][4][8 rows][4]    low half of a byte: column 4c+k, high half: 16+4c+k
    codes, 8 bits:   [rows/8][columns/32][8][8 rows][4]
    scales, minima:  [rows/8][groups][8 rows]

The same on every processor. Rows that are missing to the next sixteen are filled up with zeros. The two
halves of a byte belong together in GGUF's Q4_0 and Q4_1, too, so those need no unpacking.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tinyphi.kernels import pages

ROWS, COLUMNS = 8, 32
_PADDING = 16  # rows that the widest processor takes at once


def to_tiles(codes: Tensor) -> Tensor:
    """Codes (o i), uint8 0 … 15 or int8, with i a multiple of 32, to bytes in the order of the kernel."""
    if codes.dtype == torch.int8:
        return _in_order(rearrange(codes, "o (b byte) -> o b byte", byte=COLUMNS))
    low, high = rearrange(codes, "o (b half byte) -> half o b byte", half=2, byte=COLUMNS // 2)
    return _in_order(low | high << 4)


def blocks_to_tiles(halves: Tensor) -> Tensor:
    """The 16 bytes of codes of each block of Q4_0 or Q4_1, (o blocks 16), in the order of the kernel."""
    return _in_order(halves)


def _in_order(blocks: Tensor) -> Tensor:
    """Blocks (o b bytes) → (t b c 8 4). Four bytes stay together, so they are moved as one number."""
    words = rearrange(_padded(blocks).contiguous().view(torch.int32), "(t r) b c -> t b c r", r=ROWS)
    tiles = pages.empty(words.shape, torch.int32).copy_(words)
    return tiles.view(blocks.dtype).view(*tiles.shape, 4)


def from_tiles(tiles: Tensor, outputs: int) -> Tensor:
    """The inverse of `to_tiles`: back to codes (o i)."""
    if tiles.dtype == torch.int8:
        codes = rearrange(tiles, "t b c r k -> (t r) (b c k)")
    else:
        halves = torch.stack((tiles & 15, tiles >> 4))
        codes = rearrange(halves, "half t b c r k -> (t r) (b half c k)")
    return codes[:outputs]


def scales_to_tiles(scales: Tensor) -> Tensor:
    """(o groups) → (o/8 groups 8)."""
    return rearrange(_padded(scales), "(t r) g -> t g r", r=ROWS).contiguous()


def scales_from_tiles(tiles: Tensor, outputs: int) -> Tensor:
    """The inverse of `scales_to_tiles`."""
    return rearrange(tiles, "t g r -> (t r) g")[:outputs]


def _padded(rows: Tensor) -> Tensor:
    missing = -len(rows) % _PADDING
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, missing)) if missing else rows


def rows(tiles: Tensor, ids: Tensor) -> Tensor:
    """Some rows of the codes: ids (k) → (k i)."""
    picked = tiles[ids // ROWS, :, :, ids % ROWS]  # (k blocks chunks 4)
    if tiles.dtype == torch.int8:
        return picked.flatten(1)
    return rearrange(torch.stack((picked & 15, picked >> 4)), "half n b c k -> n (b half c k)")


def scale_rows(tiles: Tensor, ids: Tensor) -> Tensor:
    """Some rows of the scales or minima: ids (k) → (k groups)."""
    return tiles[ids // ROWS, :, ids % ROWS]
