"""A small model as AWQ and GPTQ expect it: a few channels carry far larger numbers than the others."""

from dataclasses import replace

import pytest
import torch

from tinyphi.model.transformer import Phi3


@pytest.fixture(scope="session")
def make_uneven_model(small_config):
    def make(dtype=torch.float32, **changes):
        torch.manual_seed(3)
        model = Phi3(replace(small_config, **changes)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_((1.0 if "norm" in name else 0.0) + 0.2 * torch.randn_like(parameter))
            for layer in model.layers:
                layer.attention_norm.weight[[1, 20, 33]] *= 12
                layer.mlp_norm.weight[[4, 30]] *= 12
                layer.attention.qkv_proj.weight[-3:] *= 8  # three value channels
                layer.mlp.gate_up_proj.weight[-5:] *= 8  # five hidden channels
        return model.to(dtype)

    return make


@pytest.fixture(scope="session")
def calibration_ids(small_config):
    """(3 t) for the model above."""
    return torch.randint(0, small_config.vocab_size, (3, 60), generator=torch.Generator().manual_seed(1))
