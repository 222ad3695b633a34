"""Phi-3-small's tokenizer: byte-level BPE with the vocabulary cl100k_base of OpenAI's library tiktoken.

Three things differ from `bytebpe`. The words: up to three digits stay together, and a sign or a space sticks
to the letters behind it. The file: a token a line, in base64, and its id, `IQ== 0`; it lists no merges. The
merges follow from the ids: a token was learned after all tokens with smaller ids, so of all neighbours that
make a token together, those are merged first whose token has the smallest id. A word that is a token itself
is taken as it is.

Source: `cl100k_base` in tiktoken's `tiktoken_ext/openai_public.py`, `byte_pair_merge` in its `src/lib.rs`;
`tokenization_phi3_small.py` beside the published weights, which adds the special tokens.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regex

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer.base import SpecialToken
from tinyphi.tokenizer.bytebpe import BYTE_LEVEL, BYTE_TO_LETTER, ByteBPETokenizer
from tinyphi.tokenizer.files import FETCH_AGAIN, checked_id, read_bytes

# As tiktoken wrote it at first; what it has now says the same, faster for its own engine.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # the endings of I'm, you're, it's …
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # letters, with one sign or space before them
    r"|\p{N}{1,3}"  # up to three digits
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # signs, with the space before and the line ends behind them
    r"|\s*[\r\n]+"  # line ends, with the spaces before them
    r"|\s+(?!\S)|\s+"  # spaces; the last one is left for the word after them
)
_WORD = regex.compile(PATTERN)
PRE_TOKENIZERS: list[dict[str, Any]] = [
    {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
    {**BYTE_LEVEL, "use_regex": False},
]
SPECIALS = {  # the files do not list them
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|system|>": 100261,
    "<|user|>": 100262,
    "<|assistant|>": 100263,
    "<|end|>": 100266,
    "<|endofprompt|>": 100276,
}


class TiktokenTokenizer(ByteBPETokenizer):
    """Byte-level BPE with the words of cl100k_base, and merges in the order of the ids.

    vocabulary: token, written in `BYTE_TO_LETTER`, → id; special tokens in it count as such only. The other
    arguments: as `Tokenizer`.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], specials: Sequence[SpecialToken], **common: Any
    ) -> None:
        special_ids = {special.id for special in specials}
        self._id_of = {token: id for token, id in vocabulary.items() if id not in special_ids}
        super().__init__(self._id_of, merges_of(self._id_of), specials, **common)

    def _merge_table(self) -> dict[tuple[int, int], tuple[int, int]]:
        return {pair: (result, result) for pair, (_, result) in super()._merge_table().items()}

    def _words(self, text: str) -> list[str]:
        return _WORD.findall(text)  # type: ignore[no-any-return]

    def _merge(self, ids: list[int]) -> list[int]:
        letters = "".join(BYTE_TO_LETTER[byte] for id in ids for byte in self._bytes[id])
        return [self._id_of[letters]] if letters in self._id_of else super()._merge(ids)

    def _pre_tokenizers(self) -> list[dict[str, Any]]:
        return PRE_TOKENIZERS

    def _model_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        content, more = super()._model_files()
        content["model"]["ignore_merges"] = True  # for words that are tokens
        # The ids have gaps. Of a special token that is not in the vocabulary, `tokenizers` ignores the id.
        content["model"]["vocab"] = self._vocabulary | self.special_tokens
        return content, more

    def _gguf_vocabulary(self) -> dict[str, Any]:
        raise TokenizerError(
            "llama.cpp has no architecture for Phi-3-small, so GGUF has no place for its tokenizer."
        )


def merges_of(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, those with the smallest ids first."""
    merges = []
    for token in sorted(vocabulary, key=vocabulary.__getitem__):
        pairs = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return merges


def read_ranks(path: Path) -> dict[str, int]:
    """A .tiktoken file: token, written in `BYTE_TO_LETTER`, → id. Raises TokenizerError naming the line."""
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        where = f"{path}, line {number}"
        parts = line.split()
        try:
            token, id = base64.b64decode(parts[0], validate=True), int(parts[1])
        except (IndexError, ValueError, binascii.Error) as error:
            raise TokenizerError(f"{where} is not a token in base64 and its id. {FETCH_AGAIN}") from error
        letters = "".join(BYTE_TO_LETTER[byte] for byte in token)
        if not token or len(parts) > 2 or letters in vocabulary:
            raise TokenizerError(
                f"{where} has no token, two ids, or a token for the second time. {FETCH_AGAIN}"
            )
        vocabulary[letters] = checked_id(id, where)
    if len(set(vocabulary.values())) < max(len(vocabulary), 1):
        raise TokenizerError(f"{path} is empty or gives an id to two tokens. {FETCH_AGAIN}")
    return vocabulary
