"""The C kernel against exact arithmetic, on every processor's path, with sanitizers, and when it fails."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.kernels import layout, native
from tinyphi.quant.groupwise import Grouped, Halves, quantize_int4, quantize_int8
from tinyphi.quant.linear import GroupedLinear

HERE = Path(__file__).parent
needs_compiler = pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))


def activations(tokens, inputs, exponent=0, seed=0):
    """Numbers that rounding to 8 bits leaves as they are: multiples of a power of two, ±127 in each block."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(-127, 128, (tokens, inputs // 32, 32), generator=generator)
    blocks[..., seed % 32] = 127
    return blocks.flatten(1) * 2.0**exponent


def expected(weight, x):
    return x.double() @ weight.dequantize(torch.float64).T


def matrix(weight):
    minima = None if weight.minima is None else layout.scales_to_tiles(weight.minima)
    codes, scales = layout.to_tiles(weight.codes), layout.scales_to_tiles(weight.scales)
    return native.Matrix(codes, scales, minima, len(weight.codes), weight.group_size)


def weights(outputs, inputs, seed=0):
    """One of each kind: symmetric, with minima, wide groups, 8 bits in groups and by row."""
    numbers = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    groups = quantize_int8(numbers.reshape(-1, 32))
    yield "4 bits", quantize_int4(numbers)
    yield "4 bits with minima", quantize_int4(numbers, symmetric=False)
    yield "4 bits, a group a row", quantize_int4(numbers, inputs, symmetric=False)
    if inputs % 96 == 0:
        yield "4 bits, groups of three blocks", quantize_int4(numbers, 96)
    if inputs % 64 == 0:
        yield "4 bits, groups of two blocks", quantize_int4(numbers, 64, symmetric=False)
    yield "8 bits", Grouped(groups.codes.view(outputs, inputs), groups.scales.view(outputs, -1))
    yield "8 bits by row", quantize_int8(numbers)


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    outputs=st.integers(1, 70), blocks=st.integers(1, 9), tokens=st.integers(1, 11),
    exponent=st.integers(-30, 30), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_computes_what_exact_arithmetic_does(outputs, blocks, tokens, exponent, seed):
    x = activations(tokens, 32 * blocks, exponent, seed)
    for kind, weight in weights(outputs, 32 * blocks, seed):
        assert relative(matrix(weight).times(x), expected(weight, x)) < 2e-6, kind


@needs_compiler
def test_a_large_product_is_shared_among_threads_and_cut_for_the_cache():
    x = activations(130, 4096)
    for kind, weight in weights(160, 4096):
        assert relative(matrix(weight).times(x), expected(weight, x)) < 2e-6, kind


@needs_compiler
def test_extreme_codes_do_not_overflow():
    for codes in (
        torch.full((16, 512), 15, dtype=torch.uint8),
        torch.full((16, 512), -127, dtype=torch.int8),
    ):
        weight = Grouped(codes, torch.ones(16, 16, dtype=torch.float16))
        for sign in (1, -1):
            x = torch.full((4, 512), 127.0 * sign)
            assert relative(matrix(weight).times(x), expected(weight, x)) < 2e-6


@needs_compiler
def test_zeros_give_zeros_and_nothing_hides_a_nan():
    weight = quantize_int4(torch.randn(32, 64))
    assert matrix(weight).times(torch.zeros(3, 64)).eq(0).all()
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = torch.ones(2, 64)
        x[1, 40] = bad
        y = matrix(weight).times(x)
        assert y[0].isfinite().all()
        assert y[1].isnan().all()


@needs_compiler
def test_bfloat16_goes_in_and_comes_out():
    weight = quantize_int4(torch.randn(48, 96))
    x = torch.randn(2, 3, 96).bfloat16()
    y = matrix(weight).times(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, matrix(weight).times(x.float()).bfloat16())


@needs_compiler
def test_a_planted_mistake_is_noticed():
    weight = quantize_int4(torch.randn(32, 64))
    swapped = Grouped(weight.codes.unflatten(1, (-1, 2)).flip(-1).flatten(1), weight.scales)
    x = activations(1, 64)
    assert relative(matrix(swapped).times(x), expected(weight, x)) > 0.1


