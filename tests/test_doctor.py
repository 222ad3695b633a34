"""`tinyphi doctor`: its known numbers are the reference's, and planted mistakes do not pass."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tinyphi
from tinyphi import cli, doctor
from tinyphi.model import attention, mlp, rope, transformer

SHORT, LONG = 12, 24  # tokens of the two known passes


def test_this_machine_is_right(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "computes correct results" in out
    assert "WRONG" not in out
    assert "FAILED" not in out
    for line in (
        "python",
        "torch",
        "transformers",
        "processor",
        "memory",
        "cache",
        "TINYPHI_OFFLINE",
        "CUDA",
    ):
        assert f"\n{line} " in f"\n{out}"


def test_the_known_numbers_are_what_is_computed():
    assert all(doctor.summary(tokens) == known for tokens, known in doctor._KNOWN.items())


def test_the_passes_lie_on_both_sides_of_every_boundary():
    config = doctor._CONFIG
    assert set(doctor._KNOWN) == {SHORT, LONG}
    assert SHORT <= config.sliding_window < LONG
    assert SHORT <= config.original_max_position_embeddings < LONG
    assert config.attention_factor > 1
    assert 1 < config.num_key_value_heads < config.num_attention_heads


@pytest.mark.parametrize("tokens", [SHORT, LONG])
def test_transformers_computes_the_known_numbers(tmp_path, tokens):
    tinyphi.save(doctor.known_model(), None, tmp_path / "model")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    with torch.no_grad():
        logits = reference(doctor._ids(tokens)).logits[0]
    known = doctor._KNOWN[tokens]
    torch.testing.assert_close(logits[-1, :6], torch.tensor(known.logits), atol=6e-4, rtol=0)
    assert tuple(logits.argmax(dim=-1).tolist()) == known.tokens


def test_the_weights_are_exact_in_bfloat16():
    for parameter in doctor.known_model().parameters():
        assert torch.equal(parameter.bfloat16().float(), parameter)


uses_long_factors, visible = rope.uses_long_factors, transformer.visible
rotate, fused_attention = attention.rotate, attention.fused_attention


def other_factors(config, longest):
    return not uses_long_factors(config, longest)


def window_off_by_one(*given):
    return visible(*given[:-1], given[-1] + 1)


def missing_kernel(*given):
    raise RuntimeError("not implemented on this processor")


MISTAKES = {
    "nothing rotated": (attention, "rotate", lambda x, cos, sin: x),
    "rotated backwards": (attention, "rotate", lambda x, cos, sin: rotate(x, cos, -sin)),
    "the other factors": (rope, "uses_long_factors", other_factors),
    "window off by one": (transformer, "visible", window_off_by_one),
    "attention copies": (attention, "fused_attention", lambda queries, *others: queries),
    "not a number": (attention, "fused_attention", lambda *given: fused_attention(*given) * torch.nan),
    "one percent off": (attention, "fused_attention", lambda *given: fused_attention(*given) * 1.01),
    "missing kernel": (attention, "fused_attention", missing_kernel),
    "wrong step by step": (attention, "explicit_attention", lambda queries, *others: queries),
    "another activation": (mlp.F, "silu", torch.nn.functional.gelu),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_planted_mistakes_are_noticed(monkeypatch, capsys, name):
    monkeypatch.setattr(*MISTAKES[name])
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "WRONG RESULTS" in out
    assert "Reinstall torch" in out


def test_advice(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    monkeypatch.setattr(doctor, "free_memory", lambda: 10**8)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor, "_REQUIRED", ("torch", "no-such-distribution"))
    assert doctor.examine() == 0  # advice is not an error
    out = capsys.readouterr().out
    for advice in (
        "tinyphi get smollm2-135m",
        "Close other programs",
        "pip install --upgrade torch",
        "Only 1 of 8 cores",
        "nothing is downloaded",
        'pip install "tinyphi" brings it',
    ):
        assert advice in out


def test_the_oldest_torch_is_that_of_the_project_file():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"torch>=(\d+)\.(\d+)', project)
    assert tuple(map(int, found.groups())) == doctor._OLDEST_TORCH
