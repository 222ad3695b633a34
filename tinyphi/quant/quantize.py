"""Quantize a model in place, and measure what that did to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.model.transformer import Phi3
from tinyphi.quant.awq import awq
from tinyphi.quant.gptq import gptq
from tinyphi.quant.linear import QuantizedEmbedding, QuantizedLinear
from tinyphi.quant.recipe import Layer, Recipe

CALIBRATED = {"awq": awq, "gptq": gptq}
_NEW_TOKENS = 32  # that are compared after the text
_WORTH_A_BAR = 20_000_000  # parameters from which a progress bar is shown


@dataclass(frozen=True)
class LayerReport:
    """What became of one matrix. Errors are relative: ‖difference‖ / ‖original‖."""

    name: str
    format: str
    bytes_before: int
    bytes: int
    weight_error: float | None  # None after AWQ, which has scaled the columns
    output_error: float | None  # on its inputs in the text; None without one, and after AWQ and GPTQ
    reason: str  # why not the method that was asked for; empty where it is


@dataclass(frozen=True)
class Change:
    """How the whole model's predictions changed on a text, and in what it says after it."""

    tokens: int
    divergence: float  # mean KL(before ‖ after) of the next token, in nats
    perplexity_before: float
    perplexity: float
    same_choice: float  # share of tokens after which the most probable one is still the same
    first_difference: tuple[int, int, int] | None  # greedy: which new token (from 0), id before, id after


@dataclass(frozen=True)
class Report:
    """What `quantize` did. Print it for a table."""

    layers: list[LayerReport]
    bytes_before: int  # of all parameters
    bytes: int
    change: Change | None  # None without a text

    def __str__(self) -> str:
        lines = [f"{'matrix':34} {'format':32} {'MB':>7} {'weights':>8} {'outputs':>8}"]
        for layer in self.layers:
            weights, outputs = (
                "" if error is None else f"{error:8.2%}" for error in (layer.weight_error, layer.output_error)
            )
            lines.append(
                f"{layer.name:34} {layer.format:32} {layer.bytes / 1e6:7.2f} {weights:8} "
                f"{outputs:8} {layer.reason}".rstrip()
            )
        share = self.bytes / self.bytes_before
        lines.append(f"all: {self.bytes_before / 1e6:.1f} MB → {self.bytes / 1e6:.1f} MB ({share:.1%})")
        if self.change is not None:
            lines.append(_described(self.change))
        return "\n".join(lines)


def _described(change: Change) -> str:
    """Two lines about the whole model."""
    first = change.first_difference
    stays = f"the first {_NEW_TOKENS} greedy tokens stay"
    greedy = stays if first is None else f"greedy token {first[0]} changes"
    return (
        f"perplexity {change.perplexity_before:.3f} → {change.perplexity:.3f} on {change.tokens} tokens, "
        f"KL {change.divergence:.4f} nats, {change.same_choice:.1%} of the choices stay; {greedy}"
    )


@torch.no_grad()
def quantize(
    model: Phi3,
    method: str = "int4",
    *,
    group_size: int = 32,
    symmetric: bool = True,
    keep: Mapping[str, str] | None = None,
    max_error: float | None = None,
    ids: Tensor | None = None,
) -> Report:
    """Quantize the matrices of a model in place, and report what changed.

    method, group_size, symmetric, keep: see `Recipe`. "awq" and "gptq" calibrate with `ids` and round the
        layers' matrices; embedding and head follow `keep`, or get 8 bits.
    max_error: a matrix whose error is larger gets 8 bits instead, and the report says so. The error is that
        of its outputs, or that of its weights where no ids are given.
    ids: (b t) int64, a text to measure errors and the change of the predictions on. None: only weights are
        compared.
    Raises InputError for unknown methods, options that the method does not take, a model that is quantized
        already or has LoRA inside, and a weight that is not finite; in the last case the matrices before it
        are quantized.
    """
    if method in CALIBRATED and (not symmetric or max_error is not None):
        raise InputError(f"{method} decides for itself; it takes neither symmetric=False nor max_error.")
    for name, linear in linears(model):
        if isinstance(linear, QuantizedLinear):
            raise InputError(f"{name} is quantized already ({linear.format}). Load the model again first.")
        if not isinstance(linear, (nn.Linear, nn.Embedding, QuantizedEmbedding)):
            raise InputError(
                f"{name} is a {type(linear).__name__}, not a plain matrix. A model with LoRA inside is "
                "quantized after merge_lora(model), or before add_lora."
            )
    before = None if ids is None else predictions(model, ids)
    bytes_before = _model_bytes(model)
    if method in CALIBRATED:
        layers = _calibrated(model, method, group_size, keep, ids)
    else:
        recipe = Recipe(method, group_size, symmetric, keep)
        layers = _rounded(model, recipe, max_error, ids)
    change = None if before is None or ids is None else compare(model, ids, *before)
    return Report(layers, bytes_before, _model_bytes(model), change)


