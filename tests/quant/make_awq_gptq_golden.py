"""Write down what AutoAWQ 0.2.8 and AutoGPTQ 0.7.1 make of a few matrices.

python tests/quant/make_awq_gptq_golden.py      needs pip's package index; writes awq_gptq_golden.safetensors

Both packages want a GPU and old versions of others, so nothing is installed: their sources are fetched, and
the few files that hold the arithmetic are run on the CPU, with stand-ins for the modules around them.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).with_name("awq_gptq_golden.safetensors")
PACKAGES = {"awq": "autoawq==0.2.8", "auto_gptq": "auto-gptq==0.7.1"}
STAND_INS = [
    "accelerate",
    "transformers",
    "awq.utils.calib_data",
    "awq.quantize.scale",
    "awq.modules.linear.gemv",
]
OUTPUTS, INPUTS, TOKENS = 64, 128, 384
GPTQ_OUTPUTS = 32  # rows are rounded independently, and a small file is enough
# name → group size, act-order, symmetric
GPTQ_CASES = {
    "g32": (32, False, False),
    "g64 symmetric": (64, False, True),
    "rows": (INPUTS, False, False),
    "g32 act-order": (32, True, False),
    "g64 symmetric act-order": (64, True, True),
}


def example():
    """A weight (o i) and inputs (t i), float32; inputs are correlated, a few large, one always 0."""
    random = np.random.RandomState(7)  # whose numbers never change, unlike those of default_rng
    weight = 0.05 * random.standard_normal((OUTPUTS, INPUTS))
    mixing = random.standard_normal((INPUTS, INPUTS)) * (random.random_sample((INPUTS, INPUTS)) < 0.2)
    inputs = random.standard_normal((TOKENS, INPUTS)) @ (mixing + np.eye(INPUTS))
    inputs[:, [3, 40, 41, 90]] *= 30
    inputs[:, 77] = 0
    return torch.tensor(weight).float(), torch.tensor(inputs).float()


def fetch_sources(folder):
    """Make `awq` and `auto_gptq` importable, without running their __init__ files."""
    for package, requirement in PACKAGES.items():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary", ":all:", "-d", str(folder), requirement]
        subprocess.run(command, check=True, env={**os.environ, "BUILD_CUDA_EXT": "0"})
        (archive,) = folder.glob(f"{package.replace('awq', 'autoawq')}*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        root = folder / archive.name.removesuffix(".tar.gz") / package
        for path in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            name = ".".join(path.relative_to(root.parent).parts)
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(path)]
    for name in STAND_INS:
        sys.modules[name] = MagicMock()

    class Conv1D:
        """A layer that AutoGPTQ also knows."""

    sys.modules["transformers"].Conv1D = sys.modules["transformers"].pytorch_utils.Conv1D = Conv1D
    for name in ("WQLinear_GEMM", "WQLinear_GEMV", "WQLinear_Marlin", "WQLinear_GEMVFast"):
        setattr(sys.modules["awq.modules.linear"], name, None)
    torch.cuda.synchronize = lambda: None


def linear(weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def awq_search(weight, inputs):
    """The best scale of the paper's form, and each group's best limit."""
    quantizer = object.__new__(import_module("awq.quantize.quantizer").AwqQuantizer)
    quantizer.group_size, quantizer.w_bit, quantizer.zero_point = 32, 4, True
    quantizer.duo_scaling, quantizer.max_chunk_memory = False, 1 << 30
    quantizer.n_parallel_calib_samples = None
    layer, mean = linear(weight), inputs.abs().mean(0)
    with torch.no_grad():
        scale = quantizer._compute_best_scale(
            inputs, torch.ones_like(mean), mean, layer, [layer], inputs @ weight.T
        )
        limits = quantizer._compute_best_clip(weight * scale, inputs / scale)
        rounded, scales, zeros = quantizer.pseudo_quantize_tensor(weight)
    return {"scale": scale, "limits": limits.squeeze(-1)}, rounded, scales, zeros


def awq_pack(rounded, scales, zeros):
    """The tensors of a checkpoint, and the matrix (o i) that AutoAWQ reads from them."""
    module = import_module("awq.modules.linear.gemm")
    module.get_best_device = lambda: "cpu"
    packed = module.WQLinear_GEMM.from_linear(
        linear(rounded), 4, 32, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    tensors = {"qweight": packed.qweight, "qzeros": packed.qzeros, "scales": packed.scales}
    weight = module.dequantize_gemm(packed.qweight, packed.qzeros, packed.scales.float(), 4, 32)
    return tensors | {"weight": weight.T}


def gptq_round(weight, inputs, group_size, act_order, symmetric, blocksize=None):
    """The rounded matrix, scales, zero points and groups of AutoGPTQ, with scales as they will be stored."""
    module = import_module("auto_gptq.quantization.gptq")
    gptq = module.GPTQ(linear(weight))
    gptq.quantizer.configure(4, perchannel=True, sym=symmetric)
    find = type(gptq.quantizer).find_params

    def find_stored(self, x, weight=False):
        find(self, x, weight)
        self.scale = self.scale.half().float()

    type(gptq.quantizer).find_params = find_stored
    try:
        gptq.add_batch(inputs, None)
        scales, zeros, groups = gptq.fasterquant(
            blocksize=blocksize or group_size,
            group_size=group_size,
            actorder=act_order,
            static_groups=act_order,
        )
    finally:
        type(gptq.quantizer).find_params = find
    return gptq.layer.weight.data, scales, zeros, groups


def gptq_pack(rounded, scales, zeros, groups, group_size):
    """The tensors of a checkpoint, and the matrix (o i) that AutoGPTQ computes with."""
    module = import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda")
    packed = module.QuantLinear(4, group_size, INPUTS, GPTQ_OUTPUTS, bias=False, weight_dtype=torch.float32)
    packed.pack(linear(rounded), scales, zeros, groups)
    tensors = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    weight = packed(torch.eye(INPUTS)).T
    return tensors | {"scales": packed.scales.half(), "weight": weight.detach()}


def scattered(weight):
    """Plain rounding in groups of 32 that lie all over the matrix, as with act-order alone."""
    groups = torch.from_numpy(np.random.RandomState(8).permutation(INPUTS) // 32).int()
    scales, zeros, rounded = [], [], torch.empty_like(weight)
    for group in range(INPUTS // 32):
        part = weight[:, groups == group]
        scale = ((part.amax(1) - part.amin(1)) / 15).half().float()[:, None]
        zero = (-part.amin(1, keepdim=True) / scale).round()
        rounded[:, groups == group] = (((part / scale).round() + zero).clamp(0, 15) - zero) * scale
        scales, zeros = [*scales, scale], [*zeros, zero]
    return rounded, torch.cat(scales, 1), torch.cat(zeros, 1), groups


def make():
    weight, inputs = example()
    found, rounded, scales, zeros = awq_search(weight, inputs)
    golden = {f"awq.{name}": tensor for name, tensor in found.items()}
    golden |= {f"awq packed.{name}": tensor for name, tensor in awq_pack(rounded, scales, zeros).items()}
    weight = weight[:GPTQ_OUTPUTS]
    for name, (group_size, act_order, symmetric) in GPTQ_CASES.items():
        golden[f"gptq.{name}"] = gptq_round(weight, inputs, group_size, act_order, symmetric)[0]
    golden["gptq.g32 forgetful"] = gptq_round(weight, inputs, 32, False, False, blocksize=INPUTS)[0]
    packed = gptq_pack(*gptq_round(weight, inputs, 32, False, False), 32)
    golden |= {f"gptq packed.{name}": tensor for name, tensor in packed.items()}
    packed = gptq_pack(*scattered(weight), 32)
    golden |= {f"gptq scattered.{name}": tensor for name, tensor in packed.items()}
    return {name: tensor.contiguous() for name, tensor in golden.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        fetch_sources(Path(folder))
        save_file(make(), GOLDEN)