@needs_compiler
def test_activations_are_rounded_to_half_a_step_of_each_32():
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    unit = Grouped(torch.eye(32, dtype=torch.int8), torch.ones(32, 1, dtype=torch.float16))
    step = x.abs().amax(1, keepdim=True) / 127
    error = (matrix(unit).times(x) - x).abs() / step
    assert 0.4 < error.max() < 0.5001


def run_driver(command, weight, x, folder):
    """The same product in another process."""
    parts = [layout.to_tiles(weight.codes), layout.scales_to_tiles(weight.scales)]
    if weight.minima is not None:
        parts.append(layout.scales_to_tiles(weight.minima))
    sizes = (*weight.codes.shape, weight.group_size, weight.bits, len(x), weight.minima is not None)
    data = [struct.pack("<7q", *sizes, parts[0].nbytes), *(part.numpy().tobytes() for part in (*parts, x))]
    (folder / "in").write_bytes(b"".join(data))
    subprocess.run([*command, folder / "in", folder / "out"], check=True, timeout=300, capture_output=True)
    return torch.from_numpy(np.fromfile(folder / "out", dtype=np.float32)).view(len(x), -1)


SANITIZERS = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -march=native -fopenmp"
AVX512 = "-O1 -w -march=x86-64 -DSIMDE_NO_NATIVE -D__AVX2__ -D__AVX512VNNI__ -D__AVX512BW__"
PATHS = {  # compiler, its options, emulator
    "sanitizers": ("gcc", SANITIZERS, ()),
    "portable": ("gcc", "-O2 -march=x86-64 -ffp-contract=off -fopenmp", ()),
    "AVX-512": ("gcc", f"{AVX512} -I{HERE / 'avx512'}", ()),
    "ARM, dotprod": ("aarch64-linux-gnu-gcc", "-O2 -static -march=armv8.2-a+dotprod", ("qemu-aarch64",)),
    "ARM": ("aarch64-linux-gnu-gcc", "-O2 -static -march=armv8-a", ("qemu-aarch64",)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="compiles and emulates with Debian's tools")
@pytest.mark.parametrize("path", PATHS)
def test_every_processors_path_computes_the_same(path, tmp_path):
    compiler, flags, emulator = PATHS[path]
    tools = [compiler, *emulator, *(["/usr/include/simde"] if path == "AVX-512" else [])]
    missing = [tool for tool in tools if not (shutil.which(tool) or Path(tool).is_dir())]
    if missing and not os.environ.get("TINYPHI_NEED_EMULATORS"):
        pytest.skip(f"{missing[0]} is not installed; .ci/run brings it")
    program = str(tmp_path / "driver")
    built = subprocess.run(
        [compiler, *flags.split(), HERE / "driver.c", "-o", program, "-lm"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for tokens, outputs, inputs in ((1, 40, 96), (5, 33, 192), (1, 17, 128)):
        x = activations(tokens, inputs, seed=tokens)
        for kind, weight in weights(outputs, inputs):
            y = run_driver([*emulator, program], weight, x, tmp_path)
            assert relative(y, expected(weight, x)) < 2e-6, kind


IN_A_FRESH_PROCESS = """
import warnings, torch
from tinyphi.kernels import native
from tinyphi.quant.groupwise import quantize_int4
from tinyphi.quant.linear import GroupedLinear
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    layers = [GroupedLinear(quantize_int4(torch.randn(32, 64))) for _ in range(3)]
print(layers[0].backend.name, len(seen), "|", native.problem())
"""


def fresh_process(tmp_path, **environment):
    found = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, timeout=300,
        env={**os.environ, "TINYPHI_CACHE": str(tmp_path), **environment},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_without_a_compiler_torch_computes_and_it_is_said_once(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert fresh_process(tmp_path, PATH=str(empty), CC="").startswith("torch 1 | no C compiler was found")


def test_a_compiler_that_fails_is_named_with_its_reason(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho error: broken on purpose >&2\nexit 1\n")
    compiler.chmod(0o755)
    said = fresh_process(tmp_path, CC=str(compiler))
    assert said.startswith("torch 1")
    assert "broken on purpose" in said
    assert not list((tmp_path / "kernels").glob("*")) if (tmp_path / "kernels").exists() else True


@needs_compiler
def test_a_compiler_may_come_with_options(tmp_path):
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    assert fresh_process(tmp_path, CC=f"{compiler} -Wall").startswith("native 0")


@needs_compiler
@pytest.mark.parametrize(
    "x",
    [
        torch.ones(4, 32), torch.ones(3, 128), torch.ones(2, 64, dtype=torch.int8),
        torch.ones(2, 64, dtype=torch.float16), torch.ones(2, 64, device="meta"),
    ],
    ids=["narrow", "wide", "int8", "float16", "nowhere"],
)  # fmt: skip
def test_what_it_cannot_read_is_refused(x):
    with pytest.raises(InputError, match="kernel multiplies"):
        matrix(quantize_int4(torch.randn(32, 64))).times(x)


@needs_compiler
def test_blocks_of_gguf_become_tiles_as_they_are():
    """Codes that lie two in a byte, to the kernel and apart, whatever torch's default device is."""
    plain = quantize_int4(torch.randn(40, 96), symmetric=False)
    low, high = plain.codes.view(40, 3, 2, 16).unbind(2)
    halves = Halves(low | high << 4, plain.scales, plain.minima)
    assert (halves.shape, halves.bits, halves.group_size) == ((40, 96), 4, 32)
    assert torch.equal(halves.codes, plain.codes)
    with torch.device("meta"):
        layer = GroupedLinear(halves, "native")
    assert torch.equal(layer.grouped().codes, plain.codes)
    assert torch.equal(layer.backend.codes, layout.to_tiles(plain.codes))


@needs_compiler
def test_it_is_compiled_once_and_kept(tmp_path):
    assert fresh_process(tmp_path).startswith("native 0")
    (library,) = (tmp_path / "kernels").iterdir()
    before = library.stat().st_mtime_ns
    assert fresh_process(tmp_path).startswith("native 0")
    assert library.stat().st_mtime_ns == before


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of loaded libraries")
def test_there_is_one_openmp_runtime_in_the_process():
    program = (
        "import torch; from tinyphi.kernels import native; assert native.usable(); import re;"
        "print(len({line.split()[-1] for line in open('/proc/self/maps') if re.search('lib[gi]?omp', line)}))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=300).strip() == "1"


@needs_compiler
def test_torch_knows_the_operator():
    weight = quantize_int4(torch.randn(48, 64), symmetric=False)
    arguments = (layout.to_tiles(weight.codes), layout.scales_to_tiles(weight.scales),
                 layout.scales_to_tiles(weight.minima), 48, 32)  # fmt: skip
    x = torch.randn(2, 64)
    assert torch.equal(torch.ops.tinyphi.linear(x, *arguments), matrix(weight).times(x))
    torch.library.opcheck(torch.ops.tinyphi.linear.default, (x, *arguments))


def test_tiles_are_undone():
    generator = torch.Generator().manual_seed(0)
    for outputs in (1, 8, 33):
        for codes in (
            torch.randint(0, 16, (outputs, 96), dtype=torch.uint8, generator=generator),
            torch.randint(-128, 128, (outputs, 96), dtype=torch.int8, generator=generator),
        ):
            tiles = layout.to_tiles(codes)
            assert torch.equal(layout.from_tiles(tiles, outputs), codes)
            ids = torch.randint(0, outputs, (5,), generator=generator)
            assert torch.equal(layout.rows(tiles, ids), codes[ids])
        scales = torch.randn(outputs, 3).half()
        tiles = layout.scales_to_tiles(scales)
        assert torch.equal(layout.scales_from_tiles(tiles, outputs), scales)
        assert torch.equal(layout.scale_rows(tiles, torch.tensor([outputs - 1])), scales[-1:])