def linears(model: Phi3) -> Iterator[tuple[str, nn.Module]]:
    """Every matrix that can be quantized, by name: the embedding, four a layer, and a head of its own."""
    yield "embed_tokens", model.embed_tokens
    for number, layer in enumerate(model.layers):
        for name in ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj"):
            yield f"layers.{number}.{name}", layer.get_submodule(name)
    yield "lm_head", model.lm_head


def put(model: Phi3, name: str, linear: QuantizedLinear) -> None:
    """Put a quantized matrix in the place of that name; a tied head and the embedding share one."""
    dtype = model.norm.weight.dtype
    if name == "embed_tokens":
        model.embed_tokens = QuantizedEmbedding(linear, dtype)  # type: ignore[assignment]
        return
    linear.bias = getattr(model.get_submodule(name), "bias", None)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, linear)
    if name == "lm_head" and model.config.tie_word_embeddings:
        model.embed_tokens = QuantizedEmbedding(linear, dtype)  # type: ignore[assignment]


def _rounded(model: Phi3, recipe: Recipe, max_error: float | None, ids: Tensor | None) -> list[LayerReport]:
    """Quantize each matrix by itself."""
    inputs = {} if ids is None else _output_errors(model, recipe, max_error, ids)
    tied = model.config.tie_word_embeddings
    names = [name for name, _ in linears(model) if not (tied and name == "embed_tokens")]
    quiet = None if model.config.parameter_count() >= _WORTH_A_BAR else True
    reports = []
    for name in tqdm(names, desc=recipe.method, unit="matrix", disable=quiet):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        layer, error = inputs.pop(name, (None, None))
        if layer is None:
            try:
                layer = recipe.layer(name, weight, tied and name == "lm_head")
            except InputError as problem:
                raise InputError(f"{name} cannot be quantized. {problem}") from problem
            layer = _within(layer, max_error, _weight_error(weight, layer.linear), weight)
        reports.append(_layer_report(name, weight, layer, error))
        if layer.linear is not None:
            put(model, name, layer.linear)
    return reports


def _within(layer: Layer, max_error: float | None, error: float, weight: Tensor) -> Layer:
    """The layer, or the same matrix in 8 bits where its error is larger than allowed."""
    if layer.linear is None or max_error is None or error <= max_error:
        return layer
    eight = Recipe("q8_0" if weight.shape[1] % 32 == 0 else "int8").layer("", weight)
    return eight._replace(reason=f"sensitive: error {error:.1%} with {layer.linear.format}")


