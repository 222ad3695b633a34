"""LoRA: train a small difference beside each frozen matrix, and nothing else.

    y = W x + (α/r) · B A x        W (o i) is frozen; A (r i) and B (o r) are trained

Fine-tuning moves a weight little, and what it adds can be written as a matrix of low rank. With r = 8, a
matrix of 3072 × 8192 has 25 million numbers and its adapter 90 thousand: gradients and the optimizer's two
moments are needed for these alone. B starts at zero, so that training starts from the model as it is.

Over a quantized W the same is called QLoRA: four bits for what stays, float32 for what learns.

One model is two: `without_lora` is what it was before training, which is the reference model of DPO.

Source: Hu et al. 2021 (arXiv 2106.09685), eq. 3; Dettmers et al. 2023 (arXiv 2305.14314), eq. 5; `Linear` of
`peft.tuners.lora`, without dropout.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.model.linear import Linear
from tinyphi.model.transformer import Phi3
from tinyphi.quant.linear import QuantizedLinear
from tinyphi.weights.names import LAYOUTS, Place, places
from tinyphi.weights.save import move_into_place
from tinyphi.weights.storage import brief

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_MERGE_FIRST = (
    "This model has LoRA inside, so its matrices are not all that it computes with. Call merge_lora(model) "
    "or remove_lora(model) first; save_lora(model, …) saves the adapter alone."
)


class LoRALinear(nn.Module):
    """A linear layer with an adapter beside it: (… i) → (… o).

    base: a `Linear` or a `QuantizedLinear`; it is frozen by `add_lora`, not here.
    A and B are float32 also beside weights in bfloat16, whose steps are wider than what a training step
    changes; the sum has the dtype of the base's output.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = _shape(base)
        self.base, self.rank, self.alpha = base, rank, alpha
        self.scale = alpha / rank
        self.enabled = True  # see without_lora
        self.training = base.training
        example = next(chain(base.parameters(), base.buffers()))
        dtype = torch.float64 if example.dtype == torch.float64 else torch.float32
        a = torch.empty(rank, inputs, dtype=dtype)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)  # between ±1/√i, as nn.Linear starts
        self.A = nn.Parameter(a.to(example.device))
        self.B = nn.Parameter(torch.zeros(outputs, rank, dtype=dtype, device=example.device))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        if not self.enabled:
            return y
        return (y + self.scale * F.linear(F.linear(x.to(self.A.dtype), self.A), self.B)).to(y.dtype)

    def difference(self) -> Tensor:
        """What the adapter adds to the weight, (α/r) B A: (o i)."""
        return self.scale * (self.B @ self.A).detach()

    # What asks a layer for its matrix (saving, quantizing, the compiled decoder) would leave the adapter out.

    @property
    def weight(self) -> NoReturn:
        raise InputError(_MERGE_FIRST)

    @property
    def native_matrix(self) -> NoReturn:
        raise InputError(_MERGE_FIRST)

    def extra_repr(self) -> str:
        return f"rank {self.rank}, alpha {self.alpha:g}"


@dataclass(frozen=True)
class LoRAReport:
    """What `add_lora` did. Print it for a sentence."""

    matrices: int  # that have an adapter
    trainable: int  # numbers in A and B
    parameters: int  # numbers in the whole model, these included

    @property
    def share(self) -> float:
        """The trainable part of all parameters."""
        return self.trainable / self.parameters

    def __str__(self) -> str:
        return (
            f"LoRA beside {self.matrices} matrices: {self.trainable:,} of {self.parameters:,} parameters "
            f"are trained ({self.share:.2%})"
        )


