"""Text ↔ token ids.

Three kinds of tokenizer share one interface, `Tokenizer` (base.py):

- `SentencePieceTokenizer` (sentencepiece.py): Phi-3's own; the merging is done by the sentencepiece package,
  the special tokens and their whitespace rules by us.
- `ByteBPETokenizer` (bytebpe.py): byte-level BPE written from scratch; SmolLM2's;
- `TiktokenTokenizer` (tiktoken.py): the same with another vocabulary and other words; Phi-3-small's.

`from_directory(path)` and `from_gguf(metadata)` (load.py) choose between them; `to_gguf` goes back. chat.py
turns a conversation into token ids. modelproto.py reads and writes `tokenizer.model`, files.py reads and
writes files with clear errors.
"""

from tinyphi.tokenizer.base import Piece, SpecialToken, StreamDecoder, Tokenizer
from tinyphi.tokenizer.bytebpe import ByteBPETokenizer
from tinyphi.tokenizer.load import from_directory, from_gguf, to_gguf
from tinyphi.tokenizer.sentencepiece import SentencePieceTokenizer
from tinyphi.tokenizer.tiktoken import TiktokenTokenizer

__all__ = [
    "ByteBPETokenizer",
    "Piece",
    "SentencePieceTokenizer",
    "SpecialToken",
    "StreamDecoder",
    "TiktokenTokenizer",
    "Tokenizer",
    "from_directory",
    "from_gguf",
    "to_gguf",
]
