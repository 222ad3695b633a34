"""Phi-3's tokenizer: Llama 2's SentencePiece vocabulary plus special tokens with whitespace rules.

SentencePiece merges like byte-level BPE (bytebpe.py), with three differences: it works on characters, not
bytes, and spells a character it does not know as byte tokens `<0xF0>` …; it has no words, so a merge may
cross a space; and a space is the visible letter '▁', one of which is put in front, so that "Hello" at the
start and " Hello" in the middle of a text are the same token `▁Hello`. The merging itself is left to the
sentencepiece package.

What makes Phi-3's ids hard to get right are the special tokens:

- '▁' is put in front of *every* stretch of text that follows a special token, not only in front of the first.
- After most special tokens all whitespace is swallowed, the line break of the chat format included:
  `<|user|>\\nHello<|end|>` is `<|user|>`, `▁Hello`, `<|end|>`. The release of April 2024 swallowed nothing
  and gave `<|user|>`, `▁`, `\\n`, `Hello`, `<|end|>`.
- `</s>` swallows too, and is not hidden by `decode`.

Equal to transformers' fast tokenizer for `model_type: phi3` (golden vectors and public vectors in the tests).
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import sentencepiece

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer.base import SpecialToken, Tokenizer
from tinyphi.tokenizer.files import FETCH_AGAIN
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece, write_model

BYTE_PIECES = {f"<0x{byte:02X}>": byte for byte in range(256)}

NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece vocabulary with special tokens.

    pieces: the vocabulary; a piece's place is its id. specials: the tokens cut out of the text before
    SentencePiece sees it; each must have its place among the pieces. The other arguments: as `Tokenizer`.
    Errors: TokenizerError for a vocabulary that no SentencePiece model can have, or without all 256 byte
    pieces.
    """

    drops_first_space = True

    def __init__(
        self,
        pieces: Sequence[VocabularyPiece],
        specials: Sequence[SpecialToken],
        *,
        bos_id: int | None,
        eos_id: int | None,
        pad_id: int | None,
        adds_bos: bool = False,
        chat_template: str | None = None,
    ) -> None:
        for special in specials:
            if special.id >= len(pieces) or pieces[special.id].text != special.text:
                raise TokenizerError(
                    f"The special token {special.text!r} is not piece {special.id} of the vocabulary. "
                    f"{FETCH_AGAIN}"
                )
        special_ids = {special.id for special in specials}
        # SentencePiece never makes a control piece out of text, so nobody can type one.
        self._pieces = [
            VocabularyPiece(piece.text, piece.score, PieceType.CONTROL)
            if id in special_ids and piece.type != PieceType.UNKNOWN
            else piece
            for id, piece in enumerate(pieces)
        ]
        unknown_id = _check_pieces(self._pieces)
        self._unknown_text = pieces[unknown_id].text
        super().__init__(
            specials,
            bos_id=bos_id,
            eos_id=eos_id,
            pad_id=pad_id,
            adds_bos=adds_bos,
            chat_template=chat_template,
            unknown_id=unknown_id,
        )
        self.vocab_size = len(pieces)
        self._model = write_model(self._pieces)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        except (RuntimeError, ValueError, OSError) as error:
            raise TokenizerError(f"SentencePiece refuses this vocabulary: {error}. {FETCH_AGAIN}") from error
        self._bytes = [self._piece_bytes(piece) for piece in self._pieces]

    @staticmethod
    def _piece_bytes(piece: VocabularyPiece) -> bytes:
        if piece.type == PieceType.BYTE:
            return bytes([BYTE_PIECES[piece.text]])
        if piece.type == PieceType.NORMAL:
            return piece.text.replace("▁", " ").encode("utf-8")
        return piece.text.encode("utf-8")

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text, out_type=int)
        return ids

    def _byte_spans(self, text: str) -> list[tuple[int, int]]:
        put_in_front = (0, 0)
        return [put_in_front] + [
            (place, place + 1)
            for place, character in enumerate(text.replace("▁", " "))
            for _ in character.encode()
        ]

    def _is_byte(self, id: int) -> bool:
        return self._pieces[id].type == PieceType.BYTE

    def _bytes_of(self, id: int) -> bytes | None:
        return self._bytes[id] if 0 <= id < len(self._bytes) else None

    def _model_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        merges = [f"{left} {right}" for _, splits in merge_groups(self._pieces) for left, right in splits]
        return {
            "normalizer": NORMALIZER,
            "pre_tokenizer": None,
            "post_processor": self._bos_rule(),
            "decoder": DECODER,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self._unknown_text,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "vocab": {piece.text: id for id, piece in enumerate(self._pieces)},
                "merges": merges,
            },
        }, {"tokenizer.model": self._model}

    def _gguf_vocabulary(self) -> dict[str, Any]:
        entries = {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": [piece.text for piece in self._pieces],
            "tokenizer.ggml.scores": [piece.score for piece in self._pieces],
            "tokenizer.ggml.token_type": [piece.type for piece in self._pieces],
            "tokenizer.ggml.unknown_token_id": self.unknown_id,
        }
        if any(special.swallows_space for special in self._specials.values()):
            entries["general.name"] = "Phi-3"  # by this name llama.cpp knows that whitespace is swallowed
        return entries


