"""From a directory, or from the metadata of a GGUF file, to the right kind of tokenizer, and back to GGUF."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyphi.errors import TokenizerError
from tinyphi.tokenizer import chat, modelproto
from tinyphi.tokenizer.base import SpecialToken, Tokenizer
from tinyphi.tokenizer.bytebpe import ByteBPETokenizer
from tinyphi.tokenizer.files import (
    FETCH_AGAIN,
    checked,
    checked_id,
    checked_vocabulary,
    field,
    merge_pairs,
    read_bytes,
    read_json,
)
from tinyphi.tokenizer.modelproto import PieceType, VocabularyPiece
from tinyphi.tokenizer.sentencepiece import (
    DECODER,
    NORMALIZER,
    SentencePieceTokenizer,
    phi3_special,
    pieces_from_merges,
)
from tinyphi.tokenizer.tiktoken import PRE_TOKENIZERS, SPECIALS, TiktokenTokenizer, read_ranks


@dataclass(frozen=True)
class Settings:
    """What the files say besides the vocabulary; names: "bos" → "<s>", "eos" → …, "pad" → …"""

    names: Mapping[str, str]
    adds_bos: bool
    chat_template: str | None

    def for_tokenizer(self, specials: Iterable[SpecialToken]) -> dict[str, Any]:
        """The keyword arguments that both kinds of tokenizer share."""
        id_of = {special.text: special.id for special in specials}
        ids = {f"{name}_id": id_of.get(self.names.get(name, "")) for name in ("bos", "eos", "pad")}
        return ids | {"adds_bos": self.adds_bos, "chat_template": self.chat_template}


PHI3_NAMES = {"bos": "<s>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"}
SMOLLM2_NAMES = {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|im_end|>"}


SMALL_SETTINGS = Settings(
    dict.fromkeys(("bos", "eos", "pad"), "<|endoftext|>"),
    adds_bos=False,
    chat_template=chat.STYLES["phi-3-small"].jinja,
)


def from_directory(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer in a Hugging Face directory.

    Reads tokenizer.json if it is there (as transformers does), else tokenizer.model with
    tokenizer_config.json or added_tokens.json, or a .tiktoken file. Without tokenizer_config.json, what is
    known of Phi-3 and SmolLM2 fills the gaps; Phi-3-mini, 3.5-mini and medium then count as Phi-3-mini. The
    merges of a tokenizer.json of Phi-3-small are not read: they follow from the ids of the vocabulary.
    Errors: TokenizerError that names the file and what to do, for missing or damaged files and for tokenizers
    of other kinds than those of Phi-3-mini, Phi-3-small and SmolLM2.
    """
    folder = Path(path)
    ranks = min((file.name for file in folder.glob("*.tiktoken")), default="cl100k_base.tiktoken")
    for name, read in (
        ("tokenizer.json", _from_tokenizer_json),
        ("tokenizer.model", _from_tokenizer_model),
        (ranks, _from_tiktoken),
    ):
        file = folder / name
        if file.is_file():
            try:
                return read(folder, file)
            except TokenizerError as error:
                if str(folder) in str(error):
                    raise
                raise TokenizerError(f"{file}: {error}") from error
    if not folder.is_dir():
        raise TokenizerError(f"{folder} is not a directory. Give the directory that holds tokenizer.json.")
    raise TokenizerError(
        f"{folder} holds no tokenizer.json, tokenizer.model or .tiktoken file. Fetch the model again."
    )


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in the metadata of a GGUF file: key → plain Python value (lists, not arrays).

    GGUF does not say which special tokens swallow whitespace; for Phi-3 that is known (`phi3_special`), and
    the chat template tells the releases apart.
    Errors: TokenizerError for missing or wrong keys and for other kinds of tokenizer.
    """
    where = "The GGUF file's metadata"
    kind, words = field(metadata, "tokenizer.ggml.model", str, where), metadata.get("tokenizer.ggml.pre")
    if kind == "llama":
        return _sentencepiece_from_gguf(metadata, where)
    if kind == "gpt2" and words == "smollm":
        return _byte_bpe_from_gguf(metadata, where)
    raise TokenizerError(
        f"{where} describes a tokenizer of the kind {kind!r} with words {words!r}. tinyphi reads 'llama' "
        "(Phi-3) and 'gpt2' with words 'smollm' (SmolLM2). Use one of those models."
    )


def to_gguf(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """The entries of a GGUF file's metadata from which `from_gguf` makes this tokenizer again.

    rows: of the model's embedding. llama.cpp wants a token for each, so unused ones fill up the list.
    Errors: TokenizerError if the tokenizer has more tokens than that, or special tokens that GGUF cannot
    describe, since it has no field for the whitespace that they swallow.
    """
    if tokenizer.vocab_size > rows:
        raise TokenizerError(
            f"The tokenizer has ids up to {tokenizer.vocab_size - 1}, but the model has only {rows} rows for "
            "them. Export a model with the tokenizer that it was loaded with."
        )
    entries = tokenizer._gguf_vocabulary()
    unused = range(len(entries["tokenizer.ggml.tokens"]), rows)
    entries["tokenizer.ggml.tokens"] += [f"[PAD{id}]" for id in unused]
    entries["tokenizer.ggml.token_type"] += [PieceType.UNUSED for _ in unused]
    if "tokenizer.ggml.scores" in entries:
        entries["tokenizer.ggml.scores"] += [-1000.0 for _ in unused]
    for name, id in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id), ("padding", tokenizer.pad_id)):
        if id is not None:
            entries[f"tokenizer.ggml.{name}_token_id"] = id
    entries["tokenizer.ggml.add_bos_token"] = tokenizer.adds_bos
    if tokenizer.chat_template is not None:
        entries["tokenizer.chat_template"] = tokenizer.chat_template
    _check_specials(tokenizer, from_gguf(entries))
    return entries


def _check_specials(written: Tokenizer, read: Tokenizer) -> None:
    """Raise TokenizerError unless the tokenizer that will be read has the special tokens of the other."""
    different = written._special_by_id.items() ^ read._special_by_id.items()
    if different:
        names = ", ".join(sorted({special.text for _, special in different}))
        raise TokenizerError(
            f"GGUF has no field for the whitespace rules of {names}. They are known for Phi-3's releases, "
            "which the chat template tells apart, but this tokenizer's are others. Load it with the chat "
            "template of its release."
        )


# Hugging Face directories


def _from_tokenizer_json(folder: Path, file: Path) -> Tokenizer:
    content, where = read_json(file), str(file)
    model = field(content, "model", dict, where)
    small = _is_phi3_small(content, model)
    if not (small or _is_sentencepiece(content, model) or _is_smollm2(content, model)):
        raise TokenizerError(
            f"{where} describes a tokenizer that tinyphi does not know. It reads three kinds: Phi-3's (BPE "
            "with byte fallback, '▁' put before every stretch of text), SmolLM2's (byte-level BPE, digits "
            "one by one) and Phi-3-small's (byte-level BPE, words as in cl100k_base). If the directory has a "
            "tokenizer.model as well, move tokenizer.json away."
        )
    added = [_special(entry, where) for entry in checked(content.get("added_tokens", []), list, where)]
    vocabulary = checked_vocabulary(field(model, "vocab", dict, where), where)
    merges = merge_pairs(field(model, "merges", list, where), where)
    settings = _settings(folder, _read_config(folder), _known_settings(added))
    start = _put_at_start(content.get("post_processor"), where)
    if start not in (None, settings.names.get("bos")):
        raise TokenizerError(
            f"{where} starts every text with {start!r}, which is not its BOS token. {FETCH_AGAIN}"
        )
    # transformers, too, listens to tokenizer.json here and not to add_bos_token.
    common = settings.for_tokenizer(added) | {"adds_bos": start is not None}
    if small:
        return TiktokenTokenizer(vocabulary, added, **common)
    if _is_smollm2(content, model):
        return ByteBPETokenizer(vocabulary, merges, added, **common)
    return SentencePieceTokenizer(pieces_from_merges(vocabulary, merges, added, where), added, **common)


def _from_tokenizer_model(folder: Path, file: Path) -> Tokenizer:
    pieces = modelproto.read_model(read_bytes(file), str(file))
    config = _read_config(folder)
    style = chat.STYLES["phi-3-mini"]
    settings = _settings(folder, config, Settings(PHI3_NAMES, adds_bos=False, chat_template=style.jinja))
    style_name = chat.name_of(settings.chat_template)
    in_model = {piece.text: id for id, piece in enumerate(pieces) if piece.type in _SPECIAL_TYPES}
    specials = {text: phi3_special(text, id, style_name) for text, id in in_model.items()}
    added = _added_tokens(folder, config, style_name)
    if not added:
        raise TokenizerError(
            f"{file} holds only the ordinary pieces, and no file beside it lists the special tokens. Put "
            "the model's tokenizer_config.json or added_tokens.json into the directory."
        )
    specials |= added
    for special in sorted(added.values(), key=lambda special: special.id):
        if special.id > len(pieces):
            raise TokenizerError(
                f"The ids of the special tokens in {folder} have a gap before {special.text!r} "
                f"({special.id}). {FETCH_AGAIN}"
            )
        if special.id == len(pieces):
            pieces.append(VocabularyPiece(special.text, 0.0, PieceType.CONTROL))
    ordered = list(specials.values())
    return SentencePieceTokenizer(pieces, ordered, **settings.for_tokenizer(ordered))


def _from_tiktoken(folder: Path, file: Path) -> Tokenizer:
    specials = [SpecialToken(text, id) for text, id in SPECIALS.items()]
    settings = _settings(folder, _read_config(folder), SMALL_SETTINGS)
    return TiktokenTokenizer(read_ranks(file), specials, **settings.for_tokenizer(specials))


_SPECIAL_TYPES = {PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED}


def _added_tokens(
    folder: Path, config: Mapping[str, Any] | None, style_name: str | None
) -> dict[str, SpecialToken]:
    """Special tokens listed beside a tokenizer.model; tokenizer_config.json knows more than
    added_tokens.json."""
    listed, described = folder / "added_tokens.json", folder / "tokenizer_config.json"
    found = {}
    if listed.is_file():
        for text, id in checked_vocabulary(read_json(listed), str(listed)).items():
            found[text] = phi3_special(text, id, style_name)
    if config is not None and "added_tokens_decoder" in config:
        for key, entry in field(config, "added_tokens_decoder", dict, str(described)).items():
            id = int(key) if key.isascii() and key.isdigit() else key
            special = _special({"id": id} | checked(entry, dict, f"{described}: {key!r}"), str(described))
            found[special.text] = special
    return found


def _read_config(folder: Path) -> dict[str, Any] | None:
    main, companion = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    if not main.is_file():
        return None
    return (read_json(companion) if companion.is_file() else {}) | read_json(main)


def _settings(folder: Path, config: Mapping[str, Any] | None, known: Settings) -> Settings:
    if config is None:
        return known
    where = str(folder / "tokenizer_config.json")
    names = {}
    for name in ("bos", "eos", "pad"):
        value = config.get(f"{name}_token")
        if isinstance(value, dict):
            value = value.get("content")
        if value is not None:
            names[name] = checked(value, str, f"{where}: '{name}_token'")
    adds_bos = checked(config.get("add_bos_token") or False, bool, f"{where}: 'add_bos_token'")
    return Settings(names, adds_bos, _chat_template(folder, config.get("chat_template"), where))


def _chat_template(folder: Path, template: object, where: str) -> str | None:
    """The template's text: a string, the one called "default" of a list, or the file chat_template.jinja."""
    file = folder / "chat_template.jinja"
    if template is None and file.is_file():
        return read_bytes(file).decode("utf-8", errors="replace")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return None if template is None else checked(template, str, f"{where}: 'chat_template'")


