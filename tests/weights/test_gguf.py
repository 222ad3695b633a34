"""The GGUF reader equals the `gguf` package: metadata, places, and every dequantized bit."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from tinyphi.errors import WeightsError
from tinyphi.quant import gguf_blocks as module
from tinyphi.weights.gguf import GGUFFile

KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q4_K, Kind.Q6_K]
# More numbers than are decoded at a time, and not a whole number of such pieces; three axes; one.
SHAPES = {"large": (700, 768), "cube": (3, 5, 256), "row": (512,)}


def stored(kind: Kind, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random data as stored: any bytes for the 4-bit and 6-bit numbers, finite float16 scales."""
    random = np.random.default_rng(seed)
    if kind in (Kind.F32, Kind.F16, Kind.BF16):
        return gguf.quants.quantize(random.normal(size=shape).astype(np.float32), kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (*shape[:-1], shape[-1] // block, size), dtype=np.uint8)
    scales = {Kind.Q4_1: (0, 2), Kind.Q4_K: (0, 2), Kind.Q6_K: (208,)}.get(kind, (0,))
    for start in scales:
        half = random.normal(size=data.shape[:-1]).astype(np.float16)
        data[..., start : start + 2] = half[..., None].view(np.uint8)
    return data.reshape(*shape[:-1], -1)


def write(path, tensors, fill=lambda writer: None):
    writer = gguf.GGUFWriter(path, "llama")
    fill(writer)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_random(path, kind):
    return write(
        path, {name: (stored(kind, shape, seed), kind) for seed, (name, shape) in enumerate(SHAPES.items())}
    )


def equals_reference(path) -> bool:
    """Whether every tensor equals gguf's, bit for bit."""
    mine = GGUFFile(path)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert mine.tensors.keys() == theirs.keys()
    for name, tensor in theirs.items():
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(SHAPES[name])
        if not np.array_equal(mine.read(name).numpy().view(np.int32), values.view(np.int32)):
            return False
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_bit_equals_gguf(tmp_path, kind):
    path = write_random(tmp_path / "random.gguf", kind)
    assert equals_reference(path)
    file = GGUFFile(path)
    for tensor in gguf.GGUFReader(path).tensors:
        info = file.tensors[tensor.name]
        assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert str(info.type) == kind.name
        assert info.shape == SHAPES[tensor.name] == tuple(reversed(tensor.shape.tolist()))
    halved = file.read("large", torch.bfloat16)
    assert torch.equal(halved, file.read("large").bfloat16())


PLANTED = {
    # the mistake → a function to replace, its replacement, the types that must notice
    "neighbours share a byte": (
        "_nibbles",
        lambda packed: torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2),
        [Kind.Q4_0, Kind.Q4_1, Kind.Q4_K, Kind.Q6_K],
    ),
    "high half first": (
        "_nibbles",
        lambda packed: torch.cat((packed >> 4, packed & 15), dim=-1),
        [Kind.Q4_0, Kind.Q4_1, Kind.Q4_K, Kind.Q6_K],
    ),
    "scales and minima swapped": (
        "_six_bits",
        lambda packed, right=module._six_bits: right(packed)[::-1],
        [Kind.Q4_K],
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(tmp_path, monkeypatch, mistake):
    function, wrong, kinds = PLANTED[mistake]
    monkeypatch.setattr(module, function, wrong)
    for kind in kinds:
        assert not equals_reference(write_random(tmp_path / f"{kind.name}.gguf", kind)), kind


def test_metadata_of_every_type(tmp_path):
    def fill(writer):
        for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
            getattr(writer, f"add_{name}")(f"a.{name}", 100)
        writer.add_int32("a.negative", -7)
        writer.add_uint64("a.huge", 2**63 + 5)
        writer.add_float32("a.float32", 0.1)
        writer.add_float64("a.float64", 0.1)
        writer.add_bool("a.true", True)
        writer.add_bool("a.false", False)
        writer.add_string("a.string", "Grüße, 世界 🌍")
        writer.add_string("a.empty", "")
        writer.add_array("a.strings", ["a", "", "▁the", "\n"])
        writer.add_array("a.numbers", [1, -2, 3])
        writer.add_array("a.floats", [0.5, -1.25])
        writer.add_array("a.bools", [True, False, True])

    path = write(tmp_path / "metadata.gguf", {"x": (np.zeros((2, 3), np.float32), None)}, fill)
    mine = GGUFFile(path).metadata
    theirs = gguf.GGUFReader(path).fields
    assert len(mine) == 20
    for key, value in mine.items():
        assert value == theirs[key].contents(), key
        assert type(value) is type(theirs[key].contents()), key


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_alignment(tmp_path, alignment):
    tensors = {"a": (np.arange(5, dtype=np.float32), None), "b": (np.ones((2, 3), np.float32), None)}
    path = write(tmp_path / "aligned.gguf", tensors, lambda writer: writer.add_custom_alignment(alignment))
    file = GGUFFile(path)
    assert file.tensors["b"].offset % alignment == 0
    assert file.read("a").tolist() == [0, 1, 2, 3, 4]
    assert file.read("b").shape == (2, 3)


def test_unknown_tensor_and_unsupported_type_say_so(tmp_path):
    path = write(tmp_path / "a.gguf", {"x": (np.zeros((1, 32), np.float32), None)})
    with pytest.raises(WeightsError, match="no tensor 'y'"):
        GGUFFile(path).read("y")
    five_bits = gguf.quants.quantize(np.ones((2, 32), np.float32), Kind.Q5_0)
    path = write(tmp_path / "b.gguf", {"x": (five_bits, Kind.Q5_0)})
    with pytest.raises(WeightsError, match=r"'x' has the number type 6; tinyphi decodes F32, .*Q6_K"):
        GGUFFile(path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = write_random(tmp_path / "random.gguf", Kind.Q8_0)
    file = GGUFFile(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="ends inside the tensor 'row'"):
        file.read("row")
