"""`tokenizer.model` files: read as sentencepiece reads them, written so that sentencepiece reads them."""

import random

import pytest
import sentencepiece

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece, read_model, write_model


def test_pieces_equal_those_of_sentencepiece(sentencepiece_model):
    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    pieces = read_model(sentencepiece_model, "here")
    assert len(pieces) == processor.get_piece_size() == 700
    for id, piece in enumerate(pieces):
        assert piece.text == processor.id_to_piece(id)
        assert piece.score == processor.get_score(id)
        assert (piece.type == PieceType.BYTE) == processor.is_byte(id)
        assert (piece.type == PieceType.CONTROL) == processor.is_control(id)
        assert (piece.type == PieceType.UNKNOWN) == processor.is_unknown(id)


def test_llama2_pieces_equal_those_of_sentencepiece(shared):
    data = (shared / "tokenizer/llama2_tokenizer.model").read_bytes()
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    pieces = read_model(data, "here")
    assert [piece.text for piece in pieces] == [processor.id_to_piece(id) for id in range(32000)]
    assert [piece.score for piece in pieces] == [processor.get_score(id) for id in range(32000)]


def test_written_model_encodes_as_the_original(sentencepiece_model, strings):
    original = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    pieces = read_model(sentencepiece_model, "here")
    written = sentencepiece.SentencePieceProcessor(model_proto=write_model(pieces))
    assert read_model(write_model(pieces), "here") == pieces
    texts = strings(1000, 41)
    assert written.encode(texts) == original.encode(texts)
    # The comparison notices scores in the wrong order.
    wrong = [VocabularyPiece(piece.text, -piece.score, piece.type) for piece in pieces]
    assert sentencepiece.SentencePieceProcessor(model_proto=write_model(wrong)).encode(
        texts
    ) != original.encode(texts)


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"normalization_rule_name": "nmt_nfkc"},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False},
        {"treat_whitespace_as_suffix": True},
    ],
)
def test_models_with_other_rules_are_refused(options, tmp_path):
    settings = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        **options,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four", "some more words here"] * 20),
        model_prefix=str(tmp_path / "other"),
        vocab_size=290 if settings["byte_fallback"] else 30,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **settings,
    )
    with pytest.raises(TokenizerError, match="other rules"):
        read_model((tmp_path / "other.model").read_bytes(), "here")


def test_damaged_models_are_refused_or_read_but_never_crash(sentencepiece_model):
    generator = random.Random(0)
    for number in range(400):
        data = bytearray(sentencepiece_model)
        if number % 2:
            del data[generator.randrange(len(data)) :]
        for _ in range(generator.randint(0 if number % 2 else 1, 5)):
            if data:
                data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            read_model(bytes(data), "here")
        except TokenizerError as error:
            assert "here" in str(error)


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x7f", b"\xff" * 20, b"\x0b", b"hello", b"\x08\x01"]
)
def test_data_that_is_no_model_is_refused(data):
    with pytest.raises(TokenizerError, match="here"):
        read_model(data, "here")
