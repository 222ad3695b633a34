"""A 4-bit file of any shape without training: speed and memory hardly depend on the numbers."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tinyphi.config import PhiConfig
from tinyphi.model.norm import RMSNorm
from tinyphi.model.transformer import Phi3
from tinyphi.quant.gguf_blocks import BlockLinear, quantize_q4_0
from tinyphi.quant.quantize import linears, put
from tinyphi.tokenizer import ByteBPETokenizer
from tinyphi.tokenizer.base import SpecialToken
from tinyphi.tokenizer.bytebpe import BYTE_TO_LETTER
from tinyphi.weights.export import export_gguf


def write_random(config: PhiConfig, path: Path) -> Path:
    """Write a GGUF file with normal random weights in Q4_0, embedding and head included; return its path.

    All matrices of one shape are the same one in memory, 0.2 GB for Phi-3-mini, but not in the file of 2.1.
    Raises WeightsError if it cannot be written.
    """
    with torch.device("meta"):  # shapes without memory
        model = Phi3(config)
    shapes = {name: _shape(model.get_parameter(f"{name}.weight")) for name, _ in linears(model)}
    generator = torch.Generator().manual_seed(0)
    blocks = {
        shape: quantize_q4_0(0.02 * torch.randn(shape, generator=generator)) for shape in {*shapes.values()}
    }
    for name, shape in shapes.items():
        put(model, name, BlockLinear(blocks[shape], "q4_0", shape))
    for norm in model.modules():
        if isinstance(norm, RMSNorm):
            norm.weight = nn.Parameter(torch.ones(config.hidden_size))
    export_gguf(model, _letters(), path, kind="q4_0")
    return path


def _shape(matrix: Tensor) -> tuple[int, int]:
    outputs, inputs = matrix.shape
    return outputs, inputs


def _letters() -> ByteBPETokenizer:
    """A tokenizer that llama.cpp accepts: the 256 bytes, one merge and an end. No text is ever encoded."""
    tokens = [*BYTE_TO_LETTER.values(), "th", "<|endoftext|>"]
    end = SpecialToken(tokens[-1], len(tokens) - 1)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    return ByteBPETokenizer(vocabulary, [("t", "h")], [end], bos_id=end.id, eos_id=end.id, pad_id=end.id)
