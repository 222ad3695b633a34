"""What every tokenizer of tinyphi can do.

A tokenizer cuts text at its *special tokens* (`<|user|>`, `<|end|>`, …) and encodes each stretch between them
on its own. The cutting, the whitespace rules, chat, decoding and explaining are here, once; how a stretch of
plain text becomes ids is the one thing that `SentencePieceTokenizer` and `ByteBPETokenizer` do differently.

Special tokens steer the model, so text from a person must never become one: `encode(text)` treats "<|end|>"
as seven ordinary characters. Only `encode(text, allow_special=True)` and `encode_chat` make control tokens.
"""

import codecs
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import regex

from tinyphi.errors import InputError, TokenizerError
from tinyphi.tokenizer import chat
from tinyphi.tokenizer.files import json_bytes, write_files

# The tokens that end a model's turn, of both families. Phi-3's generation_config.json lists <|endoftext|>,
# <|assistant|> and <|end|>: with the eos token of config.json alone, a reply never stops.
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|assistant|>", "<|end|>")

_SPACE = regex.compile(r"\s*")


@dataclass(frozen=True)
class SpecialToken:
    """A token that is cut out of the text before anything else happens.

    `swallows_space`: the whitespace after it disappears (`rstrip` in Hugging Face files).
    `hidden`: `decode` leaves it out (`special` in Hugging Face files; false only for Phi-3's `</s>`).
    """

    text: str
    id: int
    swallows_space: bool = False
    hidden: bool = True


@dataclass(frozen=True)
class Piece:
    """One token of `Tokenizer.explain`.

    id: the token. text: a readable form: " Hello", "<|user|>", or "<0xF0>" for a byte that is no character.
    bytes: exactly what it stands for. start, end: the characters of the original text that it comes from
    (the bytes of one character share its span; a token added by a rule, such as a first space, has an empty
    span; the span of a special token includes the whitespace it swallowed).
    kind: "normal"; "byte" (not a character on its own); "control" (special token); "unknown".
    """

    id: int
    text: str
    bytes: bytes
    start: int
    end: int
    kind: Literal["normal", "byte", "control", "unknown"]


