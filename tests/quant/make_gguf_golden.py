"""Write down how much llama.cpp's own K-quants lose on a few matrices, for machines without llama.cpp.

python tests/quant/make_gguf_golden.py          needs llama-cpp-python; writes gguf_golden.json beside it
"""

import ctypes
import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("gguf_golden.json")
BLOCKS = {"q4_0": (32, 18), "q4_1": (32, 20), "q8_0": (32, 34), "q4_k": (256, 144), "q6_k": (256, 210)}


def matrices():
    """Name → (200 256) float32."""
    random = np.random.RandomState(5)  # whose numbers never change, unlike those of default_rng
    shape = (200, 256)
    group_scales = np.exp(random.standard_normal((200, 8))).repeat(32, axis=1)
    return {
        name: numbers.astype(np.float32)
        for name, numbers in {
            "normal": 0.02 * random.standard_normal(shape),
            "heavy tails": random.standard_t(3, shape),
            "one-sided": random.random_sample(shape),
            "above zero": 1 + 0.1 * random.standard_normal(shape),
            "below zero": -1 + 0.1 * random.standard_normal(shape),
            "unequal groups": group_scales * random.standard_normal(shape),
            "whole numbers": random.randint(-8, 8, shape),
            "mostly zeros": random.standard_normal(shape) * (random.random_sample(shape) < 0.1),
        }.items()
    }


def quantize_by_ggml(kind, numbers):
    """The blocks that ggml's reference function in C makes of an array: uint8 (blocks, bytes)."""
    import llama_cpp

    path = sorted(Path(llama_cpp.__file__).parent.glob("lib/*ggml-base*"))[0]
    name = f"quantize_row_{kind.replace('_k', '_K')}_ref"
    function = getattr(ctypes.CDLL(str(path)), name)
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    count, size = BLOCKS[kind]
    numbers = np.ascontiguousarray(numbers, dtype=np.float32)
    blocks = np.zeros((numbers.size // count, size), dtype=np.uint8)
    function(numbers.ctypes.data, blocks.ctypes.data, numbers.size)
    return blocks


def root_mean_square_error(kind, blocks, numbers):
    import gguf

    decoded = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind.upper()]).reshape(numbers.shape)
    return float(np.sqrt(np.mean((decoded.astype(np.float64) - numbers) ** 2)))


def measure():
    """Kind → name of the matrix → the error of llama.cpp's blocks."""
    return {
        kind: {
            name: root_mean_square_error(kind, quantize_by_ggml(kind, numbers), numbers)
            for name, numbers in matrices().items()
        }
        for kind in ("q4_k", "q6_k")
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
