"""The commands on a tiny model: that they run, and what their tables say."""

from importlib.util import find_spec

import pytest

from tinyphi import bench
from tinyphi.bench import command, engines, models
from tinyphi.bench.fresh import Footprint

TINY = ["--runs", "1", "--prompt", "6", "--new", "2"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, path, config):
    """The tiny model in place of the real ones, and no processes: test_engines.py starts one."""
    monkeypatch.setattr(models, "resolve", lambda name: path)
    monkeypatch.setattr(models, "PHI3", config)
    monkeypatch.setattr(models, "read_bandwidth", lambda: 25.0e9)
    monkeypatch.setattr(
        models, "footprint", lambda *_: Footprint(0.5, 100_000_000, 2_200_000_000, 2_300_000_000)
    )


def tables(output):
    """The tables in what was printed: lists of lines."""
    blocks = [block.splitlines() for block in output.split("\n\n")]
    return [block for block in blocks if block[0].startswith("| ")]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        (
            "decode",
            ["tinyphi, float32", "transformers, float32", "tinyphi, bfloat16", "transformers, bfloat16"],
        ),
        ("quantized", ["tinyphi, 4 bits", "llama.cpp", "transformers, float32", "transformers, bfloat16"]),
        ("phi3", ["tinyphi, 4 bits", "llama.cpp"]),
    ],
)
def test_every_side_is_in_both_tables(capsys, name, sides):
    assert bench.main([name, *TINY]) == 0
    output = capsys.readouterr().out
    assert output.startswith("torch ")
    assert "Memory is read at 25.0 GB/s" in output
    speeds, loading = tables(output)
    for table in (speeds, loading):
        assert len({line.count("|") for line in table}) == 1
    for side in sides:
        if not side.startswith("llama") or find_spec("llama_cpp"):
            assert sum(side in line for line in speeds) == 2  # prefill and decode
        if name != "phi3":
            assert sum(side in line for line in loading) == 1
    assert "| decode 2 tokens | tinyphi" in "\n".join(speeds)
    assert "| 0.50 | | | 100 | 2,200 | 2,300 |" in loading[2]
    assert all("%" in line for line in speeds if "decode" in line)


def test_a_missing_peer_has_a_line_and_the_others_are_measured(capsys, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "llama_cpp" else find_spec(name))
    assert bench.main(["quantized", *TINY]) == 0
    for table in tables(capsys.readouterr().out):
        assert len({line.count("|") for line in table}) == 1
        (line,) = [line for line in table if "llama.cpp" in line]
        assert 'llama.cpp, 4 bits: not installed, pip install "tinyphi[llamacpp]"' in line
        assert any("transformers, float32" in line for line in table)


def test_the_tables_are_pasted_with_the_command_that_makes_them(tmp_path, capsys):
    file = tmp_path / "results.md"
    assert bench.main(["phi3", *TINY, "--write", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    assert "```sh\ntinyphi bench phi3 --runs 1 --prompt 6 --new 2\n```" in text
    assert capsys.readouterr().out.strip() in text


def test_kernels_and_formats_get_their_numbers(monkeypatch, capsys):
    monkeypatch.setattr(command, "bench_kernels", lambda runs: [f"{runs} runs"])
    monkeypatch.setattr(command, "bench_formats", lambda rows: [f"{rows} rows"])
    assert bench.main(["kernels", "--runs", "3"]) == bench.main(["formats", "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    assert "3 runs" in printed
    assert "2 rows" in printed


@pytest.mark.parametrize(
    "arguments", [["dekode"], ["decode", "--runs", "0"], ["kernels", "--threads", "two"]]
)
def test_what_cannot_be_measured_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(arguments)
    assert end.value.code == 2
