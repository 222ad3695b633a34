"""The table of formats, on a tiny model."""

import pytest
import torch

import tinyphi
from tinyphi.bench import formats
from tinyphi.quant.linear import QuantizedLinear


class Letters:
    def encode(self, text):
        return [ord(letter) % 64 for letter in text]


@pytest.fixture
def small(monkeypatch, config):
    """A tiny model, a few formats and short rows."""
    torch.manual_seed(0)
    model = tinyphi.Phi3(config)
    made = []

    def load_model(name):
        made.append(tinyphi.Phi3(config))
        made[-1].load_state_dict(model.state_dict())
        return made[-1].eval()

    monkeypatch.setattr(tinyphi, "load", lambda name: (None, Letters()), raising=False)
    monkeypatch.setattr(tinyphi, "load_model", load_model, raising=False)
    monkeypatch.setattr(formats, "ROW", 48)
    kept = {name: formats.FORMATS[name] for name in ("q8_0", "int4, groups of 32")}
    gptq = {"gptq": {"method": "gptq", "group_size": 32}}
    monkeypatch.setattr(formats, "FORMATS", kept | gptq)
    return made


def test_a_row_for_each_format(small):
    introduction, *lines = formats.bench_formats(2)
    assert "96 tokens" in introduction
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == ["float32", "q8_0", "int4, groups of 32", "gptq"]
    assert len({line.count("|") for line in lines}) == 1
    plain, eight, four, _ = (line.split("|") for line in lines[2:])
    assert float(eight[4]) < float(four[4])  # KL
    assert abs(float(eight[3]) - float(plain[3])) < abs(float(four[3]) - float(plain[3])) + 0.02
    layers = [part for part in small[-1].modules() if isinstance(part, QuantizedLinear)]
    assert layers
    assert {part.backend.name for part in layers if hasattr(part, "backend")} == {"reference"}
