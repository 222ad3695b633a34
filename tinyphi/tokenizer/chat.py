"""A conversation as text and control tokens, one plain Python function for each model family.

A model's files carry its chat format as a *template*: a small program in the language Jinja. tinyphi never
runs a program that it found in a file. It compares the template's fingerprint with those of the published
templates and uses the function below that does the same. Beside each function stands the template in words,
and `Style.jinja` is a template of our own that says the same to `transformers`.

Phi-3's formats differ in small ways that change what the model sees:

    style             system message      assistant header `<|assistant|>`       at the end
    phi-3-mini        kept                before each answer                     header if asked for, else EOS
    phi-3.5-mini      kept unless empty   before each answer                     header if asked for, else EOS
    phi-3-medium      dropped             after each *user* message              nothing more
    phi-3-april-2024  dropped             after each *user* message; BOS first   nothing more
    phi-3-small       kept                before each answer; BOS first          header if asked for, else EOS
    phi-3-vision      kept                before each answer                     header if asked for
    smollm2           kept, or a default  before each answer                     header if asked for
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyphi.errors import InputError, TokenizerError

ROLES = ("system", "user", "assistant")
SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Control:
    """A special token by name. Only the functions below make one; text never does."""

    text: str


Part = str | Control


class Render(Protocol):
    """Messages → text and control tokens; `bos` and `eos` are the names of the tokenizer's own."""

    def __call__(
        self, messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
    ) -> Iterator[Part]: ...


@dataclass(frozen=True)
class Style:
    """A chat format. published: fingerprints of the templates that do what `render` and `jinja` do."""

    name: str
    render: Render
    jinja: str
    published: tuple[str, ...]


def _turn(role: str, content: str) -> Iterator[Part]:
    """`<|role|>\\n{content}<|end|>\\n`"""
    yield Control(f"<|{role}|>")
    yield f"\n{content}"
    yield Control("<|end|>")
    yield "\n"


