"""Broken and hostile weight files end in one clear error, in bounded memory and time.

Every prefix and hundreds of mutations of small valid files are opened. Any outcome but success or a
TinyphiError (a struct.error, a KeyError, a MemoryError, a crash) fails.
"""

import json
import pickle
import struct
import tracemalloc
import zipfile

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import TinyphiError, WeightsError
from tinyphi.weights.directory import Directory
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.load import read_config
from tinyphi.weights.names import LAYOUTS, places

CONFIG = PhiConfig(
    vocab_size=8,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=16,
    eos_token_id=2,
    pad_token_id=2,
)
MEMORY = 64 << 20  # bytes that opening a tiny hostile file may take at most


def arrays(layout):
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=place.shape).astype(np.float32)
        for name, place in places(CONFIG, LAYOUTS[layout]).items()
    }


def write_gguf(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_array("tokenizer.ggml.tokens", ["<unk>", "a", "b"])
    writer.add_array("tokenizer.ggml.scores", [0.0, 1.0, 2.0])
    for name, array in arrays("gguf llama").items():
        kind = gguf.GGMLQuantizationType.Q4_1 if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_directory(path):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG.to_hugging_face()))
    tensors = arrays("phi3")
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:5], names[5:])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, path / file)
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path


@pytest.fixture(scope="module")
def good_gguf(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "good.gguf")


@pytest.fixture(scope="module")
def good_directory(tmp_path_factory):
    return write_directory(tmp_path_factory.mktemp("directory") / "good")


def test_the_undamaged_files_load(good_gguf, good_directory):
    for source in (good_gguf, good_directory):
        config = tinyphi.load_model(source).config
        assert (config.hidden_size, config.num_hidden_layers) == (32, 1)


def opens_or_refuses(source) -> bool:
    """Load the model: True on success, False on a TinyphiError; anything else is raised."""
    tracemalloc.start()
    try:
        tinyphi.load_model(source)
    except TinyphiError as error:
        assert len(str(error)) < 2000
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY
    return True


