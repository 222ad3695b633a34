"""Byte-level BPE against `tokenizers`: a vocabulary trained here, and SmolLM2's own."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tinyphi import TinyphiError
from tinyphi.tokenizer import ByteBPETokenizer, SpecialToken, bytebpe, from_directory
from tinyphi.tokenizer.bytebpe import BYTE_TO_LETTER, LETTER_TO_BYTE


@pytest.fixture(scope="module")
def reference(byte_bpe_json):
    return Tokenizer.from_str(json.dumps(byte_bpe_json))


@pytest.fixture(scope="module")
def tokenizer(byte_bpe_json, tmp_path_factory):
    folder = tmp_path_factory.mktemp("byte-bpe")
    (folder / "tokenizer.json").write_text(json.dumps(byte_bpe_json), encoding="utf-8")
    return from_directory(folder)


def parts(byte_bpe_json):
    """Vocabulary, merges and special tokens, to build tokenizers with mistakes from."""
    model = byte_bpe_json["model"]
    specials = [SpecialToken(entry["content"], entry["id"]) for entry in byte_bpe_json["added_tokens"]]
    return dict(model["vocab"]), [tuple(merge) for merge in model["merges"]], specials


def build(vocabulary, merges, specials, kind=ByteBPETokenizer):
    return kind(vocabulary, merges, specials, bos_id=None, eos_id=None, pad_id=None)


def test_alphabet():
    assert len(BYTE_TO_LETTER) == len(LETTER_TO_BYTE) == 256
    assert BYTE_TO_LETTER[ord(" ")] == "Ġ"
    assert BYTE_TO_LETTER[ord("\n")] == "Ċ"
    assert not any(letter.isspace() for letter in LETTER_TO_BYTE)


def test_equals_tokenizers_on_ten_thousand_strings(tokenizer, reference, strings, differing):
    assert differing(tokenizer, reference, strings(10_000, 11)) == []


def test_smollm2_equals_tokenizers_on_ten_thousand_strings(smollm2, smollm2_reference, strings, differing):
    assert smollm2.stop_ids == (2, 0)
    assert differing(smollm2, smollm2_reference, strings(10_000, 12)) == []


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equals_tokenizers_on_any_text(data, tokenizer, reference, characters):
    text = "".join(data.draw(st.lists(st.sampled_from([*characters, *"aA1 '\n.sdt"]), max_size=40)))
    assert tokenizer.encode(text, allow_special=True) == reference.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_of_any_ids_equals_tokenizers(tokenizer, reference):
    generator = random.Random(0)
    for _ in range(1000):
        ids = generator.choices(range(tokenizer.vocab_size), k=generator.randint(0, 12))
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids, skip_special=False) == reference.decode(ids, skip_special_tokens=False)


def test_the_comparison_notices_planted_mistakes(byte_bpe_json, reference, strings, differing, monkeypatch):
    vocabulary, merges, specials = parts(byte_bpe_json)
    texts = strings(300, 13)
    assert differing(build(vocabulary, merges, specials), reference, texts) == []
    assert differing(build(vocabulary, merges[::-1], specials), reference, texts)
    assert differing(build(vocabulary, merges, specials[1:]), reference, texts)
    nearly = [*merges[:30][::-1], *merges[30:]]
    assert differing(build(vocabulary, nearly, specials), reference, texts)
    for mistake in (
        r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # digits stay together
        r"\p{N}|'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # a space waits for a digit
        r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+",  # no endings
        r"\p{N}|'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+",  # no space is left for the next word
    ):
        monkeypatch.setattr(bytebpe, "WORD", bytebpe.regex.compile(mistake))
        assert differing(build(vocabulary, merges, specials), reference, strings(1000, 13)), mistake


def test_bytes_without_a_token_are_dropped_as_in_tokenizers(smollm2, smollm2_reference):
    text = "a\x04b\x06"  # SmolLM2's vocabulary lacks these two bytes
    assert smollm2.encode(text) == smollm2_reference.encode(text).ids
    assert smollm2.decode(smollm2.encode(text)) == "ab"
    assert [(piece.start, piece.end) for piece in smollm2.explain(text)] == [(0, 1), (2, 3)]


def test_special_tokens_in_text_stay_text(tokenizer):
    for text, id in tokenizer.special_tokens.items():
        assert id not in tokenizer.encode(f"a {text}b")
        assert tokenizer.encode(text, allow_special=True) == [id]
        assert tokenizer.decode(tokenizer.encode(text)) == text


class CountingTable(dict):
    looked_up = 0

    def get(self, *arguments):
        self.looked_up += 1
        return super().get(*arguments)


@pytest.mark.parametrize("text", ["a" * 100_000, " " * 100_000, "ba" * 50_000, "é!" * 30_000, "!" * 100_000])
def test_work_on_a_long_word_grows_with_its_length_only(text, byte_bpe_json, reference):
    tokenizer = build(*parts(byte_bpe_json))
    tokenizer._rank_and_result = CountingTable(tokenizer._rank_and_result)
    ids = tokenizer.encode(text)
    assert ids == reference.encode(text).ids
    assert tokenizer._rank_and_result.looked_up < 5 * len(text.encode())


def test_the_cache_is_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(bytebpe, "LARGEST_CACHE", 5)
    monkeypatch.setattr(tokenizer, "_cache", {})
    text = " ".join(map(str, range(100))) + " " + "a b c d e f g h i j " + "x" * 1000
    tokenizer.encode(text)
    assert len(tokenizer._cache) == 5
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_wrong_vocabularies_are_refused(byte_bpe_json):
    vocabulary, merges, specials = parts(byte_bpe_json)
    for wrong in (
        (vocabulary, [*merges, merges[3]], specials),
        (vocabulary, [("no such", "tokens"), *merges], specials),
        ({**vocabulary, "<|im_end|>": 2000}, merges, specials),
        (vocabulary, merges, [*specials, SpecialToken("<x>", 40)]),
        (vocabulary, merges, [*specials, SpecialToken("<|im_end|>", 950)]),
        (vocabulary, merges, [*specials, SpecialToken("a", vocabulary["a"])]),  # anyone can type an a
    ):
        with pytest.raises(TinyphiError):
            build(*wrong)
