"""The command sparse: both ways compute, and the rows are theirs."""

from dataclasses import replace

import torch

from tinyphi import bench
from tinyphi.bench import sparse


def test_each_length_has_both_ways_in_both_dtypes(capsys, monkeypatch):
    small = replace(sparse.SMALL, hidden_size=256, num_attention_heads=8, num_key_value_heads=2)
    monkeypatch.setattr(sparse, "SMALL", small)
    called = []
    for name in ("sparse_attention", "fused_attention"):
        real = getattr(sparse, name)

        def noted(queries, *rest, name=name, real=real):
            called.append((name, queries.shape[2], queries.dtype))
            return real(queries, *rest)

        monkeypatch.setattr(sparse, name, noted)
    assert bench.main(["sparse", "--runs", "1", "--longest", "1500"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows[::2]] == [
        f"| {dtype}, {tokens} tokens" for dtype in ("float32", "bfloat16") for tokens in ("1,024", "1,500")
    ]
    assert ["| block-sparse |" in row for row in rows] == [True, False] * 4
    assert " × |" in rows[1]
    assert set(called) == {
        (name, tokens, dtype)
        for name in ("sparse_attention", "fused_attention")
        for tokens in (1024, 1500)
        for dtype in (torch.float32, torch.bfloat16)
    }