def add_lora(
    model: Phi3, rank: int = 8, alpha: float = 16, targets: Sequence[str] = TARGETS, seed: int = 0
) -> LoRAReport:
    """Put an adapter beside the named matrices of every layer, in place, and freeze everything else.

    rank: r, the largest rank of a difference. alpha: differences are multiplied by α/r.
    targets: some of `TARGETS`. seed: of A's random numbers.
    A model that was compiled no longer is.
    Raises InputError for a rank below 1, an alpha that is not above 0, no or unknown targets, and a model
    that has LoRA inside already.
    """
    _check(model, rank, alpha, targets)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in _matrices(model.config, targets):
        _put(model, name, LoRALinear(model.get_submodule(name), rank, alpha, generator))
    model._decoder = None  # it holds the matrices without their adapters
    trainable = sum(parameter.numel() for parameter in lora_parameters(model))
    return LoRAReport(len(lora_layers(model)), trainable, model.config.parameter_count() + trainable)


def lora_layers(model: Phi3) -> dict[str, LoRALinear]:
    """The layers with an adapter: "layers.0.attention.qkv_proj" and so on. Raises InputError if none has."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    if not found:
        raise InputError("This model has no LoRA inside. Call add_lora(model) or load_lora(model, …) first.")
    return found


def lora_parameters(model: Phi3) -> list[nn.Parameter]:
    """Every A and B, for the optimizer. Raises InputError if there are none."""
    return [parameter for layer in lora_layers(model).values() for parameter in (layer.A, layer.B)]


@contextmanager
def without_lora(model: Phi3) -> Iterator[Phi3]:
    """The model as it was before `add_lora`, within a `with` block: a reference that takes no memory.

    Raises InputError if there is no LoRA inside: then the model would be compared with itself.
    """
    before = {layer: layer.enabled for layer in lora_layers(model).values()}
    for layer in before:
        layer.enabled = False
    try:
        yield model
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled


def merge_lora(model: Phi3) -> None:
    """Add the differences to the weights, in place: the same model without adapters, as fast as before.

    Sums are taken in the adapter's dtype and rounded once to the model's. A quantized matrix is decoded, and
    stays so: rounded to four bits again, most of what was learned would fall between two codes. All
    parameters can be trained afterwards. Raises InputError if there is no LoRA inside.
    """
    dtype = model.norm.weight.dtype
    for name, layer in lora_layers(model).items():
        base, difference = layer.base, layer.difference()
        if isinstance(base, QuantizedLinear):
            merged = base.dequantize(difference.dtype) + difference
            base = _plain(merged.to(dtype), base.bias).train(layer.training)
        else:
            assert isinstance(base, nn.Linear)
            base.weight.data = (base.weight + difference).to(base.weight.dtype)
        _put(model, name, base)
    model.requires_grad_(True)


def remove_lora(model: Phi3) -> None:
    """Throw the adapters away, in place; all parameters can be trained afterwards.

    Raises InputError if there is no LoRA inside.
    """
    for name, layer in lora_layers(model).items():
        _put(model, name, layer.base)
    model.requires_grad_(True)


def _check(model: Phi3, rank: int, alpha: float, targets: Sequence[str]) -> None:
    if not isinstance(rank, int) or rank < 1:
        raise InputError(f"rank is {rank!r}; it must be a whole number from 1, and 8 is usual.")
    if not 0 < alpha < math.inf:
        raise InputError(f"alpha is {alpha!r}; it must be above 0, and twice the rank is usual.")
    unknown = [name for name in targets if name not in TARGETS]
    if isinstance(targets, str) or unknown or not targets:
        raise InputError(f"targets are {targets!r}; give some of {', '.join(TARGETS)} in a tuple.")
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise InputError("This model has LoRA inside already. Call merge_lora or remove_lora first.")


def _matrices(config: PhiConfig, targets: Sequence[str]) -> list[str]:
    """The names of the target matrices, layer by layer."""
    parts = ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    chosen = [part for part in parts if part.rpartition(".")[2] in targets]
    return [f"layers.{layer}.{part}" for layer in range(config.num_hidden_layers) for part in chosen]


def _put(model: Phi3, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _shape(base: nn.Module) -> tuple[int, int]:
    if not isinstance(base, (nn.Linear, QuantizedLinear)):
        raise InputError(f"LoRA goes beside a linear layer; this is a {type(base).__name__}.")
    return base.out_features, base.in_features


def _plain(weight: Tensor, bias: nn.Parameter | None) -> Linear:
    """A linear layer with this weight (o i)."""
    with torch.device("meta"):  # no memory for weights that are replaced at once
        linear = Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight)
    linear.register_parameter("bias", bias)
    return linear


# Files. PEFT's layout: adapter_config.json says which matrices, which rank and which alpha, and
# adapter_model.safetensors holds A and B of each, named after transformers' modules.

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class _Stored(NamedTuple):
    """Where a tensor of the file belongs."""

    layer: str
    part: str  # "A" or "B"
    shape: tuple[int, ...]
    place: Place  # of the matrix beside which it stands


def save_lora(model: Phi3, directory: str | os.PathLike[str]) -> None:
    """Write the adapter alone as PEFT does, which loads it beside what `tinyphi.save` wrote of the model.

    The names are transformers' for `phi3`, also for a model that was a Llama, such as SmolLM2: its queries,
    keys and values have one A in common here, and could not share it as three matrices. PEFT opens it with
    `PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(…), directory)`.
    All is written beside the directory first and moved there when complete; an adapter saved there before is
    replaced. Raises WeightsError if the directory holds other files or cannot be written, InputError if there
    is no LoRA inside.
    """
    layers = lora_layers(model)
    target = Path(directory).expanduser().resolve()
    _check_target(target)
    first = next(iter(layers.values()))
    targets = tuple({name.rpartition(".")[2]: None for name in layers})
    tensors = {}
    for name, (layer, part, _, place) in _stored(model.config, first.rank, targets).items():
        numbers = getattr(layers[layer], part).detach().cpu()
        tensors[name] = (numbers if part == "A" else place.take(numbers)).contiguous()
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        scratch.mkdir(parents=True)
        text = json.dumps(_settings(model.config, first, targets), indent=2) + "\n"
        (scratch / CONFIG).write_text(text, encoding="utf-8")
        save_file(tensors, scratch / WEIGHTS, metadata={"format": "pt"})
        move_into_place(scratch, target)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The adapter cannot be saved to {target}: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_lora(model: Phi3, directory: str | os.PathLike[str]) -> LoRAReport:
    """Add an adapter that `save_lora` or PEFT wrote; in all else as `add_lora`.

    The numbers become float32. Dropout, which PEFT may have trained with, has no part in the result and none
    in training here. Nothing is changed unless all fits.
    Raises WeightsError for files that are missing or damaged and tensors that are missing, too many or of
    another shape, ConfigError for anything but plain LoRA beside the matrices of `TARGETS`, InputError for a
    model that has LoRA inside already.
    """
    folder = Path(directory).expanduser()
    rank, alpha, targets = _read_settings(folder / CONFIG, model.config)
    expected = _stored(model.config, rank, targets)
    tensors = _read_tensors(folder / WEIGHTS, expected)
    report = add_lora(model, rank, alpha, targets)
    layers = lora_layers(model)
    with torch.no_grad():
        for name, (layer, part, _, place) in expected.items():
            rows = slice(None) if part == "A" or not place.group else place.order()
            getattr(layers[layer], part)[rows] = tensors[name].to(layers[layer].A)
    return report


def _stored(config: PhiConfig, rank: int, targets: Sequence[str]) -> dict[str, _Stored]:
    """For each tensor of an adapter's file: name → what it is."""
    wanted, found = set(_matrices(config, targets)), {}
    for name, place in places(config, LAYOUTS[config.model_type]).items():
        layer = place.parameter.removesuffix(".weight")
        if layer in wanted:
            stem, (outputs, inputs) = f"base_model.model.{name.removesuffix('.weight')}", place.shape
            found[f"{stem}.lora_A.weight"] = _Stored(layer, "A", (rank, inputs), place)
            found[f"{stem}.lora_B.weight"] = _Stored(layer, "B", (outputs, rank), place)
    return found