def _known_settings(specials: Iterable[SpecialToken]) -> Settings:
    """For a tokenizer.json alone: what is known of the model whose special tokens these are."""
    by_text = {special.text: special for special in specials}
    if "<|endofprompt|>" in by_text:
        return SMALL_SETTINGS
    if "<|im_start|>" in by_text:
        return Settings(SMOLLM2_NAMES, adds_bos=False, chat_template=chat.STYLES["smollm2"].jinja)
    if "<|assistant|>" not in by_text or "<|end|>" not in by_text:
        return Settings({}, adds_bos=False, chat_template=None)
    name = "phi-3-mini"
    if not by_text["<|end|>"].swallows_space:
        name = "phi-3-vision" if by_text["<|assistant|>"].swallows_space else "phi-3-april-2024"
    return Settings(PHI3_NAMES, adds_bos=False, chat_template=chat.STYLES[name].jinja)


def _special(entry: object, where: str) -> SpecialToken:
    """An entry of `added_tokens` or `added_tokens_decoder`."""
    fields = checked(entry, dict, f"{where}: an added token")
    text = field(fields, "content", str, where)
    here = f"{where}: the added token {text!r}"
    flag = {
        name: checked(fields.get(name, False), bool, f"{here}, {name!r}")
        for name in ("lstrip", "rstrip", "single_word", "special")
    }
    if not text or flag["lstrip"] or flag["single_word"]:
        raise TokenizerError(f"{here} is empty or has lstrip or single_word, which tinyphi does not support.")
    return SpecialToken(text, checked_id(fields.get("id"), here), flag["rstrip"], flag["special"])


