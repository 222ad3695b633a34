"""Write a directory with the names, shapes and two shards of Phi-3-mini-4k, and random bfloat16 weights.

    python tests/weights/make_phi3_mini_layout.py DIRECTORY [--layers 32]

All 32 layers take 7.6 GB on the disk; the memory used is a few dozen megabytes. The numbers repeat a block of
random ones, scaled so that the activations of a deep model stay moderate.
"""

import argparse
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tinyphi.config import PhiConfig
from tinyphi.weights.directory import INDEX
from tinyphi.weights.names import LAYOUTS, places

_BLOCK = 4_000_037  # random numbers; a prime, so that no row repeats another
_FIRST_SHARD = 0.65  # of all bytes, as in the published files


def write_layout(directory: Path, config: PhiConfig) -> None:
    """Write config.json and two shards with their index."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {**config.to_hugging_face(), "torch_dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(content), encoding="utf-8")
    shapes = {name: place.shape for name, place in places(config, LAYOUTS["phi3"]).items()}
    sizes = {name: 2 * math.prod(shape) for name, shape in shapes.items()}
    shards: tuple[list[str], list[str]] = ([], [])
    written = 0
    for name, size in sizes.items():
        shards[written > _FIRST_SHARD * sum(sizes.values())].append(name)
        written += size
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(directory / file, {name: shapes[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    normal = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0))
    matrix, norm = (_bytes(0.02 * normal), _bytes(1 + 0.1 * normal))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            block, left = (norm if len(shape) == 1 else matrix), 2 * math.prod(shape)
            while left:
                left -= file.write(block[:left])


def _bytes(numbers: torch.Tensor) -> memoryview:
    return numbers.bfloat16().view(torch.uint8).numpy().data


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    options = parser.parse_args(arguments)
    config = replace(PhiConfig.preset("phi-3-mini-4k"), num_hidden_layers=options.layers)
    write_layout(options.directory, config)


if __name__ == "__main__":
    main()
