"""Conversations: the chat template, replies one after another or many at once, a memory of what was said."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from tqdm import tqdm

from tinyphi.generation.decode import TextDecoder, generate, stream
from tinyphi.generation.sampling import Greedy, Sampler
from tinyphi.generation.speculative import Draft
from tinyphi.model.transformer import Phi3

_ROWS = 50  # conversations that are answered at once


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


def replies(
    model: Phi3,
    tokenizer: ChatTokenizer,
    conversations: Sequence[list[dict[str, str]]],
    max_new_tokens: int = 256,
) -> list[str]:
    """The greedy reply to each of many conversations, 50 at once; those of like length go together."""
    prompts = [tokenizer.encode_chat(messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))  # little padding
    found = [""] * len(prompts)
    groups = [order[start : start + _ROWS] for start in range(0, len(order), _ROWS)]
    quiet = True if len(groups) < 3 else None  # None: a bar in a terminal only
    for group in tqdm(groups, desc="answers", leave=False, disable=quiet):
        rows = [prompts[place] for place in group]
        texts = generate(model, rows, tokenizer=tokenizer, max_new_tokens=max_new_tokens).texts
        for place, text in zip(group, texts, strict=True):
            found[place] = text.strip()
    return found
