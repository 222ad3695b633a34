"""Phi-3's tokenizer against the golden ids, and against `tokenizers` on a vocabulary trained here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece

from tinyphi import TinyphiError
from tinyphi.tokenizer import SentencePieceTokenizer, from_directory, from_gguf
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece

DIRECTORY = {"phi-3-mini": "phi-3-mini", "phi-3-medium": "phi-3-medium", "phi-3": "phi-3-april-2024"}


@pytest.fixture(scope="module", params=DIRECTORY)
def variant(request, shared, golden):
    """A published tokenizer.json and its golden ids."""
    tokenizer = from_directory(shared / "tokenizer" / DIRECTORY[request.param])
    return tokenizer, golden["variants"][request.param]


def test_golden_encode_and_decode(variant):
    tokenizer, expected = variant
    assert len(expected["encode"]) == 43
    for case in expected["encode"]:
        assert tokenizer.encode(case["text"], allow_special=True) == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"], skip_special=False) == case["decoded"]
        assert tokenizer.decode(case["ids"]) == case["decoded_skip"]


def test_golden_chat(variant):
    tokenizer, expected = variant
    for case in expected["chat"]:
        assert tokenizer.encode_chat(case["messages"], case["add_generation_prompt"]) == case["ids"], case


def test_golden_chat_of_phi35(shared, golden):
    tokenizer = from_directory(shared / "tokenizer/phi-3-mini")
    expected = golden["variants"]["phi-3-mini"]
    tokenizer.chat_template = expected["chat_template_phi35_mini"]
    for case in expected["chat_phi35_mini"]:
        assert tokenizer.encode_chat(case["messages"], case["add_generation_prompt"]) == case["ids"], case


@pytest.mark.parametrize("release", ["phi-3-mini", "phi-3-vision"])
def test_golden_from_tokenizer_model_and_added_tokens(release, shared, golden, tmp_path):
    """Llama 2's tokenizer.model has Phi-3's pieces; the rest comes from added_tokens.json."""
    (tmp_path / "tokenizer.model").write_bytes((shared / "tokenizer/llama2_tokenizer.model").read_bytes())
    names = json.loads((shared / "tokenizer/phi-3-mini/tokenizer.json").read_text(encoding="utf-8"))[
        "added_tokens"
    ]
    added = {entry["content"]: entry["id"] for entry in names if entry["id"] >= 32000}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    expected = golden["variants"][release]
    if release == "phi-3-vision":
        config = {"bos_token": "<s>", "add_bos_token": True, "chat_template": expected["chat_template"]}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = from_directory(tmp_path)
    for case in expected["encode"]:
        assert tokenizer.encode(case["text"], allow_special=True) == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"], skip_special=False) == case["decoded"]
    for case in expected["chat"]:
        assert tokenizer.encode_chat(case["messages"], case["add_generation_prompt"]) == case["ids"], case
    if release == "phi-3-vision":
        [case] = golden["public_vectors"]["onnxruntime-extensions (phi-3-vision)"]
        assert tokenizer.encode(case["text"], allow_special=True) == case["ids"]


def test_april_release_adds_bos_where_no_tokenizer_json_says_otherwise(shared, tmp_path):
    source = shared / "tokenizer/phi-3-april-2024/tokenizer_config.json"
    (tmp_path / "tokenizer_config.json").write_bytes(source.read_bytes())
    (tmp_path / "tokenizer.model").write_bytes((shared / "tokenizer/llama2_tokenizer.model").read_bytes())
    tokenizer = from_directory(tmp_path)
    assert tokenizer.encode("<|user|>\nHello", allow_special=True) == [1, 32010, 29871, 13, 10994]
    assert tokenizer.encode_chat([{"role": "user", "content": "Hi"}])[:5] == [1, 32010, 29871, 13, 18567]


def test_public_vectors(shared, golden):
    mini = from_directory(shared / "tokenizer/phi-3-mini")
    cases = [
        (source, case)
        for source, vectors in golden["public_vectors"].items()
        for case in vectors
        if "vision" not in source
    ]
    assert len(cases) == 53
    for source, case in cases:
        start = [1] if "add BOS" in source else []
        assert start + mini.encode(case["text"], allow_special=True) == case["ids"], (source, case["text"])


def gguf_metadata(model: bytes, directory: Path) -> dict:
    """What a GGUF file of this Phi-3 would say."""
    config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.get_piece_size()
    added = {
        int(id): entry["content"] for id, entry in config["added_tokens_decoder"].items() if int(id) >= size
    }
    types = [
        2
        if processor.is_unknown(id)
        else 3
        if processor.is_control(id)
        else 6
        if processor.is_byte(id)
        else 1
        for id in range(size)
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [processor.id_to_piece(id) for id in range(size)]
        + list(added.values())
        + ["[PAD]"] * 3,
        "tokenizer.ggml.scores": [processor.get_score(id) for id in range(size)]
        + [-1000.0] * (len(added) + 3),
        "tokenizer.ggml.token_type": types + [3] * len(added) + [5] * 3,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": size,
        "tokenizer.ggml.padding_token_id": size,
        "tokenizer.chat_template": config["chat_template"],
    }


@pytest.mark.parametrize("release", ["phi-3-mini", "phi-3-april-2024"])
def test_equals_tokenizers_from_every_source(
    release, phi3_directory, make_phi3_reference, sentencepiece_model, strings, differing, tmp_path
):
    from tinyphi.tokenizer.chat import STYLES

    directory = phi3_directory(release, chat_template=STYLES[release].jinja)
    reference = make_phi3_reference(release)
    from_model = from_directory(directory)
    from_model.save(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    texts = strings(3000, 1)
    for tokenizer in (
        from_model,
        from_directory(tmp_path),
        from_gguf(gguf_metadata(sentencepiece_model, directory)),
    ):
        assert tokenizer.vocab_size == 711
        assert tokenizer.stop_ids == (700, 701, 707)
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 700, 700)
        assert differing(tokenizer, reference, texts) == []


def test_decode_equals_tokenizers(phi3_directory, make_phi3_reference, strings):
    tokenizer, reference = from_directory(phi3_directory()), make_phi3_reference("phi-3-mini")
    for text in strings(1000, 2):
        ids = tokenizer.encode(text, allow_special=True)
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids, skip_special=False) == reference.decode(ids, skip_special_tokens=False)


def test_decode_of_wrong_bytes_differs_from_tokenizers_as_documented(phi3_directory, make_phi3_reference):
    tokenizer, reference = from_directory(phi3_directory()), make_phi3_reference("phi-3-mini")
    ids = [3 + byte for byte in "é".encode() + b"\xff"]
    assert tokenizer.decode(ids) == "é\ufffd"
    assert reference.decode(ids) == "\ufffd\ufffd\ufffd"


class DropsThePrefix(SentencePieceTokenizer):
    """Mistake: no '▁' in front of the text after a special token (where it would stand alone)."""

    def _encode_plain(self, text):
        ids = super()._encode_plain(text)
        return ids[1:] if self.token_bytes(ids[0]) == b" " else ids


def rebuilt(tokenizer, kind=SentencePieceTokenizer, pieces=None, specials=None):
    return kind(
        pieces or tokenizer._pieces,
        specials or list(tokenizer._special_by_id.values()),
        bos_id=1,
        eos_id=700,
        pad_id=700,
    )


def test_the_comparison_notices_planted_mistakes(phi3_directory, make_phi3_reference, strings, differing):
    tokenizer, reference = from_directory(phi3_directory()), make_phi3_reference("phi-3-mini")
    specials = list(tokenizer._special_by_id.values())
    keeping_space = [replace(special, swallows_space=False) for special in specials]
    worst_first = [replace(piece, score=-piece.score) for piece in tokenizer._pieces]
    texts = strings(300, 3)
    assert differing(rebuilt(tokenizer), reference, texts) == []
    assert differing(rebuilt(tokenizer, DropsThePrefix), reference, texts)
    assert differing(rebuilt(tokenizer, specials=keeping_space), reference, texts)
    assert differing(rebuilt(tokenizer, pieces=worst_first), reference, texts)
    assert differing(tokenizer, make_phi3_reference("phi-3-april-2024"), texts)


def test_special_tokens_in_text_stay_text(phi3_directory, strings):
    tokenizer = from_directory(phi3_directory())
    special_ids = set(tokenizer.special_tokens.values())
    assert len(special_ids) == 14
    for text in [*tokenizer.special_tokens, *strings(500, 4)]:
        assert not special_ids & set(tokenizer.encode(text)), text


def test_bos_is_added_when_the_files_say_so(phi3_directory):
    tokenizer = from_directory(phi3_directory(adds_bos=True))
    assert tokenizer.encode("") == [1]
    assert tokenizer.encode("ba")[0] == 1


def test_round_trips(phi3_directory, strings):
    tokenizer = from_directory(phi3_directory())
    for text in strings(500, 5):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text.replace("▁", " ")
        assert tokenizer.encode(tokenizer.decode(ids)) == ids
    # Not the identity: swallowed whitespace is gone, and a text can be spelled in tokens in many ways.
    assert tokenizer.decode(tokenizer.encode("<|user|>\n ba", allow_special=True)) == "ba"
    spelled = [*tokenizer.encode("b"), 3 + ord("a")]
    assert tokenizer.decode(spelled) == "ba"
    assert tokenizer.encode("ba") != spelled


@pytest.mark.parametrize("text", ["a" * 100_000, " " * 100_000, "ab" * 50_000, "\n " * 50_000])
def test_long_runs_do_not_hang(text, phi3_directory):
    tokenizer = from_directory(phi3_directory())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_wrong_vocabularies_are_refused(phi3_directory):
    tokenizer = from_directory(phi3_directory())
    pieces, specials = tokenizer._pieces, list(tokenizer._special_by_id.values())
    user_defined = VocabularyPiece("zz", 0.0, PieceType.USER_DEFINED)
    for wrong in (
        [*pieces, pieces[300]],
        [piece for piece in pieces if piece.text != "<0x41>"],
        [replace(pieces[0], type=PieceType.NORMAL), *pieces[1:]],
        [*pieces, user_defined],
        [*pieces, VocabularyPiece("", 0.0)],
        [*pieces, VocabularyPiece("zz", float("nan"))],
        [*pieces, VocabularyPiece("zz", 1e300)],
        pieces[:705],
    ):
        with pytest.raises(TinyphiError):
            rebuilt(tokenizer, pieces=wrong, specials=specials)