def _put_at_start(rule: object, where: str) -> str | None:
    """The special token that a tokenizer.json's post-processor puts before the text, or None."""
    if rule is None:
        return None
    content = checked(rule, dict, f"{where}: 'post_processor'")
    if content.get("type") == "ByteLevel":
        return None  # it only adjusts offsets
    match content.get("single"):
        case [{"Sequence": _}]:
            return None
        case [{"SpecialToken": {"id": str(token)}}, {"Sequence": _}]:
            return token
    raise TokenizerError(
        f"{where}: 'post_processor' does more than put a BOS token first, which tinyphi cannot do."
    )


def _is_sentencepiece(content: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    return (
        model.get("type") == "BPE"
        and model.get("byte_fallback") is True
        and content.get("normalizer") == NORMALIZER
        and content.get("pre_tokenizer") is None
        and content.get("decoder") == DECODER
        and not (model.get("dropout") or model.get("ignore_merges"))
    )


def _is_phi3_small(content: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    return (
        content.get("pre_tokenizer") == {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS}
        and content.get("normalizer") is None
        and model.get("type") == "BPE"
        and model.get("ignore_merges") is True
        and not any(model.get(key) for key in ("unk_token", "byte_fallback", "dropout"))
    )


def _is_smollm2(content: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    match content.get("pre_tokenizer"):
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            ],
        }:
            return (
                model.get("type") == "BPE"
                and content.get("normalizer") is None
                and not any(
                    model.get(key) for key in ("unk_token", "byte_fallback", "dropout", "ignore_merges")
                )
            )
    return False


# GGUF


def _sentencepiece_from_gguf(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    if metadata.get("tokenizer.ggml.add_space_prefix", True) is not True:
        raise TokenizerError(
            f"{where} says that no space is put before the text, which is not Phi-3's tokenizer."
        )
    tokens, types = _gguf_tokens(metadata, where)
    scores = field(metadata, "tokenizer.ggml.scores", list, where)
    if len(scores) != len(tokens) or not all(isinstance(score, float | int) for score in scores):
        raise TokenizerError(f"{where} has {len(tokens)} tokens but not as many scores. {FETCH_AGAIN}")
    pieces = [VocabularyPiece(*entry) for entry in zip(tokens, map(float, scores), types, strict=True)]
    while pieces and pieces[-1].type == PieceType.UNUSED:  # the rows that round the vocabulary up
        pieces.pop()
    template = _gguf_template(metadata, where)
    style_name = chat.name_of(template)
    specials = [
        phi3_special(piece.text, id, style_name)
        for id, piece in enumerate(pieces)
        if piece.type in _SPECIAL_TYPES
    ]
    settings = _gguf_settings(metadata, tokens, template, where)
    return SentencePieceTokenizer(pieces, specials, **settings.for_tokenizer(specials))


def _byte_bpe_from_gguf(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    tokens, types = _gguf_tokens(metadata, where)
    used = [(token, id) for id, token in enumerate(tokens) if types[id] != PieceType.UNUSED]
    vocabulary = dict(used)
    if len(vocabulary) != len(used):
        raise TokenizerError(f"{where} has a token twice. {FETCH_AGAIN}")
    specials = [
        SpecialToken(token, id, hidden=type != PieceType.USER_DEFINED)
        for id, (token, type) in enumerate(zip(tokens, types, strict=True))
        if type in _SPECIAL_TYPES
    ]
    merges = merge_pairs(field(metadata, "tokenizer.ggml.merges", list, where), where)
    settings = _gguf_settings(metadata, tokens, _gguf_template(metadata, where), where)
    return ByteBPETokenizer(vocabulary, merges, specials, **settings.for_tokenizer(specials))


def _gguf_tokens(metadata: Mapping[str, Any], where: str) -> tuple[list[str], list[PieceType]]:
    tokens = field(metadata, "tokenizer.ggml.tokens", list, where)
    numbers = field(metadata, "tokenizer.ggml.token_type", list, where)
    if len(numbers) != len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise TokenizerError(
            f"{where} has {len(tokens)} tokens that are not all text with a type. {FETCH_AGAIN}"
        )
    try:
        return tokens, [PieceType(number) for number in numbers]
    except ValueError as error:
        raise TokenizerError(f"{where} has a token of an unknown type: {error}. {FETCH_AGAIN}") from error


def _gguf_template(metadata: Mapping[str, Any], where: str) -> str | None:
    template = metadata.get("tokenizer.chat_template")
    return None if template is None else checked(template, str, f"{where}: 'tokenizer.chat_template'")


def _gguf_settings(
    metadata: Mapping[str, Any], tokens: list[str], template: str | None, where: str
) -> Settings:
    names = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        key = f"tokenizer.ggml.{key}_token_id"
        if key in metadata:
            id = checked_id(metadata[key], f"{where}: {key!r}")
            if id >= len(tokens):
                raise TokenizerError(
                    f"{where}: {key!r} is {id}, but there are {len(tokens)} tokens. {FETCH_AGAIN}"
                )
            names[name] = tokens[id]
    key = "tokenizer.ggml.add_bos_token"
    return Settings(names, checked(metadata.get(key, False), bool, f"{where}: {key!r}"), template)
