"""Where training starts: heads that look for tokens like their own, and pass on what they find.

To look something up in a text takes two heads, one after the other: one that reads the token before, and one
that finds where the present token stood and copies what followed it there. From small random weights the
second one has nothing to start from, and a small model can spend most of its training without it. In trained
models queries and keys agree, and the output matrix roughly undoes what the value matrix did; so this model
starts that way, and its head starts as its embedding.

Sources: Trockman and Kolter 2023 (arXiv 2305.09828), mimetic initialization; Olsson et al. 2022 (arXiv
2209.11895), on the two heads.
"""

from typing import cast

import torch
from torch import Tensor

from tinyphi.model.attention import Attention
from tinyphi.model.transformer import Phi3

_EMBEDDING = 0.1  # standard deviation of an embedding's numbers: five times the usual one
_ALIKE = 0.06  # of what the queries and keys of a group have in common, and of values and output
_OWN = 0.02  # of what each head has for itself


@torch.no_grad()
def start_alike(model: Phi3) -> None:
    """Draw the embedding and all attention anew, from torch's random numbers, in place.

    In each group of heads the key matrix (c d) and all query matrices are one matrix with a little noise:
    a query fits the keys of tokens like its own best. The output matrix of each head is the transposed value
    matrix, divided by the number g of heads that share it. All embeddings get one vector in common, which a
    head needs to attend by position alone, whatever the tokens are.
    """
    config = model.config
    size, width = config.head_dim, config.hidden_size
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    shared = heads // groups
    embedding = model.embed_tokens.weight
    embedding.normal_(std=_EMBEDDING).add_(_EMBEDDING * torch.randn_like(embedding[0]))
    if not config.tie_word_embeddings:
        model.lm_head.weight.copy_(embedding)

    def drawn(std: float) -> Tensor:
        return std * torch.randn(size, width, device=embedding.device, dtype=embedding.dtype)

    for layer in model.layers:
        attention = cast(Attention, layer.attention)
        # (h + n + n, c, d): the query heads, then the key heads, then the value heads
        joined = attention.qkv_proj.weight.view(-1, size, width)
        output = attention.o_proj.weight.view(width, heads, size)  # (d, h, c)
        for group in range(groups):
            alike, values = drawn(_ALIKE), drawn(_ALIKE)
            members = range(group * shared, (group + 1) * shared)
            for place in (*members, heads + group):
                joined[place] = alike + drawn(_OWN)
            joined[heads + groups + group] = values
            for head in members:
                output[:, head] = values.T / shared