class Tokenizer(ABC):
    """The shared interface. Get one from `tinyphi.load_tokenizer`, `from_directory` or `from_gguf`.

    Attributes: vocab_size (one more than the largest id), bos_id, eos_id, pad_id (None where the files name
    none), stop_ids (each ends a reply), adds_bos (whether `encode` starts with bos_id), chat_template (the
    template's text as found in the file, or None).
    """

    vocab_size: int
    drops_first_space: bool  # whether decoding removes one leading space, the one that encoding put there

    def __init__(
        self,
        specials: Sequence[SpecialToken],
        *,
        bos_id: int | None,
        eos_id: int | None,
        pad_id: int | None,
        adds_bos: bool = False,
        chat_template: str | None = None,
        unknown_id: int | None = None,
    ) -> None:
        self._specials = {special.text: special for special in specials}
        self._special_by_id = {special.id: special for special in specials}
        if not len(self._specials) == len(self._special_by_id) == len(specials):
            raise TokenizerError(
                "Two special tokens share a text or an id. Fetch the tokenizer's files again."
            )
        if adds_bos and bos_id is None:
            raise TokenizerError(
                "The tokenizer should add a BOS token but names none. Set bos_token in its files."
            )
        self._hidden = {special.id for special in specials if special.hidden}
        # Alternatives are tried in order, so the longest comes first; (?!) matches nothing.
        longest_first = sorted(self._specials, key=len, reverse=True)
        self._special_pattern = regex.compile("|".join(map(regex.escape, longest_first)) or r"(?!)")
        self.bos_id, self.eos_id, self.pad_id, self.unknown_id = bos_id, eos_id, pad_id, unknown_id
        self.adds_bos = adds_bos
        self.chat_template = chat_template
        stops = [self._specials[name].id for name in STOP_TOKENS if name in self._specials]
        self.stop_ids: tuple[int, ...] = tuple(stops)
        if eos_id is not None and eos_id not in stops:
            self.stop_ids += (eos_id,)

    # What the two kinds do differently

    @abstractmethod
    def _encode_plain(self, text: str) -> list[int]:
        """Ids of a non-empty stretch of text between two special tokens."""

    @abstractmethod
    def _byte_spans(self, text: str) -> list[tuple[int, int]]:
        """For every byte that the tokens of `_encode_plain(text)` stand for, its (start, end) in `text`."""

    @abstractmethod
    def _is_byte(self, id: int) -> bool:
        """Whether a token stands for bytes that are no character on their own."""

    @abstractmethod
    def _bytes_of(self, id: int) -> bytes | None:
        """What a token stands for; None for an id that the tokenizer does not have."""

    @abstractmethod
    def _model_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The parts of tokenizer.json that differ, and further files."""

    @abstractmethod
    def _gguf_vocabulary(self) -> dict[str, Any]:
        """The vocabulary as entries of a GGUF file's metadata."""

    # Text → ids

    @property
    def special_tokens(self) -> dict[str, int]:
        """Text → id of every special token, `</s>` included."""
        return {special.text: special.id for special in self._special_by_id.values()}

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Text → ids.

        allow_special: whether "<|end|>" in the text becomes the control token; if not, it is seven characters
        like any others. Use it for text that you wrote, never for text that came from someone else.
        Errors: InputError if `text` is not a string or holds half a surrogate pair.

        `decode(encode(text))` is `text` again, except that SentencePiece turns '▁' into a space, and that a
        byte vocabulary may lack a few bytes, which are dropped (SmolLM2's lacks six control characters, such
        as U+0004).
        `encode(decode(ids))` is `ids` again only if `ids` came from `encode` without special tokens: there
        are many ways to spell a text in tokens, and the whitespace that a special token swallowed is gone for
        good.
        """
        _check_text(text)
        parts = (special or text[start:end] for start, end, special in self._split(text, allow_special))
        start_ids = [self.bos_id] if self.adds_bos and self.bos_id is not None else []
        return start_ids + self._encode_parts(parts)

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """A conversation → ids, in the format the model was trained on.

        messages: mappings with "role" ("system", "user" or "assistant") and "content".
        add_generation_prompt: end with the header of the assistant's turn, so that the model answers.
        The contents are encoded as plain text and the control tokens put between them, so that no content can
        imitate a header; on ordinary contents the ids equal those of the file's own template.
        Errors: InputError for messages of another form; TokenizerError if the template is none of those in
        chat.py.
        """
        style = chat.recognise(self.chat_template)
        parts: list[str | SpecialToken] = []
        for part in style.render(
            chat.checked_messages(messages),
            add_generation_prompt,
            bos=self._special_text(self.bos_id),
            eos=self._special_text(self.eos_id),
        ):
            if isinstance(part, str):
                _check_text(part)
                parts.append(part)
            elif part.text in self._specials:
                parts.append(self._specials[part.text])
            else:
                raise TokenizerError(
                    f"The chat format {style.name!r} needs the special token {part.text!r}, and this "
                    f"tokenizer has only {sorted(self._specials)}. Its chat template and its vocabulary "
                    "come from different models: fetch both again."
                )
        return self._encode_parts(parts)

    def _special_text(self, id: int | None) -> str:
        return self._special_by_id[id].text if id in self._special_by_id else ""

    def _split(self, text: str, allow_special: bool) -> Iterator[tuple[int, int, SpecialToken | None]]:
        """Cuts the text at special tokens: (start, end, token or None for plain text), without gaps."""
        position = 0
        for match in self._special_pattern.finditer(text) if allow_special else ():
            if position < match.start():
                yield position, match.start(), None
            special, end = self._specials[match.group()], match.end()
            if special.swallows_space:
                end = _SPACE.match(text, end).end()
            yield match.start(), end, special
            position = end
        if position < len(text):
            yield position, len(text), None

    def _encode_parts(self, parts: Iterable[str | SpecialToken]) -> list[int]:
        """Ids of special tokens and the plain text between them; neighbouring texts are one stretch."""
        ids: list[int] = []
        waiting = ""  # plain text since the last special token
        swallow = False
        for part in (*parts, None):
            if isinstance(part, str):
                waiting += part
                continue
            if swallow:
                waiting = _SPACE.sub("", waiting, count=1)
            if waiting:
                ids += self._encode_plain(waiting)
            if part is not None:
                ids.append(part.id)
                waiting, swallow = "", part.swallows_space
        return ids

    # Ids → text

    def token_bytes(self, id: SupportsIndex) -> bytes:
        """The bytes a token stands for (a special token: its name).

        Errors: TokenizerError for an unknown id, InputError for something that is not an integer.
        """
        try:
            number = operator.index(id)
        except TypeError as error:
            raise InputError(f"A token id is an integer, not {id!r} ({type(id).__name__}).") from error
        known = self._bytes_of(number)
        if known is None:
            raise TokenizerError(
                f"The tokenizer has no token with id {number}; its ids are below {self.vocab_size}. Do the "
                "ids come from another tokenizer, or from an unused row of a model's vocabulary?"
            )
        return known

    def _visible_bytes(self, id: SupportsIndex, skip_special: bool) -> bytes:
        data = self.token_bytes(id)
        return b"" if skip_special and operator.index(id) in self._hidden else data

    def decode(self, ids: Iterable[SupportsIndex], skip_special: bool = True) -> str:
        """Ids → text; bytes that form no character become U+FFFD (�).

        skip_special: leave out the special tokens (Phi-3's `</s>` stays, as in Hugging Face's tokenizer).
        Errors: TokenizerError for an unknown id, InputError for something that is not an integer.

        The `tokenizers` library turns a whole run of SentencePiece byte tokens into � when one of them is
        wrong; here, as everywhere in Python, only the wrong bytes are replaced, so that text can be decoded
        while it arrives.
        """
        data = b"".join(self._visible_bytes(id, skip_special) for id in ids)
        text = data.decode("utf-8", errors="replace")
        return text[1:] if self.drops_first_space and text.startswith(" ") else text

    def stream(self, after: Sequence[int] = ()) -> "StreamDecoder":
        """A decoder for ids that arrive one at a time; like `decode`, it leaves out special tokens.

        after: the ids before them. If these end in the middle of a text, SentencePiece's first space is a
            real one and stays.
        """
        return StreamDecoder(self, after=after)

    # Looking inside

    def explain(self, text: str, allow_special: bool = False) -> list[Piece]:
        """The tokens of `encode(text, allow_special)` one by one, each with the characters it comes from.

        Every character of the text is in some span, except those a byte vocabulary has no token for.
        Errors: as `encode`.
        """
        _check_text(text)
        pieces = []
        if self.adds_bos and self.bos_id is not None:
            pieces.append(self._piece(self.bos_id, 0, 0))
        for start, end, special in self._split(text, allow_special):
            if special is not None:
                pieces.append(self._piece(special.id, start, end))
                continue
            spans = self._byte_spans(text[start:end])
            first = 0
            for id in self._encode_plain(text[start:end]):
                last = first + len(self.token_bytes(id))
                pieces.append(self._piece(id, start + spans[first][0], start + spans[last - 1][1]))
                first = last
        return pieces

    def _piece(self, id: int, start: int, end: int) -> Piece:
        data = self.token_bytes(id)
        if id == self.unknown_id:
            return Piece(id, data.decode("utf-8"), data, start, end, "unknown")
        if id in self._special_by_id:
            return Piece(id, data.decode("utf-8"), data, start, end, "control")
        if self._is_byte(id):
            return Piece(id, "".join(f"<0x{byte:02X}>" for byte in data), data, start, end, "byte")
        return Piece(id, data.decode("utf-8"), data, start, end, "normal")

    # Files

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes tokenizer.json and tokenizer_config.json (SentencePiece: tokenizer.model too).

        `from_directory` reads them back, and `transformers.AutoTokenizer` opens them with the same ids.
        Errors: TokenizerError if the directory cannot be written.
        """
        model_part, more_files = self._model_files()
        added = [
            {
                "id": special.id,
                "content": special.text,
                "single_word": False,
                "lstrip": False,
                "rstrip": special.swallows_space,
                "normalized": False,
                "special": special.hidden,
            }
            for special in sorted(self._special_by_id.values(), key=operator.attrgetter("id"))
        ]
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
        } | model_part
        files = {
            "tokenizer.json": json_bytes(tokenizer),
            "tokenizer_config.json": json_bytes(self._config_file(added)),
        }
        write_files(directory, files | more_files)

    def _bos_rule(self) -> dict[str, Any] | None:
        """tokenizer.json's way to say that encoding starts with BOS."""
        if not self.adds_bos or self.bos_id is None:
            return None
        bos = self._special_text(self.bos_id)
        start = {"SpecialToken": {"id": bos, "type_id": 0}}
        return {
            "type": "TemplateProcessing",
            "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [self.bos_id], "tokens": [bos]}},
        }

    def _config_file(self, added: list[dict[str, Any]]) -> dict[str, Any]:
        # This class opens tokenizer.json as it is. LlamaTokenizer and GPT2Tokenizer would put their own
        # pre-tokenization in its place (transformers 5) and give other ids.
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": self.adds_bos,
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",
            "added_tokens_decoder": {
                str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
                for entry in added
            },
        }
        names = {"bos": self.bos_id, "eos": self.eos_id, "pad": self.pad_id, "unk": self.unknown_id}
        for name, id in names.items():
            if id is not None:
                config[f"{name}_token"] = self.token_bytes(id).decode("utf-8")
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        return config


