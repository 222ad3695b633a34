"""A conversation: the chat template, one reply after another, and a memory that survives Ctrl-C."""

from collections.abc import Iterator
from typing import Protocol

from tinyphi.generation.decode import TextDecoder, stream
from tinyphi.generation.sampling import Greedy, Sampler
from tinyphi.generation.speculative import Draft
from tinyphi.model.transformer import Phi3


class ChatTokenizer(TextDecoder, Protocol):
    """What a conversation needs of a tokenizer."""

    def encode_chat(
        self, messages: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> list[int]: ...


class Conversation:
    """Messages so far, and the model that answers them.

    `messages` is the usual list of {"role", "content"}; an interrupted reply stays in it as far as it came.
    draft, cache_bits: as in `tinyphi.generate`.
    """

    def __init__(
        self,
        model: Phi3,
        tokenizer: ChatTokenizer,
        *,
        system: str | None = None,
        sampler: Greedy | Sampler = Greedy(),
        max_new_tokens: int = 256,
        draft: Draft | None = None,
        cache_bits: int | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.sampler, self.max_new_tokens = sampler, max_new_tokens
        self.draft, self.cache_bits = draft, cache_bits
        self.messages = [] if system is None else [{"role": "system", "content": system}]

    def stream(self, text: str) -> Iterator[str]:
        """Say `text` and yield the reply piece by piece."""
        user = {"role": "user", "content": text}
        steps = stream(
            self.model,
            self.tokenizer.encode_chat([*self.messages, user]),
            tokenizer=self.tokenizer,
            max_new_tokens=self.max_new_tokens,
            sampler=self.sampler,
            draft=self.draft,
            cache_bits=self.cache_bits,
        )
        reply = {"role": "assistant", "content": ""}
        self.messages += [user, reply]  # only now: a message that was refused leaves no trace
        for step in steps:
            reply["content"] += step.text
            yield step.text


def chat(
    model: Phi3,
    tokenizer: ChatTokenizer,
    message: str,
    *,
    system: str | None = None,
    max_new_tokens: int = 256,
    sampler: Greedy | Sampler = Greedy(),
) -> str:
    """Ask one question and return the whole reply."""
    conversation = Conversation(
        model, tokenizer, system=system, sampler=sampler, max_new_tokens=max_new_tokens
    )
    return "".join(conversation.stream(message))
