"""The random file is a model like any other."""

import torch

import tinyphi
from tinyphi.weights.gguf import GGUFFile


def test_the_file_loads_and_its_matrices_are_random(path, config):
    model = tinyphi.load_model(path)
    assert model.config.parameter_count() == config.parameter_count()
    for weight in (model.embed_tokens.weight, model.layers[1].mlp.down_proj.weight):
        assert 0.019 < float(weight.detach().std()) < 0.021
    assert torch.equal(model.norm.weight, torch.ones(64))
    assert not torch.equal(model(torch.tensor([[5, 6]]))[0, 0], model(torch.tensor([[6, 6]]))[0, 0])


def test_every_matrix_is_in_four_bits(path):
    types = {str(info.type) for info in GGUFFile(path).tensors.values() if len(info.shape) == 2}
    assert types == {"Q4_0"}
