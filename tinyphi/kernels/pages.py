"""Memory in large pages, for what is read from end to end for every token.

A processor looks up where each page of memory lies. In pages of 2 MB instead of 4 KB it looks 512 times less
often, and reads ahead without a stop at each border.
"""

import ctypes
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """As torch.empty on the CPU, in large pages where the system has them (Linux), and not yet written to."""
    tensor = torch.empty(shape, dtype=dtype, device="cpu")
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None:
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = tensor.data_ptr() + tensor.nbytes - start
        if size > 0:  # an answer is not needed: without large pages it is as it was
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)
    return tensor
