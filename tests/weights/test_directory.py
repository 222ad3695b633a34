"""The safetensors reader equals the safetensors library, and refuses what the format or safety forbids."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinyphi.errors import WeightsError
from tinyphi.weights.directory import Directory, read_safetensors


def some_tensors():
    torch.manual_seed(3)
    return {
        "wide.weight": torch.randn(700, 800),  # more numbers than are decoded at a time
        "half": torch.randn(33, 7).half(),
        "brain": torch.randn(5, 3, 2).bfloat16(),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
    }


def directory_of(path, tensors):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text("{}")
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def raw_file(path, header, data=b""):
    """A safetensors file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_the_library(tmp_path, dtype):
    path = directory_of(tmp_path / "model", some_tensors())
    theirs = load_file(path / "model.safetensors")
    for source in (path, path / "model.safetensors"):
        mine = Directory(source)
        assert mine.tensors.keys() == theirs.keys()
        for name, tensor in theirs.items():
            read = mine.read(name, dtype)
            assert read.shape == tensor.shape
            assert torch.equal(read, tensor.to(dtype)), name


def test_shards(tmp_path):
    tensors = some_tensors()
    path = directory_of(tmp_path / "model", {})
    (path / "model.safetensors").unlink()
    weight_map = {name: f"model-{number}.safetensors" for number, name in enumerate(tensors)}
    for name, file in weight_map.items():
        save_file({name: tensors[name]}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    directory = Directory(path)
    assert list(directory.tensors) == list(tensors)
    for name in tensors:
        assert torch.equal(directory.read(name), tensors[name].float())
    with pytest.raises(WeightsError, match="no tensor 'x'"):
        directory.read("x")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("../outside.safetensors", "must be beside the index"),
        ("..\\outside.safetensors", "must be beside the index"),
        ("/etc/outside.safetensors", "must be beside the index"),
        ("C:outside.safetensors", "must be beside the index"),
        ("model.bin", "must be beside the index"),
        (7, "must be beside the index"),
        ("missing.safetensors", "missing.safetensors cannot be read: No such file"),
        ("other.safetensors", "lacks the tensor 'x'"),
    ],
)
def test_a_bad_index(tmp_path, file, message):
    save_file({"x": torch.ones(2)}, tmp_path / "outside.safetensors")
    path = directory_of(tmp_path / "model", {})
    save_file({"y": torch.ones(2)}, path / "other.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": file}}))
    with pytest.raises(WeightsError, match=message):
        Directory(path)


def test_pickles_are_never_opened(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch.save({"x": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"only as a pickle \(pytorch_model.bin\).*save_pretrained"):
        Directory(tmp_path)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="is a pickle, whatever its name"):
        Directory(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(WeightsError, match=r"config.json cannot be read"):
        Directory(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        Directory(tmp_path)
    with pytest.raises(WeightsError, match=r"no\.safetensors cannot be read"):
        Directory(tmp_path / "no.safetensors")


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = entry([2, 2], 0, 16)
BAD_HEADERS = {
    "not json": (b"{'a': 1}", "no valid JSON"),
    "not utf-8": (b'{"\xff": 1}', "no valid JSON"),
    "a list": ([], "expected an object"),
    "too deep": (b"[" * 200_000, "no valid JSON"),
    "a huge number": (b'{"a": ' + b"9" * 5000 + b"}", "no valid JSON"),
    "a key twice": (b'{"a": 1, "a": 2}', "'a' is there twice"),
    "an entry that is a number": ({"a": 5}, "'a' lacks its dtype"),
    "no offsets": ({"a": {"dtype": "F32", "shape": []}}, "'a' lacks its dtype"),
    "overlap": ({"a": GOOD, "b": GOOD}, "'b' overlaps"),
    "half an overlap": ({"a": GOOD, "b": entry([1], 12, 16)}, "'b' overlaps"),
    "a hole": ({"a": entry([1], 0, 4), "b": entry([2], 8, 16)}, "'b' leaves a hole"),
    "a hole in front": ({"a": entry([3], 4, 16)}, "'a' leaves a hole"),
    "bytes left over": ({"a": entry([3], 0, 12)}, "should have .* bytes"),
    "past the end": ({"a": entry([8], 0, 32)}, "should have .* bytes"),
    "offsets backwards": ({"a": entry([2, 2], 16, 0)}, r"but -16 bytes"),
    "wrong shape": ({"a": entry([2, 3], 0, 16)}, r"shape \(2, 3\) in F32, but 16 bytes"),
    "a product past 2^64": ({"a": entry([2**40, 2**40], 0, 16)}, "but 16 bytes"),
    "a size past 2^63": ({"a": entry([2**64], 0, 16)}, "whole numbers"),
    "a negative size": ({"a": entry([-2, -2], 0, 16)}, "whole numbers"),
    "a fraction": ({"a": entry([2.0, 2], 0, 16)}, "whole numbers"),
    "true": ({"a": entry([True, 4], 0, 16)}, "whole numbers"),
    "very many axes": ({"a": entry([1] * 5000, 0, 4)}, "short list"),
    "three offsets": ({"a": {**GOOD, "data_offsets": [0, 8, 16]}}, "two whole numbers"),
    "integers": ({"a": entry([8], 0, 16, "I16")}, "stored as 'I16'; tinyphi reads F64, F32, F16, BF16, U8"),
    "eight bits": ({"a": entry([16], 0, 16, "F8_E4M3")}, "stored as 'F8_E4M3'"),
    "a type that is a list": ({"a": entry([2], 0, 16, ["F32"])}, "tinyphi reads F64"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_headers(tmp_path, case):
    header, message = BAD_HEADERS[case]
    path = raw_file(tmp_path / "model.safetensors", header, bytes(16))
    with pytest.raises(WeightsError, match=message):
        read_safetensors(path)


def test_the_helper_writes_good_files_too(tmp_path):
    path = raw_file(tmp_path / "model.safetensors", {"a": GOOD, "__metadata__": {"b": "c"}}, bytes(16))
    assert list(read_safetensors(path)) == ["a"]


@pytest.mark.parametrize("length", [0x0280, 0x0580, 0x20380])
def test_a_header_as_long_as_a_pickle_begins(tmp_path, length):
    """The first two bytes are those of a pickle, by chance."""
    text = json.dumps({"a": GOOD}).encode().ljust(length)
    path = raw_file(tmp_path / "model.safetensors", text, bytes(16))
    assert path.read_bytes()[:1] == b"\x80"
    assert list(read_safetensors(path)) == ["a"]


@pytest.mark.parametrize("length", [0, 5, 8, 20])
def test_a_file_that_ends_early(tmp_path, length):
    path = raw_file(tmp_path / "model.safetensors", {"a": GOOD}, bytes(16))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError, match="cut off"):
        read_safetensors(path)
