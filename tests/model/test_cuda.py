"""On a GPU the model computes what it computes on the CPU."""

import pytest
import torch

import tinyphi
from tinyphi.model.trace import Trace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_forward_cache_trace_and_generation(make_model):
    model, ids = make_model(sliding_window=7), torch.randint(0, 61, (2, 20))
    with torch.no_grad():
        expected = model(ids)
        prompts = [ids[0].tolist(), ids[1, :9].tolist()]
        texts = tinyphi.generate(model, prompts, max_new_tokens=8).ids
        model.to("cuda")
        try:
            cache = model.new_cache(2)
            model(ids[:, :15].cuda(), cache=cache)
            results = [
                model(ids.cuda()),
                model(ids.cuda(), trace=Trace()),
                torch.cat((expected[:, :15].cuda(), model(ids[:, 15:].cuda(), cache=cache)), dim=1),
            ]
            assert tinyphi.generate(model, prompts, max_new_tokens=8).ids == texts
            sampler = tinyphi.Sampler(seed=1)
            again = [
                tinyphi.generate(model, prompts, max_new_tokens=8, sampler=sampler).ids for _ in range(2)
            ]
            assert again[0] == again[1]
        finally:
            model.cpu()
    for result in results:
        torch.testing.assert_close(result.cpu(), expected, atol=1e-3, rtol=1e-3)
