"""Make a vocabulary of Phi-3's kind from texts of one's own: byte-pair merges, byte fallback, special tokens.

Notebook 01 trains merges by hand. Here the sentencepiece package does it, with the settings in Llama 2's
`tokenizer.model`, and Phi-3's special tokens follow behind the pieces, in Phi-3's order.
"""

import io
from collections.abc import Iterable

import sentencepiece

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer import chat, modelproto
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece
from tinyphi.tokenizer.sentencepiece import SentencePieceTokenizer, phi3_special

# Ids 32000 … 32010 of Phi-3-mini.
PHI3_SPECIALS = (
    "<|endoftext|> <|assistant|> <|placeholder1|> <|placeholder2|> <|placeholder3|> <|placeholder4|> "
    "<|system|> <|end|> <|placeholder5|> <|placeholder6|> <|user|>"
).split()
_FEWEST = 3 + 256 + 1  # <unk>, <s>, </s>, the bytes, and a letter


def train_sentencepiece(texts: Iterable[str], pieces: int) -> SentencePieceTokenizer:
    """A tokenizer whose first `pieces` ids are learnt from the texts; Phi-3's special tokens come after them.

    The same texts give the same vocabulary. Digits stay single, and spaces at the start of a line may join,
    for code. A line of more than 4,192 bytes teaches nothing: sentencepiece leaves it out.
    Raises TokenizerError for fewer pieces than the bytes and letters need, or more than the texts have.
    """
    if pieces < _FEWEST:
        raise TokenizerError(f"A vocabulary of {pieces} pieces has no room for the bytes; give it {_FEWEST}.")
    written = io.BytesIO()
    lines = (line for text in texts for line in text.splitlines() if line.strip())
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=written,
            model_type="bpe",
            vocab_size=pieces,
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            character_coverage=0.9999,
            num_threads=1,  # with several, the order of equal merges could change
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TokenizerError(
            f"No vocabulary of {pieces} pieces can be made of these texts; try another number. ({error})"
        ) from error
    learnt = modelproto.read_model(written.getvalue(), "the new vocabulary")
    everything = learnt + [VocabularyPiece(text, 0.0, PieceType.CONTROL) for text in PHI3_SPECIALS]
    places = {piece.text: id for id, piece in enumerate(everything)}
    style = chat.STYLES["phi-3-mini"]
    names = ("<unk>", "<s>", "</s>", *PHI3_SPECIALS)
    return SentencePieceTokenizer(
        everything,
        [phi3_special(text, places[text], style.name) for text in names],
        bos_id=places["<s>"],
        eos_id=places["<|endoftext|>"],
        pad_id=places["<|endoftext|>"],
        chat_template=style.jinja,
    )
