"""The commands long and layer on tiny models: lengths, sides, and caches counted exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tinyphi import bench
from tinyphi.bench import engines, long
from tinyphi.bench.engines import Tinyphi
from tinyphi.bench.fresh import Reading, forget_peak, peak_memory, readings
from tinyphi.model.transformer import Phi3


@pytest.fixture(autouse=True)
def tiny(monkeypatch, path, config):
    """The tiny model in place of the real ones, and no processes: the last test starts one."""
    monkeypatch.setattr(long, "resolve", lambda name: path)
    monkeypatch.setattr(long, "PHI3_128K", replace(config, max_position_embeddings=4096))
    monkeypatch.setattr(
        long,
        "readings",
        lambda engine, path, ids, steps: [
            Reading(step / (2000 if isinstance(engine, Tinyphi) else 1000), 1000 * len(ids[:step]))
            for step in steps
        ],
    )


def tables(output):
    """The tables in what was printed: lists of lines."""
    blocks = [block.splitlines() for block in output.split("\n\n")]
    return [block for block in blocks if block[0].startswith("| ")]


def test_lengths_double():
    assert long.lengths(1024) == [1024]
    assert long.lengths(5000) == [1024, 2048, 4096, 5000]
    assert long.lengths(100) == [100]
    assert long.lengths(2**17)[-2:] == [2**16, 2**17]


def test_each_length_has_a_row_for_each_side(capsys):
    assert bench.main(["long", "--runs", "2", "--longest", "2048"]) == 0
    measured, smollm2, phi3 = tables(capsys.readouterr().out)
    assert measured[2:] == [
        "| 1,024 | tinyphi, float32 | 0.51 | 2,000 | | | 1 |",
        "|  | transformers, float32 | 1.02 | 1,000 | 2.00 × | 2.00 – 2.00 | 1 |",
        "| 2,048 | tinyphi, float32 | 1.02 | 2,000 | | | 2 |",
        "|  | transformers, float32 | 2.05 | 1,000 | 2.00 × | 2.00 – 2.00 | 2 |",
    ]
    assert len(smollm2) == 2 + 2
    assert len(phi3) == 2 + 3  # up to what the model is meant for
    for table in (measured, smollm2, phi3):
        assert len({line.count("|") for line in table}) == 1


def test_without_transformers_there_is_a_line_that_says_so(capsys, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "transformers" else name)
    assert bench.main(["long", "--longest", "1024"]) == 0
    assert 'transformers, float32: not installed, pip install "tinyphi[reference]"' in capsys.readouterr().out


def test_a_layer(capsys, monkeypatch, path):
    written = []
    monkeypatch.setattr(long, "write_random", lambda config, _: written.append(config) or path)
    assert bench.main(["layer", "--longest", "1024"]) == 0
    assert written[0].num_hidden_layers == 1
    assert "| 1,024 | tinyphi, bfloat16 | 0.51 |" in capsys.readouterr().out


def test_caches_are_counted_as_they_are_made(config):
    rows = list(long.cache_rows("x", replace(config, hidden_size=640, num_attention_heads=4), 4096))
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 1,024", "| 2,048", "| 4,096"]
    counted = [int(cell.strip(" |")) for cell in rows[-1].split(" | ")[1:]]
    windowed = replace(config, hidden_size=640, num_attention_heads=4, sliding_window=2047)
    for place, changed in ((0, replace(windowed, sliding_window=None)), (3, windowed)):
        for number, (dtype, bits) in enumerate([(torch.float32, None), (torch.bfloat16, None), (None, 8)]):
            cache = Phi3(changed).to(dtype=dtype).new_cache(max_tokens=4096, bits=bits)
            assert counted[place + number] == round(cache.bytes / 1e6)
    assert counted == [21, 10, 5, 12, 6, 3]


def test_readings_come_from_a_process_of_its_own(path):
    ballast = torch.ones(1 << 28, dtype=torch.uint8)
    assert peak_memory() >= ballast.nbytes
    short, longer = readings(Tinyphi("tinyphi"), path, list(range(5, 205)), [20, 200])
    assert short.seconds > 0
    assert longer.seconds > 0
    assert 0 <= short.memory <= longer.memory < ballast.nbytes


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget a peak")
def test_a_peak_can_be_forgotten():
    ballast = torch.ones(1 << 28, dtype=torch.uint8)
    held = peak_memory()
    del ballast
    assert peak_memory() > held - (1 << 27)
    forget_peak()
    assert peak_memory() < held - (1 << 27)