def _check_pieces(pieces: Sequence[VocabularyPiece]) -> int:
    """Raises TokenizerError unless SentencePiece can use the vocabulary; returns the id of the unknown
    piece."""
    texts = {piece.text for piece in pieces}
    if len(texts) != len(pieces) or "" in texts:
        raise TokenizerError(f"The SentencePiece vocabulary has an empty piece or one twice. {FETCH_AGAIN}")
    if {piece.text for piece in pieces if piece.type == PieceType.BYTE} != BYTE_PIECES.keys():
        raise TokenizerError(
            "The SentencePiece vocabulary lacks some of the 256 byte pieces <0x00> … <0xFF>; tinyphi "
            f"reads only vocabularies with byte fallback, as Phi-3's. {FETCH_AGAIN}"
        )
    unknown = [id for id, piece in enumerate(pieces) if piece.type == PieceType.UNKNOWN]
    if len(unknown) != 1:
        raise TokenizerError(
            f"The SentencePiece vocabulary has {len(unknown)} unknown pieces instead of one. {FETCH_AGAIN}"
        )
    if not all(abs(piece.score) < 1e30 for piece in pieces):  # false for NaN as well
        raise TokenizerError(f"The SentencePiece vocabulary has a score that is no number. {FETCH_AGAIN}")
    if any(piece.type == PieceType.USER_DEFINED for piece in pieces):
        raise TokenizerError(
            "The SentencePiece vocabulary has user-defined pieces, which tinyphi does not support."
        )
    return unknown[0]


def merge_groups(pieces: Sequence[VocabularyPiece]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each piece, best score first, the pairs of pieces that merge into it.

    A SentencePiece file says only which pieces are better; `tokenizer.json` lists the merges. Source: the
    conversion in transformers (`SentencePieceExtractor`).
    """
    ids = {piece.text: id for id, piece in enumerate(pieces) if piece.type == PieceType.NORMAL}
    by_score = sorted(ids, key=lambda text: -pieces[ids[text]].score)
    groups = []
    for text in by_score:
        cuts = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
        splits = [(left, right) for left, right in cuts if left in ids and right in ids]
        if splits:
            groups.append((text, sorted(splits, key=lambda split: (ids[split[0]], ids[split[1]]))))
    return groups


def pieces_from_merges(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    specials: Sequence[SpecialToken],
    where: str,
) -> list[VocabularyPiece]:
    """The pieces and scores that a `tokenizer.json` was made from.

    SentencePiece merges by the score of the *result*; the file ranks *pairs*. The two agree when all pairs
    with one result stand together and none is missing, which is checked: the n-th result then gets the score
    −n.
    Errors: TokenizerError, naming `where`, if ids have gaps or the merges are no SentencePiece model's.
    """
    special_ids = {special.text: special.id for special in specials}
    texts = {id: text for text, id in {**vocabulary, **special_ids}.items()}
    if sorted(texts) != list(range(len(texts))):
        raise TokenizerError(f"The ids in {where} are not 0, 1, 2, … without gaps. {FETCH_AGAIN}")
    results = [result for result, _ in groupby(left + right for left, right in merges)]
    scores = {result: -float(rank) for rank, result in enumerate(results)}
    merges = [(left, right) for left, right in merges if left + right not in special_ids]
    pieces = [
        _typed_piece(texts[id], scores.get(texts[id], -float(len(results) + id)), special_ids)
        for id in range(len(texts))
    ]
    expected = {split for _, splits in merge_groups(pieces) for split in splits}
    if len(scores) != len(results) or expected != set(merges):
        raise TokenizerError(
            f"The merges in {where} were not made from a SentencePiece model, so they cannot be turned "
            "back into one. Put the model's tokenizer.model in the directory and move tokenizer.json away."
        )
    return pieces


def _typed_piece(text: str, score: float, special_ids: Mapping[str, int]) -> VocabularyPiece:
    if text == "<unk>":
        return VocabularyPiece(text, 0.0, PieceType.UNKNOWN)
    if text in special_ids:
        return VocabularyPiece(text, 0.0, PieceType.CONTROL)
    if text in BYTE_PIECES:
        return VocabularyPiece(text, 0.0, PieceType.BYTE)
    return VocabularyPiece(text, score)


def phi3_special(text: str, id: int, style_name: str | None) -> SpecialToken:
    """What is known of Phi-3's special tokens, for files that list only names and ids.

    style_name: the name of the chat style, which tells the releases apart; None means the current one.
    """
    april, vision = style_name == "phi-3-april-2024", style_name == "phi-3-vision"
    keeps = {"<unk>", "<s>", "<|endoftext|>"}
    if vision:
        keeps |= {"<|system|>", "<|end|>", "<|user|>"}
    return SpecialToken(
        text, id, swallows_space=not april and text not in keeps, hidden=april or text != "</s>"
    )
