import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.show import show
from tinyphi.show.digest import digest, fixed


def test_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(torch.tensor([[1.0, -2.0, 3.5], [0.25, 0.0, -0.0]]), "queries")
    expected = (
        "queries: float32 (2, 3) mean 0.458 std 1.792 min -2.000 max 3.500 | 1.000 -2.000 3.500 0.250 …\n"
    )
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (3, "int64 () 3"),
        (2.5, "float32 () 2.500"),
        ([1, 2, 3], "int64 (3) mean 2.000 std 1.000 min 1 max 3 | 1 2 3"),
        (np.array([1.0, 2.0]), "float64 (2) mean 1.500 std 0.707 min 1.000 max 2.000 | 1.000 2.000"),
        (torch.tensor([True, False, True]), "bool (3) 2 of 3 true"),
        (torch.empty(0, 3), "float32 (0, 3) empty"),
        (torch.zeros(2), "float32 (2) mean 0.000 std 0.000 min 0.000 max 0.000 | 0.000 0.000"),
        (
            torch.tensor([math.nan, 1.0, math.inf, -math.inf]),
            "float32 (4) mean 1.000 std 0.000 min 1.000 max 1.000 nan 1 inf 2 | nan 1.000 inf -inf",
        ),
        (torch.tensor([math.nan] * 2), "float32 (2) no finite value nan 2 | nan nan"),
        (torch.nn.Parameter(torch.ones(1)), "float32 (1) 1.000"),
    ],
)
def test_other_things(x: object, expected: str) -> None:
    assert digest(x) == expected


def test_rounding_noise_is_not_shown() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    x = x - x.double().mean().float()
    noisy = x + 1e-7 * torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    assert "mean 0.000 " in digest(x)
    assert digest(noisy) == digest(x)


def test_a_changed_number_is_shown() -> None:
    x = torch.linspace(0, 1, 1000)
    assert digest(x * 1.01) != digest(x)


def test_statistics_equal_torch_past_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyphi.show.digest._CHUNK", 7)
    x = torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    line = digest(x)
    for name, value in {"mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max()}.items():
        assert f"{name} {fixed(value.item(), x.abs().max().item())} " in line


@given(st.floats(-1e307, 1e307))
def test_fixed_has_four_digits_and_no_negative_zero(value: float) -> None:
    text = fixed(value)
    assert float(text) == pytest.approx(value, rel=6e-4, abs=1e-300)
    assert not (text.startswith("-") and float(text) == 0)
    assert len(text) <= 13


def test_fixed_keeps_to_the_scale() -> None:
    assert fixed(-0.00004, 12.3) == "0.00"
    assert fixed(5e-12, 3e-9) == "0.005e-09"


@pytest.mark.parametrize("x", ["text", {"a": 1}, [[1], [2, 3]], None, torch.tensor([1j])])
def test_bad_input_gets_one_clear_error(x: object) -> None:
    with pytest.raises(InputError, match=r"show\(\) takes"):
        show(x)
