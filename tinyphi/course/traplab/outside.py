"""Mistakes before and after the forward pass: in loading, in the tokenizer, in when to stop."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from tinyphi.course.traplab.lab import Change, Thread, current, enter
from tinyphi.tokenizer.base import SpecialToken, Tokenizer
from tinyphi.weights.names import Place


def _seen_as(name: str, seen: Callable[[Any, Any], Any]) -> property:
    """In place of an attribute that instances keep: what they keep stays, what is read is `seen`."""
    return property(
        lambda self: seen(self, self.__dict__[name]),
        lambda self, value: self.__dict__.__setitem__(name, value),
    )


@enter(
    mistake="The rows of q and k are loaded from a GGUF file in llama.cpp's order and not put back.",
    happened=(
        Thread("huggingface/transformers", 31788, "Fix the incorrect permutation of gguf"),
        Thread("ggml-org/llama.cpp", 3364, "Remove bug in convert.py permute function"),
        Thread("ggml-org/llama.cpp", 2376, "Llama 2 70B converts, but produces gibberish", "issues"),
    ),
    needs="a GGUF file of the Llama architecture, loaded while the trap is planted",
    hides="safetensors, and GGUF files of Phi-3, whose rows stay in order",
    shows="Every shape fits, the model loads and stammers. The queries hold right numbers in wrong places.",
    cure="In each head: even rows first, then odd ones.",
    first="queries",
    cause="q or k rows stand in another order",
)
def gguf_rows() -> Iterator[Change]:
    def of(self: Place, parameter: Tensor) -> Tensor:
        return parameter.detach()[self.first_row : self.first_row + self.shape[0]]

    yield Change(Place, "of", of)


@enter(
    mistake="Only <|endoftext|> ends a reply; <|end|>, which ends a turn, does not.",
    happened=(
        Thread("ml-explore/mlx-examples", 780, "Phi-3: failing to stop at <|end|>", "issues"),
        Thread("Blaizzy/mlx-vlm", 1501, "Fix Phi-3-V chat stop tokens"),
        Thread("keras-team/keras-hub", 1597, "Add phi3: which tokens stop"),
    ),
    needs="a chat",
    hides="continuing a text without a chat template",
    shows="After a good answer the model talks to itself, playing both roles, until the token limit.",
    cure="Read the stop ids from generation_config.json: <|endoftext|>, <|assistant|> and <|end|>.",
)
def missing_end() -> Iterator[Change]:
    def stop_ids(self: Tokenizer, kept: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(id for id in kept if id == self.special_tokens.get("<|endoftext|>"))

    yield Change(Tokenizer, "stop_ids", _seen_as("stop_ids", stop_ids))


@enter(
    mistake="The line break after <|user|> becomes tokens; Phi-3's tokenizer swallows it.",
    happened=(
        Thread("microsoft/onnxruntime-genai", 1248, "Newlines kept, slight accuracy drop", "issues"),
        Thread("huggingface/transformers", 32136, "Phi-3's tokenizer ignores newlines (as meant)", "issues"),
        Thread("guidance-ai/guidance", 830, "Unstable tokenization schemes like phi3"),
    ),
    needs="Phi-3's tokenizer since June 2024, and a chat",
    hides="plain text, the release of April 2024, and SmolLM2, which swallow nothing",
    shows="Two or three tokens too many after each header, and a slight drop in accuracy.",
    cure="Obey `rstrip` in tokenizer_config.json, and test the ids of a chat, not of plain text.",
)
def newline_kept() -> Iterator[Change]:
    yield Change(SpecialToken, "swallows_space", _seen_as("swallows_space", lambda self, kept: False))


@enter(
    mistake="The chat template writes BOS, and the tokenizer puts another one in front.",
    happened=(
        Thread("abetlen/llama-cpp-python", 1501, "Llama 3 Double BOS", "issues"),
        Thread("ggml-org/llama.cpp", 7332, "tokenization: add warning for double BOS"),
        Thread("abetlen/llama-cpp-python", 1439, "Avoid duplicate special tokens in chat formats"),
    ),
    needs="a tokenizer that adds BOS and a template that writes it, such as Phi-3's of April 2024",
    hides="later releases of Phi-3, which have no BOS at all, and plain text",
    shows="The ids begin with 1, 1. The answers are a little worse.",
    cure="After a template, encode without adding special tokens.",
)
def double_bos() -> Iterator[Change]:
    original = current(Tokenizer, "encode_chat")

    def encode_chat(
        self: Tokenizer, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        ids: list[int] = original(self, messages, add_generation_prompt)
        return [self.bos_id, *ids] if self.adds_bos and self.bos_id is not None else ids

    yield Change(Tokenizer, "encode_chat", encode_chat)


@enter(
    mistake="Control tokens in a user's text are taken for real: a user can end a turn and play the system.",
    happened=(
        Thread("huggingface/transformers", 29279, "Avoiding prompt injection using special tokens", "issues"),
        Thread("huggingface/tokenizers", 1347, "Support encoding without special tokens", "issues"),
        Thread("microsoft/onnxruntime-genai", 1235, "Safe practice to mitigate prompt injection?", "issues"),
    ),
    needs="a text with a control token in it",
    hides="every text of an honest user",
    shows="Nothing, until somebody types <|system|>. Then the ids hold control tokens of the user's.",
    cure="Encode the template's control tokens and the user's text apart.",
)
def typed_control_tokens() -> Iterator[Change]:
    original = current(Tokenizer, "_encode_parts")

    def encode_parts(self: Tokenizer, parts: Iterable[str | SpecialToken]) -> list[int]:
        def parsed() -> Iterator[str | SpecialToken]:
            for part in parts:
                if isinstance(part, SpecialToken):
                    yield part
                else:
                    yield from (special or part[start:end] for start, end, special in self._split(part, True))

        ids: list[int] = original(self, parsed())
        return ids

    yield Change(Tokenizer, "_encode_parts", encode_parts)