def test_every_prefix_of_a_gguf_file(good_gguf, tmp_path):
    data = good_gguf.read_bytes()
    header = min(info.offset for info in GGUFFile(good_gguf).tensors.values())
    path = tmp_path / "cut.gguf"
    for length in [*range(header + 2), *range(header, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError):
            GGUFFile(path)


def mutations():
    """A few bytes of a file set to something: (share of the length, new bytes) each."""
    numbers = st.sampled_from([0, 1, 2, 127, 255, 2**31, 2**32 - 1, 2**40, 2**60, 2**63, 2**64 - 1])
    replacement = st.one_of(st.binary(min_size=1, max_size=8), numbers.map(lambda n: struct.pack("<Q", n)))
    return st.lists(st.tuples(st.floats(0, 1, exclude_max=True), replacement), min_size=1, max_size=4)


def mutated(data: bytes, changes, length: int) -> bytes:
    """`data` with the changes, which fall within its first `length` bytes, where the header is."""
    changed = bytearray(data)
    for share, new in changes:
        start = int(share * length)
        changed[start : start + len(new)] = new
    return bytes(changed)


FUZZ = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(changes=mutations())
def test_mutated_gguf(good_gguf, tmp_path, changes):
    header = min(info.offset for info in GGUFFile(good_gguf).tensors.values())
    path = tmp_path / "mutated.gguf"
    path.write_bytes(mutated(good_gguf.read_bytes(), changes, header))
    opens_or_refuses(path)


@FUZZ
@given(changes=mutations(), number=st.integers(0, 3))
def test_mutated_directory(good_directory, tmp_path, changes, number):
    target = tmp_path / "mutated"
    target.mkdir(exist_ok=True)
    for position, path in enumerate(sorted(good_directory.iterdir())):
        data = path.read_bytes()
        if position == number:
            data = mutated(data, changes, min(len(data), 900))
        (target / path.name).write_bytes(data)
    opens_or_refuses(target)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@FUZZ
@given(key=st.sampled_from([*sorted(CONFIG.to_hugging_face()), "head_dim"]), value=JSON)
def test_any_value_in_a_config(good_directory, key, value):
    directory = Directory(good_directory)
    directory.config = {**directory.config, key: value}
    try:
        read_config(directory)
    except TinyphiError as error:
        assert str(error)


def string(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def header(*, tensors=0, entries=0, version=3, magic=b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries)


def array_entry(kind: int, count: int, data: bytes = b"") -> bytes:
    return header(entries=1) + string(b"a.key") + struct.pack("<IIQ", 9, kind, count) + data


def tensor(name=b"x", sizes=(4,), kind=0, offset=0, axes=None) -> bytes:
    numbers = struct.pack(f"<I{len(sizes)}Q", len(sizes) if axes is None else axes, *sizes)
    return string(name) + numbers + struct.pack("<IQ", kind, offset)


ROOM = bytes(4096)
HOSTILE_GGUF = {
    "empty": (b"", "is empty"),
    "magic": (header(magic=b"GGML") + ROOM, "not a GGUF file: it starts with b'GGML'"),
    "a pickle": (pickle.dumps({"x": 1}) + ROOM, "is a pickle"),
    "version 1": (header(version=1) + ROOM, "its version is 1; tinyphi reads versions 2 and 3"),
    "version 4": (header(version=4) + ROOM, "its version is 4"),
    "version 0": (header(version=0) + ROOM, "its version is 0"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + ROOM, "big-endian"),
    "2^64 - 1 entries": (header(entries=2**64 - 1) + ROOM, "twice"),  # the key '' comes a second time
    "2^64 - 1 tensors": (header(tensors=2**64 - 1) + ROOM, "has 0 axes"),
    "a string of 2^60": (header(entries=1) + string(b"", 2**60) + ROOM, "asks for 1152921504606846976 bytes"),
    "an array of 2^50 numbers": (array_entry(10, 2**50, ROOM), "asks for"),
    "an array of 2^50 bytes": (array_entry(0, 2**50, ROOM), "asks for"),
    "an array of 2^61 numbers, 2^64 bytes": (array_entry(10, 2**61, ROOM), "asks for"),
    "an array of 2^50 strings": (array_entry(8, 2**50, ROOM), "asks for"),
    "nested arrays": (array_entry(9, 2, struct.pack("<IQ", 9, 1) * 300), "array of type 9; not supported"),
    "an array of an unknown type": (array_entry(77, 1, ROOM), "array of type 77"),
    "an unknown type": (header(entries=1) + string(b"k") + struct.pack("<I", 13) + ROOM, "unknown type 13"),
    "not UTF-8": (header(entries=1) + string(b"\xff\xfe") + ROOM, "not UTF-8"),
    "2^32 - 1 axes": (header(tensors=1) + tensor(axes=2**32 - 1) + ROOM, "has 4294967295 axes"),
    "no axes": (header(tensors=1) + tensor(sizes=()) + ROOM, "has 0 axes"),
    "a size of zero": (header(tensors=1) + tensor(sizes=(4, 0)) + ROOM, "empty"),
    "a product past 2^64": (header(tensors=1) + tensor(sizes=(2**40, 2**40)) + ROOM, "ends at"),
    "a product of 2^64": (header(tensors=1) + tensor(sizes=(2**32, 2**32)) + ROOM, "ends at"),
    "part of a block": (header(tensors=1) + tensor(sizes=(33,), kind=8) + ROOM, "whole Q8_0 blocks"),
    "an unknown number type": (header(tensors=1) + tensor(kind=99) + ROOM, "number type 99"),
    "past the end": (header(tensors=1) + tensor(offset=1 << 20) + ROOM, "file ends at"),
    "far past the end": (header(tensors=1) + tensor(offset=2**64 - 32) + ROOM, "file ends at"),
    "not aligned": (header(tensors=1) + tensor(offset=4) + ROOM, "not at a multiple of 32"),
    "overlap": (header(tensors=2) + tensor(b"a", (16,)) + tensor(b"b", (16,), 0, 32) + ROOM, "'b' overlaps"),
    "the same place": (header(tensors=2) + tensor(b"a") + tensor(b"b") + ROOM, "overlaps"),
    "a name twice": (header(tensors=2) + tensor() + tensor(offset=32) + ROOM, "is there twice"),
    "a very long name": (header(tensors=1) + tensor(b"n" * 100_000, kind=99) + ROOM, "nnn…'"),
}


@pytest.mark.parametrize("case", HOSTILE_GGUF)
def test_hostile_gguf(tmp_path, case):
    data, message = HOSTILE_GGUF[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message) as caught:
        GGUFFile(path)
    assert len(str(caught.value)) < 1000
    assert not opens_or_refuses(path)


@pytest.mark.parametrize("alignment", [0, 1, 3, 48, 2**31])
def test_hostile_alignment(tmp_path, alignment):
    entry = string(b"general.alignment") + struct.pack("<II", 4, alignment)
    (tmp_path / "hostile.gguf").write_bytes(header(tensors=1, entries=1) + entry + tensor() + ROOM)
    with pytest.raises(WeightsError, match=f"alignment {alignment}"):
        GGUFFile(tmp_path / "hostile.gguf")


def test_a_header_without_end(tmp_path):
    """A sparse file of a terabyte, all of it one array: refused before any of it is read."""
    path = tmp_path / "hostile.gguf"
    path.write_bytes(array_entry(0, 2**39))
    with open(path, "r+b") as file:
        try:
            file.truncate(2**40)
        except OSError as error:
            pytest.skip(f"this disk does not hold a sparse file: {error}")
    assert not opens_or_refuses(path)


def test_a_pickle_that_would_run_code(tmp_path, good_directory):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return marker.write_text, ("",)

    target = tmp_path / "model"
    target.mkdir()
    (target / "config.json").write_bytes((good_directory / "config.json").read_bytes())
    for number, data in enumerate((pickle.dumps(Attack()), pickle.dumps(Attack(), protocol=0))):
        for name in ("model.safetensors", "config.json", "model.gguf"):
            copy = tmp_path / f"model{number}{name}"
            copy.mkdir()
            (copy / "config.json").write_bytes((good_directory / "config.json").read_bytes())
            (copy / name).write_bytes(data)
            assert not opens_or_refuses(copy / name if name.endswith("gguf") else copy)
    with zipfile.ZipFile(target / "model.safetensors", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Attack()))
    with pytest.raises(WeightsError, match="is a pickle"):
        tinyphi.load_model(target)
    assert not marker.exists()


def test_deep_json(tmp_path, good_directory):
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    assert not opens_or_refuses(tmp_path)