def phi3_mini(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3-mini since June 2024: every turn with its header; then the assistant's header or EOS."""
    for message in messages:
        yield from _turn(message.role, message.content)
    if add_generation_prompt:
        yield Control("<|assistant|>")
        yield "\n"
    else:
        yield Control(eos)


def phi35_mini(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3.5-mini: as Phi-3-mini, without empty system messages."""
    kept = [message for message in messages if message.role != "system" or message.content]
    yield from phi3_mini(kept, add_generation_prompt, bos=bos, eos=eos)


def phi3_small(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3-small: BOS, then as Phi-3-mini."""
    yield Control(bos)
    yield from phi3_mini(messages, add_generation_prompt, bos=bos, eos=eos)


def phi3_medium(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3-medium: the assistant's header follows every user turn, asked for or not; no system messages."""
    for message in messages:
        if message.role == "user":
            yield from _turn("user", message.content)
            yield Control("<|assistant|>")
            yield "\n"
        elif message.role == "assistant":
            yield message.content
            yield Control("<|end|>")
            yield "\n"


def phi3_april_2024(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3-mini as first released: BOS, then as Phi-3-medium."""
    yield Control(bos)
    yield from phi3_medium(messages, add_generation_prompt, bos=bos, eos=eos)


def phi3_vision(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """Phi-3-vision: every turn with its header; the assistant's only if it is asked for and not its turn
    already."""
    for message in messages:
        yield from _turn(message.role, message.content)
    if add_generation_prompt and messages[-1].role != "assistant":
        yield Control("<|assistant|>")
        yield "\n"


def smollm2(
    messages: Sequence[Message], add_generation_prompt: bool, *, bos: str, eos: str
) -> Iterator[Part]:
    """SmolLM2, in the format ChatML: `<|im_start|>role\\n{content}<|im_end|>\\n`; a system message comes
    first."""
    if messages[0].role != "system":
        messages = [Message("system", SMOLLM2_SYSTEM), *messages]
    for message in messages:
        yield Control("<|im_start|>")
        yield f"{message.role}\n{message.content}"
        yield Control("<|im_end|>")
        yield "\n"
    if add_generation_prompt:
        yield Control("<|im_start|>")
        yield "assistant\n"


def checked_messages(messages: Sequence[Mapping[str, str]]) -> list[Message]:
    """The messages as `Message`s; raises InputError that names the first wrong one."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise InputError('Messages are a non-empty list such as [{"role": "user", "content": "Hi"}].')
    result = []
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise InputError(f'Message {number} is not a mapping with "role" and "content": {message!r}.')
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise InputError(f"Message {number} has the role {role!r}; the roles are {', '.join(ROLES)}.")
        if not isinstance(content, str):
            raise InputError(
                f"The content of message {number} is a {type(content).__name__}; it must be a string."
            )
        result.append(Message(role, content))
    return result


def fingerprint(template: str) -> str:
    """A short hash of a template's text that does not depend on how its line breaks are spelled."""
    return hashlib.sha256(template.strip().replace("\\n", "\n").encode("utf-8", "replace")).hexdigest()[:16]


def name_of(template: str | None) -> str | None:
    """The name of the style of a file's template; None if it is not known."""
    style = _STYLE_OF.get(fingerprint(template)) if template is not None else None
    return style.name if style else None


def recognise(template: str | None) -> Style:
    """The style of a file's template; raises TokenizerError if there is none or it is not a known one."""
    instead = "Put the turns together yourself with encode(text, allow_special=True)."
    if template is None:
        raise TokenizerError(f"This tokenizer's files have no chat template. {instead}")
    name = name_of(template)
    if name is None:
        raise TokenizerError(
            f"This tokenizer's chat template (fingerprint {fingerprint(template)}) is none that tinyphi "
            f"knows ({', '.join(STYLES)}), and tinyphi does not run templates from files. {instead}"
        )
    return STYLES[name]


# Our own templates, for `save` when a tokenizer came without one. A line break in a string is written \n.
_TURN = r"{{ '<|' ~ message.role ~ '|>\n' ~ message.content ~ '<|end|>\n' }}"
_HEADER = r"{{ '<|assistant|>\n' }}"
_MINI_END = "{% if add_generation_prompt %}" + _HEADER + "{% else %}{{ eos_token }}{% endif %}"
_MEDIUM = (
    "{% for message in messages %}{% if message.role == 'user' %}" + _TURN + _HEADER + "{% endif %}"
    r"{% if message.role == 'assistant' %}{{ message.content ~ '<|end|>\n' }}{% endif %}{% endfor %}"
)

STYLES = {
    style.name: style
    for style in (
        Style(
            "phi-3-mini",
            phi3_mini,
            "{% for message in messages %}" + _TURN + "{% endfor %}" + _MINI_END,
            published=("dcaee66df77bfbb7",),
        ),
        Style(
            "phi-3.5-mini",
            phi35_mini,
            "{% for message in messages %}{% if message.content or message.role != 'system' %}"
            + _TURN
            + "{% endif %}{% endfor %}"
            + _MINI_END,
            published=("78d976a442bcde2f",),
        ),
        Style(
            "phi-3-small",
            phi3_small,
            "{{ bos_token }}{% for message in messages %}" + _TURN + "{% endfor %}" + _MINI_END,
            published=("b0e53f5e7bae6fdb",),
        ),
        Style("phi-3-medium", phi3_medium, _MEDIUM, published=("605841622bcb6572",)),
        Style(
            "phi-3-april-2024", phi3_april_2024, "{{ bos_token }}" + _MEDIUM, published=("268b6082ceb7176d",)
        ),
        Style(
            "phi-3-vision",
            phi3_vision,
            "{% for message in messages %}" + _TURN + "{% endfor %}"
            "{% if add_generation_prompt and messages[-1].role != 'assistant' %}" + _HEADER + "{% endif %}",
            published=("79e4ca4b7d902dc7",),
        ),
        Style(
            "smollm2",
            smollm2,
            "{% if messages[0].role != 'system' %}"
            r"{{ '<|im_start|>system\n" + SMOLLM2_SYSTEM + r"<|im_end|>\n' }}{% endif %}"
            r"{% for message in messages %}"
            r"{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}{% endfor %}"
            r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
            published=("872be49dbb638044",),
        ),
    )
}
_STYLE_OF = {
    known: style for style in STYLES.values() for known in (*style.published, fingerprint(style.jinja))
}
