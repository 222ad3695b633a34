"""Phi-3-small's tokenizer against a slow version of tiktoken's rule, `tokenizers`, and the published ids."""

import base64
import json
import shutil
from itertools import pairwise

import pytest
import regex
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer import TiktokenTokenizer, from_directory, tiktoken, to_gguf
from tinyphi.tokenizer.bytebpe import LETTER_TO_BYTE

# tiktoken's own pattern, of version 0.14, with its possessive quantifiers.
PATTERN = regex.compile(
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)


@pytest.fixture(scope="module")
def ranks(strings):
    """A small vocabulary, bytes → id, trained by `tokenizers` on words of the same kind."""
    trained = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(tiktoken.PATTERN), "isolated")
    trained.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(strings(3000, 5), trainer)
    return {
        bytes(LETTER_TO_BYTE[letter] for letter in token): id for token, id in trained.get_vocab().items()
    }


@pytest.fixture(scope="module")
def folder(ranks, tmp_path_factory):
    path = tmp_path_factory.mktemp("small")
    lines = [b"%s %d\n" % (base64.b64encode(token), id) for token, id in ranks.items()]
    (path / "cl100k_base.tiktoken").write_bytes(b"".join(lines))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return from_directory(folder)


def slow(ranks, text):
    """Merge the neighbours of the smallest rank, again and again."""
    ids = []
    for word in PATTERN.findall(text):
        parts = [bytes([byte]) for byte in word.encode()]
        if word.encode() in ranks:
            parts = [word.encode()]
        while True:
            pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
            if not pairs or min(pairs) == len(ranks):
                break
            place = pairs.index(min(pairs))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def test_equals_the_slow_version(tokenizer, ranks, strings):
    for text in [*strings(5000, 21), "aaaaaaa", " " * 9, "123456 7", "x\n \n", "I'LL you'Re"]:
        assert tokenizer.encode(text) == slow(ranks, text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "mistake", [r"\p{N}{1,3}", r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+|"]
)
def test_a_wrong_pattern_is_noticed(tokenizer, ranks, strings, monkeypatch, mistake):
    assert mistake in tiktoken.PATTERN
    shorter = mistake.replace("{1,3}", "").replace(r"[^\r\n\p{L}\p{N}]?", "").replace(r"[\r\n]*", "")
    wrong = tiktoken.PATTERN.replace(mistake, "" if shorter == mistake else shorter)
    monkeypatch.setattr(tiktoken, "_WORD", regex.compile(wrong))
    monkeypatch.setattr(tokenizer, "_cache", {})
    assert any(tokenizer.encode(text) != slow(ranks, text) for text in strings(500, 22))


def test_merges_in_another_order_are_noticed(ranks, tokenizer, strings):
    vocabulary = dict(tokenizer._vocabulary)
    first, second = sorted(vocabulary, key=vocabulary.get)[256:258]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    wrong = TiktokenTokenizer(vocabulary, [], bos_id=None, eos_id=None, pad_id=None)
    assert any(wrong.encode(text) != slow(ranks, text) for text in strings(500, 23))


def test_the_saved_file_is_that_of_the_library(tokenizer, tmp_path, strings, differing):
    tokenizer.save(tmp_path)
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [*strings(5000, 24), "<|user|>\nHi<|end|>", "<|endofprompt|> x", "<|fim_prefix|>"]
    assert differing(tokenizer, reference, texts) == []
    again = from_directory(tmp_path)
    assert isinstance(again, TiktokenTokenizer)
    assert again.special_tokens == tokenizer.special_tokens
    assert (again.bos_id, again.stop_ids, again.chat_template) == (
        tokenizer.bos_id, tokenizer.stop_ids, tokenizer.chat_template,
    )  # fmt: skip
    assert [again.encode(text, allow_special=True) for text in texts] == [
        tokenizer.encode(text, allow_special=True) for text in texts
    ]


def test_special_tokens_and_chat(tokenizer):
    assert tokenizer.bos_id == tokenizer.eos_id == 100257
    assert tokenizer.stop_ids == (100257, 100263, 100266)
    assert 100266 not in tokenizer.encode("<|end|>")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u <|end|>"}]
    ids = tokenizer.encode_chat(messages)
    line = tokenizer.encode("\n")
    assert ids[:2] == [100257, 100261] and ids[-2:] == [100263, *line]
    assert ids.count(100266) == 2
    assert tokenizer.encode_chat(messages, add_generation_prompt=False)[-1] == 100257
    text = "<|endoftext|><|system|>\ns<|end|>\n<|user|>\nu <|end|><|end|>\n<|assistant|>\n"
    assert tokenizer.decode(ids, skip_special=False) == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"IQ== 0\nI 1\n", "line 2"),
        (b"IQ==\n", "line 1"),
        (b"IQ== x\n", "line 1"),
        (b"IQ== 0 1\n", "two ids"),
        (b"IQ== 0\nIQ== 1\n", "second time"),
        (b"IQ== 0\nIg== 0\n", "two tokens"),
        (b"IQ== -1\n", "ids are between"),
        (b"IQ== 99999999999\n", "ids are between"),
        (b"\xff\xfe 0\n", "base64"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, words):
    (tmp_path / "cl100k_base.tiktoken").write_bytes(content)
    with pytest.raises(TokenizerError, match=words):
        from_directory(tmp_path)


def test_gguf_has_no_place_for_it(tokenizer):
    with pytest.raises(TokenizerError, match="Phi-3-small"):
        to_gguf(tokenizer, 100352)


def test_the_published_vocabulary(shared, tmp_path):
    golden = json.loads((shared / "golden/tokenizer_phi3_small.json").read_text(encoding="utf-8"))
    shutil.copy(shared / "tokenizer/phi-3-small/cl100k_base.tiktoken", tmp_path)
    config = dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>")
    config["chat_template"] = golden["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = from_directory(tmp_path)
    for case in golden["encode"]:
        assert tokenizer.encode(case["text"], allow_special=True) == case["ids"], case["text"]
    for case in golden["chat"]:
        assert tokenizer.encode_chat(case["messages"], case["add_generation_prompt"]) == case["ids"]
