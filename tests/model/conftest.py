"""Small models with weights that hide nothing."""

from dataclasses import replace

import pytest
import torch

from tinyphi.config import PhiConfig
from tinyphi.model.transformer import Phi3

CONFIG = PhiConfig(
    vocab_size=61,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    original_max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


@pytest.fixture(scope="session")
def make_model():
    def make(**changes):
        torch.manual_seed(3)
        model = Phi3(replace(CONFIG, **changes)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_((1.0 if "norm" in name else 0.0) + 0.3 * torch.randn_like(parameter))
        return model

    return make