class StreamDecoder:
    """Decodes ids one at a time: what `push` and `finish` return, joined, equals `decode` of all ids.

    A token may end in the middle of a character (🦙 is four byte tokens in Phi-3's vocabulary), so the bytes
    of an unfinished character are held back until the rest arrives or `finish` gives up on them.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True, after: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        begins = not after or after[-1] in tokenizer._special_by_id
        self._at_start = tokenizer.drops_first_space and begins

    def push(self, id: SupportsIndex) -> str:
        """The text that this token completes, often its own, sometimes "". Errors: as
        `Tokenizer.token_bytes`."""
        return self._first_space_dropped(
            self._utf8.decode(self._tokenizer._visible_bytes(id, self._skip_special))
        )

    def finish(self) -> str:
        """What was held back: "" or the sign � for an unfinished character."""
        return self._first_space_dropped(self._utf8.decode(b"", final=True))

    def _first_space_dropped(self, text: str) -> str:
        if self._at_start and text:
            self._at_start = False
            return text.removeprefix(" ")
        return text


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InputError(
            f"Text to encode is a string, not a {type(text).__name__}. Decode bytes to str first."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"Character {error.start} of the text is half of a surrogate pair ({text[error.start]!r}), "
            "which UTF-8 cannot write. Repair the text where it was read, for example with "
            "errors='replace'."
        ) from error
