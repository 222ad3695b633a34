"""tinyphi's models inside the lm-evaluation-harness of EleutherAI, with its hundreds of tasks.

    tinyphi eval lm-eval --model tinyphi --model_args pretrained=smollm2-135m --tasks arc_easy --limit 100

is lm-eval's own command line, to which this module has introduced the model. lm-eval (0.4.13) has a registry
of models, but looks for no entry points of other packages, so its `lm_eval` program alone cannot know them.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

import tinyphi
from tinyphi.errors import InputError
from tinyphi.evaluate.harness import by_length, shortened
from tinyphi.evaluate.likelihood import Request, first_id, log_likelihoods, without_bos
from tinyphi.generation.decode import generate
from tinyphi.generation.sampling import Greedy, Sampler

if TYPE_CHECKING:
    from tinyphi.model.transformer import Phi3
    from tinyphi.tokenizer import Tokenizer

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import model_registry, register_model
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise InputError('lm-eval is not installed: pip install "tinyphi[evaluate]" brings it.') from error

_REPLY = 256  # tokens, as lm-eval's own models write where a task does not say
_DRAWN = ("temperature", "top_k", "top_p", "min_p")  # the options of `Sampler`
_PASSED_ON = {"until", "max_gen_toks", "do_sample", *_DRAWN}


@register_model("tinyphi")
class TinyphiLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A model of tinyphi, as lm-eval wants it.

    pretrained: catalog name, directory, .gguf file or hub id, or a loaded model together with `tokenizer`.
    dtype, quantize, device: as for `tinyphi.load`. max_length: tokens it reads (None: as its config says).
    Prompts are encoded as lm-eval's "hf" model does it: control tokens in a text are control tokens.
    Raises InputError for options of generation that tinyphi does not have.
    """

    def __init__(
        self,
        pretrained: "str | Phi3",
        tokenizer: "Tokenizer | None" = None,
        dtype: str = "float32",
        quantize: str | None = None,
        max_length: int | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,  # lm-eval passes them on; batches are made by length here
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, str):
            self.model, self.tinyphi_tokenizer = tinyphi.load(
                pretrained, dtype=getattr(torch, dtype), device=_available(device), quantize=quantize
            )
            self._name = pretrained
        elif tokenizer is not None:
            self.model, self.tinyphi_tokenizer, self._name = pretrained, tokenizer, "tinyphi"
        else:
            raise InputError("A loaded model needs its tokenizer as well: tokenizer=….")
        self.max_length = max_length or self.model.config.max_position_embeddings
        self._device = self.model.norm.weight.device

    @property
    def eot_token_id(self) -> int:
        end = self.tinyphi_tokenizer.eos_id
        return first_id(self.tinyphi_tokenizer) if end is None else end

    @property
    def prefix_token_id(self) -> int:
        return first_id(self.tinyphi_tokenizer)

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        tokenizer = self.tinyphi_tokenizer
        ids = tokenizer.encode(string, allow_special=True)
        begins_twice = tokenizer.adds_bos and ids[:2] == [tokenizer.bos_id] * 2
        return ids[1:] if begins_twice or (add_special_tokens is False and tokenizer.adds_bos) else ids

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text with control tokens, which `tok_encode` turns into ids."""
        ids = self.tinyphi_tokenizer.encode_chat(chat_history, add_generation_prompt=add_generation_prompt)
        return self.tinyphi_tokenizer.decode(ids, skip_special=False)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        wanted = [Request(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        found: list[tuple[float, bool]] = [(0.0, False)] * len(wanted)
        with tqdm(total=len(wanted), desc="tinyphi, likelihoods", disable=disable_tqdm) as bar:
            for batch in log_likelihoods(self.model, wanted, self.max_length):
                for place, (log_probability, greedy) in batch:
                    found[place] = (log_probability, greedy)
                    texts = requests[place][0]
                    if texts is not None:
                        self.cache_hook.add_partial("loglikelihood", texts, found[place])
                bar.update(len(batch))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        totals = []
        for request in requests:
            ids = without_bos(self.tinyphi_tokenizer, request.args[0])
            cut = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows = [(None, *make_disjoint_window(window)) for window in cut]
            found = self._loglikelihood_tokens(windows, disable_tqdm=True)
            totals.append(sum(log_probability for log_probability, _ in found))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        replies = [""] * len(requests)
        with tqdm(total=len(requests), desc="tinyphi, replies", disable=disable_tqdm) as bar:
            for options, places in _alike(requests):
                most, sampler = int(options.get("max_gen_toks", _REPLY)), _sampler(options)
                prompts = {place: self.tok_encode(requests[place].args[0]) for place in places}
                for group in by_length(shortened(prompts, self.max_length, most), most):
                    said = generate(
                        self.model,
                        list(group.values()),
                        tokenizer=self.tinyphi_tokenizer,
                        max_new_tokens=most,
                        sampler=sampler,
                        stop_strings=_stops(options),
                    )
                    for place, text in zip(group, said.texts, strict=True):
                        replies[place] = text
                        self.cache_hook.add_partial("generate_until", requests[place].args, text)
                    bar.update(len(group))
        return replies


def _available(device: str | None) -> str:
    """The device, or "cpu": lm-eval's command line says "cuda:0" wherever nothing else is said."""
    return device if device and (torch.cuda.is_available() or not device.startswith("cuda")) else "cpu"


def _alike(requests: list[Instance]) -> list[tuple[dict[str, Any], list[int]]]:
    """The different options of generation, and the places of the requests that have them."""
    found: list[tuple[dict[str, Any], list[int]]] = []
    for place, request in enumerate(requests):
        places = next((places for options, places in found if options == request.args[1]), None)
        if places is None:
            found.append((request.args[1], [place]))
        else:
            places.append(place)
    return found


def _stops(options: dict[str, Any]) -> list[str]:
    until = options.get("until") or []
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]


def _sampler(options: dict[str, Any]) -> Greedy | Sampler:
    """lm-eval's `gen_kwargs` as a sampler; greedy unless `do_sample` is set."""
    unknown = set(options) - _PASSED_ON
    if unknown:
        raise InputError(
            f"tinyphi cannot generate with {', '.join(sorted(unknown))}; it knows "
            f"{', '.join(sorted(_PASSED_ON))}."
        )
    if not options.get("do_sample", False):
        return Greedy()
    return Sampler(**{name: options[name] for name in _DRAWN if name in options})


def main(arguments: Sequence[str] | None = None) -> int:
    """lm-eval's command line, with `--model tinyphi`."""
    from lm_eval.__main__ import cli_evaluate

    if "tinyphi" not in model_registry:
        raise InputError("This version of lm-eval took no notice of tinyphi's model; 0.4.13 does.")
    before = sys.argv
    sys.argv = ["lm_eval", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
    return 0
