"""Byte-level byte-pair encoding, from scratch: the tokenizer of GPT-2, and of SmolLM2.

Four steps turn text into ids:

1. *Words.* A regular expression cuts the text: `It's 42` → `It`, `'s`, ` `, `4`, `2`. A token never crosses a
   cut.
2. *Bytes.* Each word is taken as its UTF-8 bytes, so that 256 start tokens cover every text in every script.
3. *Merges.* Training found which two neighbouring tokens are most often seen together and made a new token of
   them, then the next pair, and so on. Encoding replays it: of all neighbouring pairs in the word, merge the
   one that was learned first; repeat until no learned pair is left.
4. *Ids.* Each token has a number.

Files show bytes as letters: byte 32, the space, is written `Ġ`. `BYTE_TO_LETTER` is that alphabet.

Source: Sennrich, Haddow and Birch 2016 (https://aclanthology.org/P16-1162), algorithm 1; Radford et al. 2019
(GPT-2), section 2.2; equal to the library `tokenizers` (BPE with Digits and ByteLevel pre-tokenizers).
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import regex

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer.base import SpecialToken, Tokenizer
from tinyphi.tokenizer.files import FETCH_AGAIN
from tinyphi.tokenizer.modelproto import PieceType

# GPT-2's pattern with the rule of SmolLM2 in front: every digit is a word, and no space sticks to it.
# \p{N} is any digit or number sign, \p{L} any letter, \s any space.
WORD = regex.compile(
    r"""\p{N}                       # one digit
      | '(?:[stmd]|re|ve|ll)        # the endings of I'm, you're, it's …
      | [ ]?\p{L}+                  # letters, with the space before them
      | [ ]?[^\s\p{L}\p{N}]+        # signs, with the space before them
      | \s+(?![^\s\p{N}])           # spaces, but the last one is left for the word after them …
      | \s+                         # … unless it cannot stick to that word
    """,
    regex.VERBOSE,
)

LONGEST_CACHED_WORD = 64  # characters
LARGEST_CACHE = 2**17  # words
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
GONE = -1  # in place of an id: this token was merged into the one to its left


def byte_alphabet() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it can be seen, else the next letter from U+0100 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


BYTE_TO_LETTER = byte_alphabet()
LETTER_TO_BYTE = {letter: byte for byte, letter in BYTE_TO_LETTER.items()}


class ByteBPETokenizer(Tokenizer):
    """Byte-level BPE with SmolLM2's words.

    vocabulary: token, written in `BYTE_TO_LETTER`, → id. merges: pairs of tokens, first learned first.
    specials: tokens that are not made by merging, with ids of their own; they may be in `vocabulary` too.
    The other arguments: as `Tokenizer`.
    Errors: TokenizerError if a merge names a token that the vocabulary lacks, or is there twice.
    """

    drops_first_space = False

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        specials: Sequence[SpecialToken],
        *,
        bos_id: int | None,
        eos_id: int | None,
        pad_id: int | None,
        adds_bos: bool = False,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(
            specials,
            bos_id=bos_id,
            eos_id=eos_id,
            pad_id=pad_id,
            adds_bos=adds_bos,
            chat_template=chat_template,
        )
        taken = {id: token for token, id in vocabulary.items()}
        for special in specials:
            if vocabulary.get(special.text, special.id) != special.id or (
                taken.get(special.id, special.text) != special.text
            ):
                raise TokenizerError(
                    f"The special token {special.text!r} has id {special.id}, which the vocabulary "
                    f"contradicts. {FETCH_AGAIN}"
                )
        self._vocabulary = dict(vocabulary)
        self._merges = list(merges)
        self._bytes = {id: _letters_to_bytes(token) for token, id in vocabulary.items()}
        self._bytes |= {special.id: special.text.encode("utf-8") for special in specials}
        self.vocab_size = max(self._bytes, default=-1) + 1
        # A vocabulary may lack bytes that its training never met; they vanish, as in the library
        # `tokenizers`.
        self._byte_ids = {
            byte: vocabulary[letter] for byte, letter in BYTE_TO_LETTER.items() if letter in vocabulary
        }
        self._rank_and_result = self._merge_table()
        typable = {*self._byte_ids.values(), *(result for _, result in self._rank_and_result.values())}
        for special in specials:
            if special.id in typable:
                raise TokenizerError(
                    f"Ordinary text can merge into the special token {special.text!r}; no text may. "
                    f"{FETCH_AGAIN}"
                )
        self._cache: dict[str, list[int]] = {}

    def _merge_table(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(left id, right id) → (rank: 0 was learned first, id of the two together)."""
        table: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(self._merges):
            try:
                pair = self._vocabulary[left], self._vocabulary[right]
                result = self._vocabulary[left + right]
            except KeyError as error:
                raise TokenizerError(
                    f"Merge {rank} ({left!r} + {right!r}) needs the token {error}, which the vocabulary "
                    f"lacks. {FETCH_AGAIN}"
                ) from error
            if pair in table:
                raise TokenizerError(f"Merge {rank} ({left!r} + {right!r}) is there twice. {FETCH_AGAIN}")
            table[pair] = rank, result
        return table

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._words(text):
            known = self._cache.get(word)
            if known is None:
                known = self._merge(
                    [self._byte_ids[byte] for byte in word.encode() if byte in self._byte_ids]
                )
                if len(word) <= LONGEST_CACHED_WORD and len(self._cache) < LARGEST_CACHE:
                    self._cache[word] = known
            ids += known
        return ids

    def _words(self, text: str) -> list[str]:
        return WORD.findall(text)  # type: ignore[no-any-return]

    def _merge(self, ids: list[int]) -> list[int]:
        """Replays the merges on one word.

        Looking through the whole word for the best pair after every merge would take time ∝ length². Instead
        a heap hands out the best pair, and each token knows its neighbours (a linked list), so that a merge
        touches only the two pairs beside it: time ∝ length × log length.
        """
        table = self._rank_and_result
        end = len(ids)
        tokens = [*ids, GONE]  # and one place past the end, which is in no pair
        following = list(range(1, end + 2))
        preceding = list(range(-1, end))
        # A pair is (rank, place of its left token): on equal rank the leftmost comes first.
        pairs = [(table[pair][0], place) for place, pair in enumerate(pairwise(ids)) if pair in table]
        heapq.heapify(pairs)
        while pairs:
            rank, left = heapq.heappop(pairs)
            right = following[left]
            merge = table.get((tokens[left], tokens[right]))
            if merge is None or merge[0] != rank:
                continue  # an earlier merge took one of the two
            tokens[left], tokens[right] = merge[1], GONE
            after = following[left] = following[right]
            if after <= end:
                preceding[after] = left
            for place in (preceding[left], left):
                if place >= 0:
                    found = table.get((tokens[place], tokens[following[place]]))
                    if found is not None:
                        heapq.heappush(pairs, (found[0], place))
        return [token for token in tokens if token != GONE]

    def _byte_spans(self, text: str) -> list[tuple[int, int]]:
        return [
            (place, place + 1)
            for place, character in enumerate(text)
            for byte in character.encode()
            if byte in self._byte_ids
        ]

    def _is_byte(self, id: int) -> bool:
        try:
            self._bytes[id].decode("utf-8")
        except UnicodeDecodeError:
            return True
        return False

    def _bytes_of(self, id: int) -> bytes | None:
        return self._bytes.get(id)

    def _pre_tokenizers(self) -> list[dict[str, Any]]:
        """`_words` and the letters for bytes, in the words of tokenizer.json."""
        return [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]

    def _model_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return {
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": self._pre_tokenizers()},
            "post_processor": self._bos_rule(),
            "decoder": BYTE_LEVEL,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": self._vocabulary,
                "merges": [f"{left} {right}" for left, right in self._merges],
            },
        }, {}

    def _gguf_vocabulary(self) -> dict[str, Any]:
        known = {id: (token, PieceType.NORMAL) for token, id in self._vocabulary.items()}
        for id, special in self._special_by_id.items():
            known[id] = special.text, PieceType.CONTROL if special.hidden else PieceType.USER_DEFINED
        listed = [known.get(id, (f"[PAD{id}]", PieceType.UNUSED)) for id in range(self.vocab_size)]
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": [token for token, _ in listed],
            "tokenizer.ggml.token_type": [type for _, type in listed],
            "tokenizer.ggml.merges": [f"{left} {right}" for left, right in self._merges],
        }


def _letters_to_bytes(token: str) -> bytes:
    """The bytes a vocabulary entry stands for; one that is not written in the alphabet stands for its own
    text."""
    if all(letter in LETTER_TO_BYTE for letter in token):
        return bytes(LETTER_TO_BYTE[letter] for letter in token)
    return token.encode("utf-8")
