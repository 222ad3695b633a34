"""One's own vocabularies: the same each time, ids as sentencepiece's and transformers', Phi-3's tokens."""

import io
import random

import pytest
import sentencepiece
import transformers
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer import from_directory
from tinyphi.tokenizer.chat import STYLES
from tinyphi.tokenizer.train import PHI3_SPECIALS, train_sentencepiece

PIECES = 600
TEXT = """Ada is a baker and lives in Millbrook. Every morning she feeds her dog, and the dog barks.
27 + 15: 27 + 10 = 37, 37 + 5 = 42. "Thank you!" said Ben.
def double(x):
    return x * 2

if x > 10:
        print(x)
"""


def texts(count=400):
    """Words of the text in new orders, and its lines as they are."""
    generator = random.Random(0)
    words = TEXT.split()
    mixed = [" ".join(generator.choices(words, k=12)) for _ in range(count)]
    return [
        *mixed,
        *[TEXT] * 20,
        "".join(f"{generator.choice('éüß')}{generator.choice(words)} " for _ in range(90)),
    ]


@pytest.fixture(scope="module")
def tokenizer():
    return train_sentencepiece(texts(), PIECES)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    tokenizer.save(folder)
    return folder


def model_of(tokenizer, folder):
    tokenizer.save(folder)
    return (folder / "tokenizer.model").read_bytes(), (folder / "tokenizer.json").read_bytes()


def test_the_same_texts_give_the_same_vocabulary(tokenizer, tmp_path):
    same = train_sentencepiece(iter(texts()), PIECES)
    other = train_sentencepiece(texts(390), PIECES)
    first, again, changed = (
        model_of(one, tmp_path / str(place)) for place, one in enumerate((tokenizer, same, other))
    )
    assert first == again and first != changed


def test_the_settings_are_those_of_llama(tokenizer):
    """Pieces as sentencepiece itself learns them, with digits apart and spaces that join."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts() for line in text.splitlines() if line.strip()]),
        model_writer=written,
        model_type="bpe",
        vocab_size=PIECES,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.9999,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [theirs.id_to_piece(id) for id in range(theirs.get_piece_size())]
    assert [piece.text for piece in tokenizer._pieces[:PIECES]] == pieces
    assert pieces[:3] == ["<unk>", "<s>", "</s>"] and pieces[3:259] == [
        f"<0x{byte:02X}>" for byte in range(256)
    ]
    learnt = pieces[259:]
    assert all(piece.isdigit() is False or len(piece) == 1 for piece in learnt) and "2" in learnt
    assert any(len(piece) > 1 and not piece.strip("▁") for piece in learnt)
    for text in [*texts(50), " é 🦙\n", "", "  two  spaces", "\ttab"]:
        assert tokenizer.encode(text) == theirs.encode(text)


def test_special_tokens_follow_the_pieces(tokenizer):
    assert tokenizer.vocab_size == PIECES + 11
    expected = {"<unk>": 0, "<s>": 1, "</s>": 2} | {text: PIECES + n for n, text in enumerate(PHI3_SPECIALS)}
    for text, id in expected.items():
        assert tokenizer.encode(text, allow_special=True) == [id]
        assert id not in tokenizer.encode(text)  # typed, it is plain text
    # Phi-3-mini has them from 32000.
    ids = {"<|endoftext|>": 0, "<|assistant|>": 1, "<|system|>": 6, "<|end|>": 7, "<|user|>": 10}
    assert {text: PHI3_SPECIALS.index(text) for text in ids} == ids
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, PIECES, PIECES)
    assert {PIECES, PIECES + 7} <= {*tokenizer.stop_ids}
    assert tokenizer.chat_template == STYLES["phi-3-mini"].jinja


def test_the_whitespace_rules_of_phi3(tokenizer):
    hello = tokenizer.encode("Ada")
    for text in PHI3_SPECIALS[1:]:
        for space in ("", " ", "\n", " \n\n "):
            ids = tokenizer.encode(f"{text}{space}Ada", allow_special=True)
            assert ids == [PIECES + PHI3_SPECIALS.index(text), *hello]
    for text in ("<|endoftext|>", "<s>"):  # these swallow nothing
        ids = tokenizer.encode(f"{text}\nAda", allow_special=True)
        assert len(ids) > len(hello) + 1 and ids[1:] == tokenizer.encode("\nAda")
    chat = tokenizer.encode_chat([{"role": "user", "content": "Ada"}])
    assert chat == [PIECES + 10, *hello, PIECES + 7, PIECES + 1]


@pytest.mark.parametrize("model_type", [None, "phi3"])
def test_transformers_reads_it_the_same(tokenizer, saved, model_type, tmp_path):
    if model_type:
        tokenizer.save(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "phi3"}')
    folder = tmp_path if model_type else saved
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, PIECES, PIECES)
    strings = [*texts(60), TEXT, "<|user|>\nAda<|end|>\n<|assistant|>  barks</s> \n x", "é 🦙", "  a  b"]
    for text in strings:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.encode(text, allow_special=True) == ids, text
        assert tokenizer.decode(ids, skip_special=False) == theirs.decode(
            ids, clean_up_tokenization_spaces=False
        )
    chat = [{"role": "user", "content": "Who is Ada?"}, {"role": "assistant", "content": "A baker."}] * 2
    for count, prompts in ((1, True), (3, True), (4, False)):
        ids = theirs.apply_chat_template(chat[:count], add_generation_prompt=prompts, return_dict=False)
        assert tokenizer.encode_chat(chat[:count], prompts) == ids


def test_a_planted_mistake_is_noticed(tokenizer, saved, tmp_path):
    """Were "<|user|>" to keep the line break after it, transformers would give other ids."""
    config = (saved / "tokenizer.json").read_text(encoding="utf-8")
    for file in ("tokenizer.model", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((saved / file).read_bytes())
    (tmp_path / "tokenizer.json").write_text(config.replace('"rstrip": true', '"rstrip": false'), "utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = "<|user|>\nAda"
    assert theirs(text)["input_ids"] != tokenizer.encode(text, allow_special=True)


def test_it_is_read_back(tokenizer, saved):
    back = from_directory(saved)
    for text in [*texts(50), "<|user|>\nAda<|end|>"]:
        assert back.encode(text, allow_special=True) == tokenizer.encode(text, allow_special=True)


@given(some.text(some.characters(exclude_categories=["Cs"], exclude_characters="▁\0"), max_size=60))
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("pieces", [-1, 0, 3, 259])
def test_no_room_for_the_bytes(pieces):
    with pytest.raises(TokenizerError, match=f"of {pieces} pieces has no room for the bytes; give it 260"):
        train_sentencepiece(texts(), pieces)


@pytest.mark.parametrize(
    ("made_of", "pieces", "reason"),
    [
        (texts(), 262, "Vocabulary size is smaller than required_chars"),
        (["one two"], 5000, "Vocabulary size too high"),
        ([], 300, "sentences_.empty"),
        (["", " \n "], 300, "sentences_.empty"),
    ],
)
def test_texts_that_do_not_fit(made_of, pieces, reason):
    with pytest.raises(
        TokenizerError, match=rf"No vocabulary of {pieces} pieces .* another number\. .*{reason}"
    ):
        train_sentencepiece(made_of, pieces)


def test_the_fewest_pieces():
    least = train_sentencepiece(["a a a"], 261)  # the bytes, "a" and the space
    assert least.vocab_size == 272 and least.decode(least.encode("a bé")) == "a bé"
