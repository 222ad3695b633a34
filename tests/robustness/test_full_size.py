"""A directory of Phi-3-mini's true size, 3.8 billion parameters, loads and decodes within 9 GB of memory.

Quantized while loading, it takes 1.3 times the quantized model.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[1] / "weights" / "make_phi3_mini_layout.py"
LIMIT = 9e9  # bytes
RATIO = 1.3  # of the peak to the quantized model

STATUS = Path("/proc/self/status")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STATUS.exists(), reason="reads the peak memory from Linux's /proc"),
]

# A process of its own, whose peak is that of this model alone.
PROGRAM = """
import sys
from pathlib import Path
import torch
import tinyphi

method = sys.argv[2] if len(sys.argv) > 2 else None
model = tinyphi.load_model(sys.argv[1], dtype=torch.bfloat16, quantize=method)
assert model.config.parameter_count() == 3_821_079_552
out = tinyphi.generate(model, list(range(5, 25)), max_new_tokens=4)
assert len(out.ids[0]) == 4
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(int(peak) * 1024, sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "phi-3-mini"
    if psutil.virtual_memory().available < 11e9:
        pytest.skip("needs 11 GB of free memory")
    if shutil.disk_usage(path.parent).free < 12e9:
        pytest.skip("needs 12 GB of free disk")
    try:
        subprocess.run([sys.executable, str(SCRIPT), str(path)], check=True)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def peak_and_size(*arguments):
    """Bytes that the process took at most, and those of the model."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    peak, size = map(int, run.stdout.split())
    print(f"peak memory {peak / 1e9:.2f} GB for {size / 1e9:.2f} GB of weights")
    return peak, size


def test_phi_3_mini_at_full_size(directory):
    peak, _ = peak_and_size(directory)
    assert peak < LIMIT


def test_phi_3_mini_quantized_while_loading(directory):
    """The quantized model itself: 4 bits a weight and 16 for each group of 32."""
    peak, size = peak_and_size(directory, "int4")
    assert size < 2.16e9
    assert peak <= RATIO * size
