"""Reading and writing directories and GGUF metadata: nothing is lost, and damage gets a clear error."""

import contextlib
import copy
import json
import random

import pytest
import transformers

from tinyphi import TinyphiError
from tinyphi.errors import TokenizerError
from tinyphi.tokenizer import (
    ByteBPETokenizer,
    SentencePieceTokenizer,
    SpecialToken,
    files,
    from_directory,
    from_gguf,
    to_gguf,
)
from tinyphi.tokenizer.chat import STYLES

CONVERSATION = [
    {"role": "system", "content": "ba ke"},
    {"role": "user", "content": " the\n\nlo "},
    {"role": "assistant", "content": "mi"},
    {"role": "user", "content": "zu?"},
]


@pytest.fixture(scope="module", params=["sentencepiece", "sentencepiece with BOS", "april", "byte BPE"])
def tokenizer(request, phi3_directory, byte_bpe_json, tmp_path_factory):
    if request.param == "byte BPE":
        folder = tmp_path_factory.mktemp("byte-bpe")
        write(folder / "tokenizer.json", byte_bpe_json)
        return from_directory(folder)
    release = "phi-3-april-2024" if request.param == "april" else "phi-3-mini"
    template = STYLES[release].jinja
    return from_directory(phi3_directory(release, adds_bos="BOS" in request.param, chat_template=template))


