"""A Phi-3 so small that a forward pass takes a millisecond, with every part in which a trap can hide."""

import torch

from tinyphi.config import PhiConfig
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import SentencePieceTokenizer, SpecialToken
from tinyphi.tokenizer.chat import STYLES
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece
from tinyphi.tokenizer.sentencepiece import phi3_special

_WORDS = "Hello world who is there the cat sat on mat and said nothing user system assistant end".split()
_SPECIALS = "<|endoftext|> <|assistant|> <|system|> <|end|> <|user|>".split()


def miniature(dtype: torch.dtype = torch.float32, april: bool = False) -> tuple[Phi3, SentencePieceTokenizer]:
    """A model with random weights, always the same, and a tokenizer with Phi-3's rules.

    Six query heads share two key/value heads; a token sees the nearest 12 tokens; LongRoPE changes its
    factors after 16. The weights are larger than at the start of training, so that mistakes show.
    april: the tokenizer follows the release of April 2024, which puts BOS first and swallows no line breaks.
    """
    tokenizer = _tokenizer(april)
    config = PhiConfig(
        vocab_size=512,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        sliding_window=12,
        max_position_embeddings=1024,
        original_max_position_embeddings=16,
        short_factor=(1.0, 1.1, 1.3, 1.5),
        long_factor=(1.0, 2.0, 4.0, 8.0),
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    model = Phi3(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((1.0 if "norm" in name else 0.0) + noise)
    return model.to(dtype), tokenizer


def _tokenizer(april: bool) -> SentencePieceTokenizer:
    style = STYLES["phi-3-april-2024" if april else "phi-3-mini"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted(set("".join(_WORDS)))
    words = [f"▁{word}" for word in _WORDS] + _WORDS
    beginnings = [word[:length] for word in words for length in range(2, len(word) + 1)]
    texts += ["▁", *letters, *dict.fromkeys(beginnings)]  # "▁Hello" is "▁H" and "e", and "l", …
    ids = {text: number for number, text in enumerate([*texts, *_SPECIALS])}
    specials = [phi3_special(text, ids[text], style.name) for text in ("<unk>", "<s>", "</s>", *_SPECIALS)]
    return SentencePieceTokenizer(
        [_piece(text, number, specials) for text, number in ids.items()],
        specials,
        bos_id=1,
        eos_id=ids["<|endoftext|>"],
        pad_id=ids["<|endoftext|>"],
        adds_bos=april,
        chat_template=style.jinja,
    )


def _piece(text: str, number: int, specials: list[SpecialToken]) -> VocabularyPiece:
    kind = PieceType.NORMAL
    if text == "<unk>":
        kind = PieceType.UNKNOWN
    elif text in {special.text for special in specials}:
        kind = PieceType.CONTROL
    elif text.startswith("<0x"):
        kind = PieceType.BYTE
    return VocabularyPiece(text, -float(number), kind)