def _output_errors(
    model: Phi3, recipe: Recipe, max_error: float | None, ids: Tensor
) -> dict[str, tuple[Layer, float]]:
    """The layer for each matrix that has inputs in the text, and the relative error of its outputs there.

    One pass of the model as it is: each matrix is quantized at the moment when its real inputs arrive.
    """
    found: dict[str, tuple[Layer, float]] = {}

    def hook(name: str, linear: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        weight, tied = linear.weight, model.config.tie_word_embeddings and name == "lm_head"
        assert isinstance(weight, Tensor)
        layer = recipe.layer(name, weight, tied)
        product = output - linear.bias if isinstance(linear.bias, Tensor) else output
        kept = _within(layer, max_error, _output_error(layer, inputs[0], product), weight)
        found[name] = (kept, _output_error(kept, inputs[0], product))

    hooks = [
        linear.register_forward_hook(
            lambda linear, inputs, output, name=name: hook(name, linear, inputs, output)
        )
        for name, linear in linears(model)
        if name != "embed_tokens"
    ]
    try:
        model(ids)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _output_error(layer: Layer, x: Tensor, output: Tensor) -> float:
    if layer.linear is None:
        return 0.0
    return _relative(F.linear(x, layer.linear.dequantize(x.dtype)), output)


def _weight_error(weight: Tensor, linear: QuantizedLinear | None) -> float:
    return 0.0 if linear is None else _relative(linear.dequantize(), weight)


def _relative(changed: Tensor, original: Tensor) -> float:
    return float((changed.float() - original.float()).norm() / original.float().norm().clamp(min=1e-30))


def _layer_report(name: str, weight: Tensor, layer: Layer, error: float | None) -> LayerReport:
    linear = layer.linear
    form = str(weight.dtype).removeprefix("torch.") if linear is None else linear.format
    size = weight.nbytes if linear is None else linear.nbytes
    return LayerReport(name, form, weight.nbytes, size, _weight_error(weight, linear), error, layer.reason)


def _calibrated(
    model: Phi3, method: str, group_size: int, keep: Mapping[str, str] | None, ids: Tensor | None
) -> list[LayerReport]:
    """AWQ or GPTQ for the layers, plain rounding for embedding and head."""
    if ids is None:
        raise InputError(f"{method} calibrates with a text: pass ids=…, some hundred tokens or more.")
    originals = {
        name: linear.weight.detach() for name, linear in linears(model) if isinstance(linear.weight, Tensor)
    }
    ends = Recipe("q8_0" if model.config.hidden_size % 32 == 0 else "int8", keep=keep or {})
    CALIBRATED[method](model, ids, group_size)
    reports = []
    for name, linear in linears(model):
        if isinstance(linear, QuantizedLinear):
            report = _layer_report(name, originals[name], Layer(linear, ""), None)
            reports.append(replace(report, weight_error=None) if method == "awq" else report)
    tied = model.config.tie_word_embeddings
    for name in ["lm_head"] if tied else ["embed_tokens", "lm_head"]:
        layer = ends.layer(name, originals[name])
        reports.append(_layer_report(name, originals[name], layer, None))
        if layer.linear is not None:
            put(model, name, layer.linear)
    return reports


def _model_bytes(model: Phi3) -> int:
    """Bytes of all parameters and of the stored form of all quantized matrices."""
    quantized = {
        id(module): module.nbytes for module in model.modules() if isinstance(module, QuantizedLinear)
    }
    return sum(parameter.nbytes for parameter in model.parameters()) + sum(quantized.values())


@torch.no_grad()
def predictions(model: Phi3, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of each next token in the text (b t v), and greedy tokens after its first row (n)."""
    log_probabilities = model(ids).log_softmax(dim=-1)
    cache = model.new_cache()
    logits, new = model(ids[:1], cache=cache), []
    for _ in range(_NEW_TOKENS):
        new.append(logits[:, -1].argmax(-1))
        logits = model(new[-1][:, None], cache=cache)
    return log_probabilities, torch.cat(new)


@torch.no_grad()
def compare(model: Phi3, ids: Tensor, before: Tensor, new: Tensor) -> Change:
    """What `predictions` of a model and of the same model now differ in."""
    after = model(ids).log_softmax(dim=-1)
    divergence = F.kl_div(after, before, reduction="none", log_target=True).sum(-1).mean()
    # Fed the tokens of the original, the changed model differs first where greedy decoding would.
    start = ids.shape[1] - 1
    chosen = model(torch.cat((ids[:1], new[None]), dim=1))[0, start:-1].argmax(-1)
    different = (chosen != new).nonzero().flatten().tolist()
    first = None if not different else (different[0], int(new[different[0]]), int(chosen[different[0]]))
    return Change(
        tokens=ids.numel(),
        divergence=float(divergence),
        perplexity_before=_perplexity(before, ids),
        perplexity=_perplexity(after, ids),
        same_choice=float((after.argmax(-1) == before.argmax(-1)).float().mean()),
        first_difference=first,
    )


def _perplexity(log_probabilities: Tensor, ids: Tensor) -> float:
    """exp of the mean surprise about each token of the text but the first: (b t v), (b t) → a number."""
    surprise = -log_probabilities[:, :-1].gather(-1, ids[:, 1:, None])
    return float(surprise.mean().exp())
