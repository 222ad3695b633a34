"""What both kinds of tokenizer do in the same way: streaming, explaining, and refusing wrong input."""

import json
import random

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError, TokenizerError
from tinyphi.tokenizer import from_directory
from tinyphi.tokenizer.base import StreamDecoder


@pytest.fixture(scope="module", params=["sentencepiece", "sentencepiece with BOS", "byte BPE"])
def tokenizer(request, phi3_directory, byte_bpe_json, tmp_path_factory):
    if request.param.startswith("sentencepiece"):
        return from_directory(phi3_directory(adds_bos="BOS" in request.param))
    folder = tmp_path_factory.mktemp("byte-bpe")
    (folder / "tokenizer.json").write_text(json.dumps(byte_bpe_json), encoding="utf-8")
    return from_directory(folder)


def streamed(tokenizer, ids):
    decoder = tokenizer.stream()
    return "".join([*map(decoder.push, ids), decoder.finish()])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_stream_equals_decode_on_any_ids(data, tokenizer):
    byte_range = st.integers(0, 260)  # mostly bytes, so that characters are cut and broken everywhere
    ids = data.draw(st.lists(byte_range | st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


def test_stream_equals_decode_on_text(tokenizer, strings):
    for text in strings(500, 21):
        for allow_special in (True, False):
            ids = tokenizer.encode(text, allow_special)
            assert streamed(tokenizer, ids) == tokenizer.decode(ids)


def test_a_stream_that_goes_on_keeps_its_first_space(tokenizer):
    ids = tokenizer.encode("the cat sat on the mat, and the end of it was good")
    for cut in range(1, len(ids)):
        decoder = tokenizer.stream(after=ids[:cut])
        rest = "".join([*map(decoder.push, ids[cut:]), decoder.finish()])
        assert tokenizer.decode(ids[:cut]) + rest == tokenizer.decode(ids)


def test_a_stream_after_a_special_token_begins_a_text(tokenizer):
    decoder = tokenizer.stream(after=tokenizer.encode("x<|endoftext|>", allow_special=True))
    ids = [id for id in tokenizer.encode("the cat") if id not in tokenizer.special_tokens.values()]
    assert "".join([*map(decoder.push, ids), decoder.finish()]) == "the cat"


def test_characters_arrive_whole_and_at_once(tokenizer):
    decoder = tokenizer.stream()
    ids = [id for id in tokenizer.encode("a🦙") if id not in tokenizer.special_tokens.values()]
    texts = list(map(decoder.push, ids))
    assert texts[-1] == "🦙"
    assert texts[-2] == ""
    assert "".join(texts) == "a🦙"
    assert decoder.finish() == ""


def test_an_unfinished_character_ends_as_a_replacement_sign(tokenizer):
    ids = tokenizer.encode("a🦙")[:-1]
    decoder = tokenizer.stream()
    assert "\ufffd" not in "".join(map(decoder.push, ids))
    assert decoder.finish() == "\ufffd"


def test_stream_can_show_special_tokens(tokenizer):
    ids = tokenizer.encode("a<|endoftext|>b", allow_special=True)
    decoder = StreamDecoder(tokenizer, skip_special=False)
    shown = "".join([*map(decoder.push, ids), decoder.finish()])
    assert shown == tokenizer.decode(ids, skip_special=False)
    assert "<|endoftext|>" in shown
    assert "<|endoftext|>" not in streamed(tokenizer, ids)


@pytest.mark.parametrize("allow_special", [True, False])
def test_explain_tiles_the_text(tokenizer, strings, allow_special):
    for text in strings(500, 22):
        pieces = tokenizer.explain(text, allow_special)
        assert [piece.id for piece in pieces] == tokenizer.encode(text, allow_special)
        covered = 0
        for piece in pieces:
            assert piece.bytes == tokenizer.token_bytes(piece.id)
            assert piece.start <= covered or piece.start == piece.end
            assert piece.end >= covered or piece.kind == "byte"
            covered = max(covered, piece.end)
            if piece.kind == "normal" and "▁" not in text:
                shown = text[piece.start : piece.end]
                assert piece.text == shown or piece.text == " " + shown
        assert covered == len(text)


def test_explain_kinds(phi3_directory):
    tokenizer = from_directory(phi3_directory())
    pieces = tokenizer.explain("<|user|>\n 🦙<unk>ba", allow_special=True)
    assert [(piece.kind, piece.text, piece.start, piece.end) for piece in pieces] == [
        ("control", "<|user|>", 0, 10),
        ("normal", " ", 10, 10),
        ("byte", "<0xF0>", 10, 11),
        ("byte", "<0x9F>", 10, 11),
        ("byte", "<0xA6>", 10, 11),
        ("byte", "<0x99>", 10, 11),
        ("unknown", "<unk>", 11, 16),
        ("normal", " ba", 16, 18),
    ]


@pytest.mark.parametrize("ids", [[10**6], [-1], [5, 10**30]])
def test_unknown_ids_are_refused(tokenizer, ids):
    with pytest.raises(TokenizerError, match=str(ids[-1])):
        tokenizer.decode(ids)
    with pytest.raises(TokenizerError):
        tokenizer.token_bytes(ids[-1])
    with pytest.raises(TokenizerError):
        streamed(tokenizer, ids)


@pytest.mark.parametrize("ids", [["a"], [1.5], [None], [[1]]])
def test_ids_that_are_no_integers_are_refused(tokenizer, ids):
    with pytest.raises(InputError):
        tokenizer.decode(ids)


def test_arrays_and_tensors_of_ids_are_fine(tokenizer):
    ids = tokenizer.encode("ba ke<|endoftext|>", allow_special=True)
    assert tokenizer.decode(torch.tensor(ids)) == tokenizer.decode(numpy.array(ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("text", [None, b"ba", 3, ["ba"], "ba\ud83e", "\udd99"])
def test_text_that_cannot_be_encoded_is_refused(tokenizer, text):
    with pytest.raises(InputError):
        tokenizer.encode(text)
    with pytest.raises(InputError):
        tokenizer.explain(text)


def test_the_longest_special_token_wins(byte_bpe_json, tmp_path):
    nested = json.loads(json.dumps(byte_bpe_json))
    first = max(nested["model"]["vocab"].values()) + 1
    for number, text in enumerate(["<a", "<a>", "<a>b"]):
        nested["added_tokens"].append({"id": first + number, "content": text, "special": True})
    (tmp_path / "tokenizer.json").write_text(json.dumps(nested), encoding="utf-8")
    ids = from_directory(tmp_path).encode("<a>b<a><ab", allow_special=True)
    assert ids[:3] == [first + 2, first + 1, first]


def test_special_tokens_are_found_at_random_places(tokenizer, strings):
    generator = random.Random(5)
    for text in strings(200, 23):
        place = generator.randint(0, len(text))
        with_token = text[:place] + "<|endoftext|>" + text[place:]
        assert tokenizer.special_tokens["<|endoftext|>"] in tokenizer.encode(with_token, allow_special=True)
