"""What the tokenizer tests share: vocabularies trained here, varied strings, the reference libraries."""

import io
import json
import random
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tinyphi import TinyphiError
from tinyphi.tokenizer import from_gguf

PHI3_SPECIALS = (
    "<|endoftext|> <|assistant|> <|placeholder1|> <|placeholder2|> <|placeholder3|> <|placeholder4|> "
    "<|system|> <|end|> <|placeholder5|> <|placeholder6|> <|user|>"
).split()

# Assigned since Unicode 3.2, so that every library's tables agree on them; and emoji, which are younger.
OLD_CHARACTERS = [
    chr(point)
    for point in range(0x30000)
    if unicodedata.ucd_3_2_0.category(chr(point)) not in ("Cn", "Cs", "Co")
]
EMOJI = ["🦙", "🚀", "😶‍🌫️", "👩🏽‍🚀", "✅", "🇩🇪"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", " " * 9, "▁"]
CODE = [
    "def f(x_1):\n    return x_1**2\n",
    "if (a != b) { i++; }",
    "<div class='x'>&amp;</div>",
    "0x1F\t#!/bin/sh",
]
ENDINGS = ["I'm", "you're", "it's", "'D", "they'll", "' s", "''ve", "don't", "x'", "'tis"]
SPECIALS = [*PHI3_SPECIALS, "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|end", "|>", "<0x41>"]


def words(generator: random.Random) -> str:
    """A made-up word."""
    syllables = "ba ke lo mi nu ra si to ve zu the ing er an str é ü ß жа мо 的 我".split()
    return "".join(generator.choices(syllables, k=generator.randint(1, 4)))


def varied_strings(count: int, seed: int = 0) -> list[str]:
    """Text, whitespace, code, digits, emoji, rare characters, special tokens and long words, mixed."""
    generator = random.Random(seed)
    kinds: list[Callable[[], str]] = [
        lambda: " ".join(words(generator) for _ in range(5)),
        lambda: generator.choice(SPACES),
        lambda: generator.choice(CODE),
        lambda: generator.choice(ENDINGS),
        lambda: generator.choice(EMOJI),
        lambda: generator.choice(SPECIALS),
        lambda: str(generator.randint(0, 10**9)),
        lambda: "".join(generator.choices(OLD_CHARACTERS, k=3)),
        lambda: words(generator) * generator.randint(5, 30),
        lambda: generator.choice(["", " ", "!", "½", "٣", "Ⅷ", "...", "==="]),
    ]
    return ["".join(generator.choice(kinds)() for _ in range(generator.randint(1, 8))) for _ in range(count)]


def corpus() -> list[str]:
    generator = random.Random(7)
    lines = [" ".join(words(generator) for _ in range(12)) for _ in range(1500)]
    return (
        lines
        + (CODE + ENDINGS + ["    x = 1\n\n", "two  spaces   and more        here", "user assistant"]) * 30
    )


@pytest.fixture(scope="session")
def shared() -> Path:
    """Published tokenizers and golden ids, which are not part of the product."""
    path = Path(__file__).parents[2] / "../shared"
    if not (path / "golden/tokenizer_phi3.json").is_file():
        pytest.skip("the golden tokenizer files are not on this machine")
    return path


@pytest.fixture(scope="session")
def golden(shared: Path) -> Any:
    return json.loads((shared / "golden/tokenizer_phi3.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def sentencepiece_model() -> bytes:
    """A small `tokenizer.model` with Llama's settings."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        character_coverage=0.995,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def added_tokens(first_id: int, release: str = "phi-3-mini") -> list[dict[str, Any]]:
    """Phi-3's added tokens as in its tokenizer_config.json, with the ids moved to `first_id`…"""
    april = release == "phi-3-april-2024"
    entries = [("<unk>", 0), ("<s>", 1), ("</s>", 2)]
    entries += [(text, first_id + number) for number, text in enumerate(PHI3_SPECIALS)]
    return [
        {
            "id": id,
            "content": text,
            "lstrip": False,
            "rstrip": not april and text not in ("<unk>", "<s>", "<|endoftext|>"),
            "normalized": False,
            "single_word": False,
            "special": april or text != "</s>",
        }
        for text, id in entries
    ]


def phi3_reference(model: bytes, added: Sequence[dict[str, Any]]) -> Tokenizer:
    """The library `tokenizers` set up as Phi-3's tokenizer.json sets it up."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    merges = []
    for piece in sorted(pieces[259:], key=lambda piece: -processor.get_score(vocabulary[piece])):
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        splits = [split for split in splits if split[0] in vocabulary and split[1] in vocabulary]
        merges += sorted(splits, key=lambda split: (vocabulary[split[0]], vocabulary[split[1]]))
    reference = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    reference.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    reference.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    add_to(reference, added)
    return reference


def add_to(reference: Tokenizer, added: Sequence[dict[str, Any]]) -> None:
    for entry in added:
        options = {key: value for key, value in entry.items() if key not in ("id", "content")}
        reference.add_tokens([AddedToken(entry["content"], **options)])
        assert reference.token_to_id(entry["content"]) == entry["id"]


def byte_bpe_reference(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], specials: list[str]
) -> Tokenizer:
    """The library `tokenizers` set up as SmolLM2's tokenizer.json sets it up."""
    reference = Tokenizer(models.BPE(vocabulary, merges))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    reference.decoder = decoders.ByteLevel()
    reference.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials])
    return reference


@pytest.fixture(scope="session")
def byte_bpe_json() -> dict[str, Any]:
    """The tokenizer.json of a small byte-level BPE, trained by `tokenizers`."""
    trained = byte_bpe_reference({}, [], [])
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(corpus(), trainer)
    content: dict[str, Any] = json.loads(trained.to_str())
    return content


@pytest.fixture(scope="session")
def smollm2_metadata() -> dict[str, Any]:
    """The metadata of SmolLM2's GGUF file, if it has been fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYPHI_OFFLINE", "1")
        try:
            from tinyphi.weights.fetch import resolve

            path = resolve("smollm2-135m")
        except (ImportError, TinyphiError) as error:
            pytest.skip(f"SmolLM2's weights have not been fetched ({error})")
    fields = gguf.GGUFReader(path).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


@pytest.fixture(scope="session")
def smollm2_reference(smollm2_metadata: dict[str, Any]) -> Tokenizer:
    tokens = smollm2_metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in smollm2_metadata["tokenizer.ggml.merges"]]
    return byte_bpe_reference({token: id for id, token in enumerate(tokens)}, merges, tokens[:17])


@pytest.fixture(scope="session")
def smollm2(smollm2_metadata: dict[str, Any]) -> Any:
    return from_gguf(smollm2_metadata)


@pytest.fixture(scope="session")
def phi3_directory(
    tmp_path_factory: pytest.TempPathFactory, sentencepiece_model: bytes
) -> Callable[..., Path]:
    """Makes a directory with tokenizer.model and tokenizer_config.json, as the published ones."""

    def make(release: str = "phi-3-mini", adds_bos: bool = False, chat_template: str | None = None) -> Path:
        folder = tmp_path_factory.mktemp(release)
        (folder / "tokenizer.model").write_bytes(sentencepiece_model)
        config = {
            "add_bos_token": adds_bos,
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
            "chat_template": chat_template,
            "added_tokens_decoder": {
                str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
                for entry in added_tokens(700, release)
            },
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def make_phi3_reference(sentencepiece_model: bytes) -> Callable[[str], Tokenizer]:
    return lambda release: phi3_reference(sentencepiece_model, added_tokens(700, release))


def differences(mine: Any, reference: tokenizers.Tokenizer, texts: Sequence[str]) -> list[str]:
    """The texts that the two encode differently, special tokens in the text included."""
    return [
        text
        for text in texts
        if mine.encode(text, allow_special=True) != reference.encode(text, add_special_tokens=False).ids
    ]


@pytest.fixture(scope="session")
def differing() -> Callable[[Any, Tokenizer, Sequence[str]], list[str]]:
    return differences


@pytest.fixture(scope="session")
def strings() -> Callable[[int, int], list[str]]:
    return varied_strings


@pytest.fixture(scope="session")
def characters() -> list[str]:
    return OLD_CHARACTERS + EMOJI + SPACES
