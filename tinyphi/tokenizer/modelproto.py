"""`tokenizer.model`: the file format of SentencePiece, just enough to read and write a vocabulary.

The file is a *protocol buffer*: a sequence of fields, each a key (field number × 8 + wire type) and a value.
Wire type 0 is a variable-length integer, 7 bits a byte, the last byte below 128; 1 and 5 are 8 and 4 raw
bytes; 2 is a length and that many bytes, which may be text or, nested, another sequence of fields.

    ModelProto            1 SentencePiece (repeated)   2 TrainerSpec      3 NormalizerSpec
    SentencePiece         1 piece (text)               2 score (float)    3 type
    TrainerSpec           3 model_type (2 is BPE)     24 treat_whitespace_as_suffix    35 byte_fallback
    NormalizerSpec        2 precompiled_charsmap       3 add_dummy_prefix              4
    remove_extra_whitespaces
                          5 escape_whitespaces

Source: sentencepiece's `sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer.files import FETCH_AGAIN

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


class PieceType(IntEnum):
    """How a piece is used; GGUF's `token_type` counts the same way."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class VocabularyPiece:
    """An entry of a SentencePiece vocabulary; its id is its place. Higher scores are merged first."""

    text: str
    score: float
    type: PieceType = PieceType.NORMAL


def read_model(data: bytes, where: str) -> list[VocabularyPiece]:
    """The vocabulary in a `tokenizer.model`; `where` names the file in errors.

    Errors: TokenizerError if the file is damaged, or if its rules are not those of Llama and Phi-3 (BPE with
    byte fallback, a space put before the text, no other change of the text).
    """
    try:
        pieces, trainer, normalizer = [], b"", b""
        for number, value in _fields(data):
            if number == 1:
                pieces.append(_read_piece(_as_bytes(value)))
            elif number == 2:
                trainer = _as_bytes(value)
            elif number == 3:
                normalizer = _as_bytes(value)
        # The values here are SentencePiece's defaults, for fields that the file leaves out.
        training = {3: 1, 24: 0, 35: 0} | dict(_fields(trainer))
        normalizing = {2: b"", 3: 1, 4: 1, 5: 1} | dict(_fields(normalizer))
    except (ValueError, IndexError, struct.error) as error:
        raise TokenizerError(f"{where} is not a SentencePiece model: {error}. {FETCH_AGAIN}") from error
    rules = [training[3], training[24], training[35], *(normalizing[key] for key in (2, 3, 4, 5))]
    if rules != [2, 0, 1, b"", 1, 0, 1]:
        raise TokenizerError(
            f"{where} has other rules than Llama's and Phi-3's tokenizers (byte-pair merges, byte "
            "fallback, a space before the text, no other change). tinyphi reads only that kind."
        )
    return pieces


def write_model(pieces: Sequence[VocabularyPiece]) -> bytes:
    """A `tokenizer.model` with these pieces and the rules that `read_model` asks for."""
    out = bytearray()
    for piece in pieces:
        body = (
            _bytes_field(1, piece.text.encode("utf-8")) + _key(2, FOUR_BYTES) + struct.pack("<f", piece.score)
        )
        if piece.type != PieceType.NORMAL:
            body += _number_field(3, piece.type)
        out += _bytes_field(1, body)
    trainer = _number_field(3, 2) + _number_field(4, len(pieces)) + _number_field(35, 1)
    normalizer = (
        _bytes_field(1, b"identity") + _number_field(3, 1) + _number_field(4, 0) + _number_field(5, 1)
    )
    out += _bytes_field(2, trainer) + _bytes_field(3, normalizer)
    return bytes(out)


def _read_piece(data: bytes) -> VocabularyPiece:
    text, score, type = b"", 0.0, PieceType.NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _as_bytes(value)
        elif number == 2:
            (score,) = struct.unpack("<f", _as_bytes(value))
        elif number == 3 and isinstance(value, int):
            type = PieceType(value)
    return VocabularyPiece(text.decode("utf-8"), score, type)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one message: (field number, integer or raw bytes)."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        wire_type = key & 7
        if wire_type == VARINT:
            value, position = _read_varint(data, position)
            yield key >> 3, value
            continue
        if wire_type == BYTES:
            length, position = _read_varint(data, position)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise ValueError(f"unknown wire type {wire_type} at byte {position}")
        if position + length > len(data):
            raise ValueError(f"it ends in the middle of a field at byte {position}")
        yield key >> 3, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while data[position] >= 128:
        value |= (data[position] & 127) << shift
        shift += 7
        position += 1
        if shift > 63:
            raise ValueError(f"an integer without end at byte {position}")
    return value | data[position] << shift, position + 1


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _number_field(number: int, value: int) -> bytes:
    return _key(number, VARINT) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _key(number, BYTES) + _varint(len(value)) + value
