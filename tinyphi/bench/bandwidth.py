"""How fast this machine reads memory, and how much of that decoding reaches.

Each new token needs every weight once, so decoding can be no faster than the weights can be read:

    share = bytes of weights read for a token · tokens/s ÷ bytes/s that the machine can read
"""

from typing import NamedTuple

import torch

from tinyphi.bench.timing import seconds
from tinyphi.kernels import pages
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.load import read_config

_READ = 1 << 28  # numbers: 1 GB of float32, more than any processor's cache holds
_TIMES = 10


class Weights(NamedTuple):
    """What a model reads of its weights for one token."""

    numbers: int
    nbytes: int  # as the file stores them


def weights_read(file: GGUFFile) -> Weights:
    """All matrices of a file once, without the embedding, of which a token needs one row.

    A tied embedding counts: it is read as the head.
    """
    config, layout = read_config(file)
    matrices = {name: info for name, info in file.tensors.items() if len(info.shape) == 2}
    head = matrices.pop(f"{layout.head}.weight", None)
    embedding = matrices.pop(f"{layout.embedding}.weight")
    read = [*matrices.values(), embedding if head is None or config.tie_word_embeddings else head]
    return Weights(
        sum(info.nbytes // info.type.nbytes * info.type.numbers for info in read),
        sum(info.nbytes for info in read),
    )


def read_bandwidth() -> float:
    """Bytes/s that torch's threads read together: the best of several sums of all numbers."""
    numbers = pages.empty((_READ,), torch.float32).fill_(1)
    return numbers.nbytes / min(seconds(numbers.sum) for _ in range(_TIMES))


def share(nbytes: int, tokens_per_second: float, bandwidth: float) -> float:
    """The share of `bandwidth` (bytes/s) that reading `nbytes` for every token takes."""
    return nbytes * tokens_per_second / bandwidth