def write(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def facts(tokenizer):
    names = "vocab_size bos_id eos_id pad_id stop_ids special_tokens adds_bos chat_template".split()
    return type(tokenizer), [getattr(tokenizer, name) for name in names]


@pytest.mark.parametrize("model_type", [None, "phi3", "llama"])
def test_saved_tokenizer_opens_here_and_in_transformers(tokenizer, model_type, strings, tmp_path):
    tokenizer.save(tmp_path)
    if model_type:  # transformers picks the tokenizer's class by what config.json says, if there is one
        write(tmp_path / "config.json", {"model_type": model_type})
    back, theirs = from_directory(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert facts(back) == facts(tokenizer)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
    for text in strings(400, 31):
        ids = tokenizer.encode(text, allow_special=True)
        assert back.encode(text, allow_special=True) == ids
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == tokenizer.decode(ids, skip_special=False)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    for prompt in (True, False):
        ids = tokenizer.encode_chat(CONVERSATION, prompt)
        assert back.encode_chat(CONVERSATION, prompt) == ids
        assert (
            theirs.apply_chat_template(CONVERSATION, add_generation_prompt=prompt, return_dict=False) == ids
        )


def test_the_comparison_with_transformers_notices_a_wrong_class(phi3_directory, tmp_path):
    """Facts: without `model_type: phi3`, LlamaTokenizer puts '▁' only in front of the whole text."""
    tokenizer = from_directory(phi3_directory())
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(tmp_path / "tokenizer_config.json", config | {"tokenizer_class": "LlamaTokenizer"})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "<|user|>\nba<|end|>"
    assert theirs(text).input_ids != tokenizer.encode(text, allow_special=True)


def test_published_phi3_opens_in_transformers_after_saving(shared, golden, tmp_path):
    tokenizer = from_directory(shared / "tokenizer/phi-3-mini")
    tokenizer.save(tmp_path)
    original = json.loads((shared / "tokenizer/phi-3-mini/tokenizer.json").read_text(encoding="utf-8"))
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["model"]["merges"] == original["model"]["merges"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    back = from_directory(tmp_path)  # now from tokenizer.model
    for case in golden["variants"]["phi-3-mini"]["encode"]:
        assert theirs(case["text"]).input_ids == case["ids"]
        assert back.encode(case["text"], allow_special=True) == case["ids"]


def test_saving_leaves_no_half_files(tokenizer, tmp_path, monkeypatch):
    tokenizer.save(tmp_path / "new" / "folder")
    before = {path.name: path.read_bytes() for path in (tmp_path / "new/folder").iterdir()}
    assert all(not name.startswith(".") for name in before)
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(TokenizerError, match="No space left"):
        tokenizer.save(tmp_path / "new/folder")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new/folder").iterdir()} == before


def test_saving_into_a_file_is_refused(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenizerError, match="file"):
        tokenizer.save(tmp_path / "file")


def test_tokenizer_json_alone(phi3_directory, tmp_path):
    for release in ("phi-3-mini", "phi-3-april-2024"):
        whole = from_directory(phi3_directory(release, chat_template=STYLES[release].jinja))
        whole.save(tmp_path)
        (tmp_path / "tokenizer.model").unlink()
        (tmp_path / "tokenizer_config.json").unlink()
        alone = from_directory(tmp_path)
        assert isinstance(alone, SentencePieceTokenizer)
        assert facts(alone) == facts(whole)


def test_template_in_a_file_of_its_own_and_in_a_list(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    template = config.pop("chat_template")
    write(path, config)
    assert from_directory(tmp_path).chat_template is None
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    assert from_directory(tmp_path).chat_template == template
    named = [{"name": "tool_use", "template": "{{ x }}"}, {"name": "default", "template": template}]
    write(path, config | {"chat_template": named})
    assert from_directory(tmp_path).chat_template == template


def test_merges_may_be_lists_and_tokens_objects(tokenizer, strings, tmp_path):
    """As newer and older releases of transformers write them."""
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    write(path, content)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(tmp_path / "tokenizer_config.json", config | {"eos_token": {"content": config["eos_token"]}})
    back = from_directory(tmp_path)
    assert facts(back) == facts(tokenizer)
    assert [back.encode(text) for text in strings(50, 32)] == [
        tokenizer.encode(text) for text in strings(50, 32)
    ]


# Damage


def changed(content, *keys, to):
    """A deep copy with the value at a path of keys replaced, or, for `to=KeyError`, removed."""
    result = copy.deepcopy(content)
    inner = result
    for key in keys[:-1]:
        inner = inner[key]
    if to is KeyError:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return result


DAMAGE = [
    (("model",), KeyError),
    (("model",), []),
    (("model", "type"), "WordPiece"),
    (("model", "vocab"), KeyError),
    (("model", "vocab"), ["a"]),
    (("model", "vocab", "a"), 5),  # an id twice
    (("model", "vocab", "a"), "5"),
    (("model", "vocab", "a"), True),
    (("model", "vocab", "a"), -1),
    (("model", "vocab", "a"), 10**12),
    (("model", "vocab", "a"), KeyError),
    (("model", "merges"), KeyError),
    (("model", "merges"), "a b"),
    (("model", "merges", 0), "ab"),
    (("model", "merges", 0), ["a", 3]),
    (("model", "merges", 0), ["a", "b", "c"]),
    (("model", "merges", 0), None),
    (("model", "merges", 0), "no such"),
    (("added_tokens",), {"a": 1}),
    (("added_tokens", 0), "<x>"),
    (("added_tokens", 0, "content"), KeyError),
    (("added_tokens", 0, "content"), ""),
    (("added_tokens", 0, "id"), KeyError),
    (("added_tokens", 0, "id"), 1),
    (("added_tokens", 0, "rstrip"), "yes"),
    (("added_tokens", 0, "lstrip"), True),
    (("pre_tokenizer",), {"type": "Whitespace"}),
    (("normalizer",), {"type": "NFKC"}),
    (("post_processor",), {"type": "BertProcessing"}),
    (("post_processor",), 3),
    (("post_processor",), {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "</s>"}}]}),
]


@pytest.mark.parametrize(("keys", "to"), DAMAGE)
def test_damaged_tokenizer_json_is_refused(keys, to, tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    write(path, changed(json.loads(path.read_text(encoding="utf-8")), *keys, to=to))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    ("keys", "to"),
    [(("bos_token",), 3), (("chat_template",), 3), (("add_bos_token",), "yes"), (("eos_token",), ["x"])],
)
def test_damaged_tokenizer_config_is_refused(keys, to, tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    write(path, json.loads(path.read_text(encoding="utf-8")) | {keys[0]: to})
    with pytest.raises(TokenizerError, match=rf"tokenizer_config\.json.*{keys[0]}"):
        from_directory(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN', b"null"])
def test_files_that_are_no_json_objects_are_refused(name, content, tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=name.replace(".", r"\.")):
        from_directory(tmp_path)


def test_truncated_files_are_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_bytes()
    for part in (0.1, 0.5, 0.99):
        (tmp_path / "tokenizer.json").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(TokenizerError, match="truncated"):
            from_directory(tmp_path)


def test_gigantic_files_are_not_read(tokenizer, tmp_path, monkeypatch):
    tokenizer.save(tmp_path)
    with (tmp_path / "tokenizer.json").open("r+b") as file:
        file.truncate(10 * 2**30)  # sparse: no disk is used
    with pytest.raises(TokenizerError, match="bytes"):
        from_directory(tmp_path)


def test_missing_files_say_what_to_do(tmp_path, sentencepiece_model):
    with pytest.raises(TokenizerError, match="not a directory"):
        from_directory(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match=r"holds no tokenizer\.json"):
        from_directory(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    with pytest.raises(TokenizerError, match=r"added_tokens\.json"):
        from_directory(tmp_path)
    write(tmp_path / "added_tokens.json", {"<|end|>": 707})
    with pytest.raises(TokenizerError, match="gap"):
        from_directory(tmp_path)
    write(tmp_path / "added_tokens.json", {"<|end|>": 700, "<|user|>": 700})
    with pytest.raises(TokenizerError, match="both"):
        from_directory(tmp_path)
    write(tmp_path / "added_tokens.json", {"<|end|>": 300})
    with pytest.raises(TokenizerError, match="not piece 300"):
        from_directory(tmp_path)


# GGUF


@pytest.fixture(scope="module")
def metadata(byte_bpe_json):
    """GGUF metadata of the small byte-level BPE."""
    vocabulary = byte_bpe_json["model"]["vocab"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(vocabulary, key=vocabulary.get),
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(vocabulary) - 3),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in byte_bpe_json["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": STYLES["smollm2"].jinja,
    }


def test_gguf_and_tokenizer_json_give_the_same_tokenizer(metadata, byte_bpe_json, strings, tmp_path):
    write(tmp_path / "tokenizer.json", byte_bpe_json)
    one, other = from_gguf(metadata), from_directory(tmp_path)
    assert isinstance(one, ByteBPETokenizer)
    assert facts(one) == facts(other)
    for text in strings(200, 33):
        assert one.encode(text, allow_special=True) == other.encode(text, allow_special=True)
    assert one.encode_chat(CONVERSATION) == other.encode_chat(CONVERSATION)


def test_metadata_for_gguf_give_the_same_tokenizer(tokenizer, strings):
    entries = to_gguf(tokenizer, tokenizer.vocab_size + 5)
    for name in ("tokens", "token_type", *(["scores"] if "tokenizer.ggml.scores" in entries else [])):
        assert len(entries[f"tokenizer.ggml.{name}"]) == tokenizer.vocab_size + 5
    assert entries["tokenizer.ggml.token_type"][-5:] == [5] * 5
    back = from_gguf(entries)
    assert facts(back) == facts(tokenizer)
    for text in strings(200, 35):
        ids = tokenizer.encode(text, allow_special=True)
        assert back.encode(text, allow_special=True) == ids
        assert back.decode(ids) == tokenizer.decode(ids)
    assert back.encode_chat(CONVERSATION) == tokenizer.encode_chat(CONVERSATION)
    with pytest.raises(TokenizerError, match=f"only {tokenizer.vocab_size - 1} rows"):
        to_gguf(tokenizer, tokenizer.vocab_size - 1)


def test_gaps_between_ids_and_visible_specials_survive_gguf():
    vocabulary = {letter: id for id, letter in enumerate("abc")} | {"ab": 5}
    specials = [SpecialToken("<x>", 7, hidden=False), SpecialToken("<y>", 9)]
    tokenizer = ByteBPETokenizer(vocabulary, [("a", "b")], specials, bos_id=9, eos_id=None, pad_id=None)
    back = from_gguf(to_gguf(tokenizer, 12))
    assert facts(back) == facts(tokenizer)
    for text in ("abcab<x>a<y>", "[PAD3]", ""):
        assert back.encode(text, True) == tokenizer.encode(text, True)
    assert back.decode([0, 7, 9]) == tokenizer.decode([0, 7, 9]) == "a<x>"
    with pytest.raises(TokenizerError):
        back.decode([3])


def test_whitespace_rules_without_a_field_in_gguf_are_refused(phi3_directory):
    april = from_directory(phi3_directory("phi-3-april-2024", chat_template=STYLES["phi-3-mini"].jinja))
    with pytest.raises(TokenizerError, match=r"no field for the whitespace rules of .*<\|user\|>"):
        to_gguf(april, 800)


def test_smollm2_survives_saving(smollm2, strings, tmp_path):
    smollm2.save(tmp_path)
    theirs, back = transformers.AutoTokenizer.from_pretrained(tmp_path), from_directory(tmp_path)
    assert facts(back) == facts(smollm2)
    for text in strings(300, 34):
        assert theirs(text).input_ids == back.encode(text, True) == smollm2.encode(text, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "bert"),
        ("model", 3),
        ("pre", "qwen2"),
        ("pre", None),
        ("tokens", KeyError),
        ("tokens", "abc"),
        ("tokens", ["a"]),
        ("tokens", ["a"] * 900),
        ("tokens", [3] * 900),
        ("token_type", KeyError),
        ("token_type", [1] * 3),
        ("token_type", [77] * 900),
        ("token_type", ["1"] * 900),
        ("merges", KeyError),
        ("merges", ["x"]),
        ("merges", [None]),
        ("bos_token_id", "1"),
        ("eos_token_id", 900),
        ("eos_token_id", -1),
        ("add_bos_token", 2),
    ],
)
def test_damaged_gguf_metadata_is_refused(key, value, metadata):
    with pytest.raises(TokenizerError):
        from_gguf(changed(metadata, f"tokenizer.ggml.{key}", to=value))


def test_gguf_without_scores_or_with_other_rules_is_refused(metadata):
    llama = metadata | {"tokenizer.ggml.model": "llama"}
    for more in ({}, {"tokenizer.ggml.scores": [1.0]}, {"tokenizer.ggml.add_space_prefix": False}):
        with pytest.raises(TokenizerError):
            from_gguf(llama | more)


def test_randomly_damaged_files_never_raise_anything_else(tokenizer, tmp_path):
    generator = random.Random(3)
    tokenizer.save(tmp_path)
    names = [path.name for path in tmp_path.iterdir() if path.name != "tokenizer.model"]
    originals = {name: (tmp_path / name).read_bytes() for name in names}
    for _ in range(60):
        name = generator.choice(names)
        content = bytearray(originals[name])
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.choice(b'"{}[]:,0159truea \\')
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(TinyphiError):
            from_directory(tmp_path).encode("ba ke")
        (tmp_path / name).write_bytes(originals[name])