def _their_names(config: PhiConfig) -> dict[str, str]:
    """What transformers calls each of `TARGETS`."""
    stored = _stored(config, 1, TARGETS)
    return {place.layer.rpartition(".")[2]: name.split(".")[-3] for name, place in stored.items()}


def _settings(config: PhiConfig, layer: LoRALinear, targets: Sequence[str]) -> dict[str, Any]:
    """What PEFT has to know; for all that is not said, it takes plain LoRA."""
    theirs = _their_names(config)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": layer.rank,
        "lora_alpha": layer.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [theirs[target] for target in targets],
        "inference_mode": True,
    }


# Keys of adapter_config.json that change nothing in what an adapter computes, and those that are read. Any
# other may only say that something is not used.
_FREE = (
    "auto_mapping base_model_name_or_path inference_mode init_lora_weights lora_dropout megatron_core "
    "peft_version qalora_group_size revision task_type"
).split()
_READ = ("peft_type", "r", "lora_alpha", "target_modules")
_UNUSED: tuple[Any, ...] = (None, False, "none", {}, [])
_STARTS = (None, True, False, "gaussian")  # of A and B; other ways to start change the model's weights too


def _read_settings(path: Path, config: PhiConfig) -> tuple[int, float, tuple[str, ...]]:
    """Rank, alpha and targets. Raises as `load_lora` does."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Give the directory of an adapter.") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise ConfigError(f"{path} does not describe a LoRA adapter (peft_type 'LORA').")
    foreign = {key: value for key, value in settings.items() if key not in _FREE and key not in _READ}
    wrong = [key for key, value in foreign.items() if value not in _UNUSED]
    wrong += ["init_lora_weights"] if settings.get("init_lora_weights") not in _STARTS else []
    if wrong:
        raise ConfigError(
            f"{path} has {brief(wrong[0])}: {str(settings[wrong[0]])[:80]}; tinyphi reads plain LoRA only, "
            "without it. Merge this adapter with PEFT and load the merged model."
        )
    match settings:
        case {"r": int(rank), "lora_alpha": int(alpha) | float(alpha), "target_modules": list(names)}:
            return rank, alpha, _our_targets(names, config, path)
    raise ConfigError(f"{path} must give r, lora_alpha and a list of target_modules.")


def _our_targets(names: list[Any], config: PhiConfig, path: Path) -> tuple[str, ...]:
    theirs = {theirs: ours for ours, theirs in _their_names(config).items()}
    unknown = [brief(str(name)) for name in names if not isinstance(name, str) or name not in theirs]
    if unknown or not names:
        raise ConfigError(
            f"{path} has the target_modules {', '.join(unknown) or '[]'}; this model's are "
            f"{', '.join(theirs)}. An adapter for a Llama's separate q_proj, k_proj and v_proj does not fit "
            "the joined matrix: merge it with PEFT and load the merged model."
        )
    return tuple(theirs[name] for name in names)


def _read_tensors(path: Path, expected: Mapping[str, _Stored]) -> dict[str, Tensor]:
    """The tensors of an adapter, neither more nor fewer than expected. Raises as `load_lora` does."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.") from error
    missing = [name for name in expected if name not in tensors]
    extra = [brief(name) for name in tensors if name not in expected]
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, expected {stored.shape}"
        for name, stored in expected.items()
        if name in tensors and tuple(tensors[name].shape) != stored.shape
    ]
    found = (("missing", missing), ("unexpected", extra), ("of another shape", misshapen))
    problems = [f"{len(names)} {what}: {', '.join(names[:2])}" for what, names in found if names]
    if problems:
        raise WeightsError(
            f"{path} does not fit this model and {CONFIG}. {'; '.join(problems)}. Is it the model that the "
            "adapter was trained beside?"
        )
    return tensors


def _check_target(target: Path) -> None:
    """Raise WeightsError unless an adapter may be saved in this directory."""
    if not target.exists():
        return
    if not target.is_dir():
        raise WeightsError(f"{target} is a file; give the name of a directory.")
    foreign = sorted(file.name for file in target.iterdir() if file.name not in (CONFIG, WEIGHTS))
    if foreign:
        raise WeightsError(
            f"{target} holds files that are not of a saved adapter ({', '.join(foreign[:3])}), and saving "
            "replaces the whole directory. Choose a new or empty one."
        )
