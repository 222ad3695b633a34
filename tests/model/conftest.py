"""Small models with weights that hide nothing."""

from dataclasses import replace

import pytest
import torch

from tinyphi.model.transformer import Phi3


@pytest.fixture(scope="session")
def make_model(small_config):
    def make(**changes):
        torch.manual_seed(3)
        model = Phi3(replace(small_config, **changes)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_((1.0 if "norm" in name else 0.0) + 0.3 * torch.randn_like(parameter))
        return model

    return make
