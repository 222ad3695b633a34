"""The command line as a user types it."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest
import torch

import tinyphi
from tinyphi import cli
from tinyphi.errors import FetchError
from tinyphi.generation import chat
from tinyphi.generation.speculative import PromptLookup
from tinyphi.kernels import native
from tinyphi.quant.linear import GroupedLinear
from tinyphi.tokenizer.base import SpecialToken
from tinyphi.tokenizer.bytebpe import BYTE_TO_LETTER, ByteBPETokenizer
from tinyphi.tokenizer.chat import STYLES
from tinyphi.weights.catalog import CATALOG, EMBEDDED
from tinyphi.weights.fetch import resolve

COMMAND = [sys.executable, "-m", "tinyphi.cli"]


@pytest.fixture(scope="module")
def real_model():
    try:
        return str(resolve("smollm2-135m"))
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The directory of a small random model, whose tokenizer knows the single bytes and one word."""
    merges = [("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o")]
    tokens = [*BYTE_TO_LETTER.values(), *(left + right for left, right in merges)]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pad, start, end = (SpecialToken(name, len(tokens) + number) for number, name in enumerate(names))
    tokenizer = ByteBPETokenizer(
        {token: number for number, token in enumerate(tokens)},
        merges,
        [pad, start, end],
        bos_id=start.id,
        eos_id=end.id,
        pad_id=pad.id,
        chat_template=STYLES["smollm2"].jinja,
    )
    config = tinyphi.PhiConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=start.id,
        eos_token_id=end.id,
        pad_token_id=pad.id,
    )
    torch.manual_seed(5)
    model = tinyphi.Phi3(config)
    with torch.no_grad():
        model.lm_head.weight[pad.id :] = 0  # a logit of 0 is never the largest, so no reply stops early
    path = tmp_path_factory.mktemp("tiny") / "model"
    tinyphi.save(model, tokenizer, path)
    return str(path)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["chat", "--help"]])
def test_help_does_not_import_torch(arguments):
    program = f"""
import sys
from tinyphi import cli
try:
    cli.main({arguments})
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
"""
    assert "tinyphi" in subprocess.check_output([sys.executable, "-c", program], text=True)


def test_list_shows_exact_counts(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(EMBEDDED) + len(CATALOG)
    mini = next(line for line in lines if line.startswith("phi-3-mini-4k"))
    assert "3,821,079,552" in mini
    assert "7.64 GB" in mini
    assert "1.61 GB" in mini


def test_errors_are_one_line(capsys):
    assert cli.main(["get", "smolm2-135m"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tinyphi: ")
    assert "smollm2-135m" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["generate", "x", "--nonsense"], ["list", "more"], []])
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2


def test_bad_sampling_options_are_refused_before_loading(capsys):
    assert cli.main(["generate", "x", "--temperature", "0", "--model", "/no/such/model"]) == 2
    assert "temperature" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*COMMAND, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 0


def test_get_prints_the_path(tiny, capsys):
    assert cli.main(["get", tiny]) == 0
    assert capsys.readouterr().out.strip() == tiny


def test_generate_prints_what_the_library_generates(tiny, capsys):
    model, tokenizer = tinyphi.load(tiny)
    expected = tinyphi.generate(model, tokenizer.encode("hello"), tokenizer=tokenizer, max_new_tokens=9)
    assert len(expected.ids[0]) == 9
    assert cli.main(["generate", "hello", "--model", tiny, "--max-tokens", "9"]) == 0
    assert capsys.readouterr().out == f"hello{expected.texts[0]}\n"


def test_sampling_options_reach_the_sampler(tiny, capsys):
    options = (
        "--temperature 1.5 --top-k 50 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.1 --seed 3".split()
    )
    assert cli._sampler(cli._parser().parse_args(["generate", "hello", *options])) == tinyphi.Sampler(
        temperature=1.5, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.1, seed=3
    )
    assert cli._sampler(cli._parser().parse_args(["chat"])) == tinyphi.Greedy()
    texts = []
    for seed in ("3", "3", "4"):
        options[-1] = seed
        assert cli.main(["generate", "hello", "--model", tiny, "--max-tokens", "12", *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_dtype_reaches_the_model(tiny, monkeypatch):
    asked, load = [], tinyphi.load

    def remember(*given, **more):
        asked.append(more["dtype"])
        return load(*given, **more)

    monkeypatch.setattr(tinyphi, "load", remember)
    for command in ("generate", "chat"):
        assert cli.main([command, "hello", "--model", tiny, "--dtype", "bfloat16", "--max-tokens", "2"]) == 0
    assert asked == [torch.bfloat16] * 2


def test_one_question_and_a_system_message(tiny, capsys):
    model, tokenizer = tinyphi.load(tiny)
    replies = []
    for system in (None, "hell"):
        more = ["--system", system] if system else []
        assert cli.main(["chat", "hello", "--model", tiny, "--max-tokens", "8", *more]) == 0
        replies.append(tinyphi.chat(model, tokenizer, "hello", system=system, max_new_tokens=8))
        assert capsys.readouterr().out == replies[-1] + "\n"
    assert replies[0] != replies[1]


def test_chat_takes_a_draft_and_an_8_bit_cache(tiny, monkeypatch, capsys):
    asked, stream = [], chat.stream

    def watched(*given, draft, cache_bits, **more):
        asked.append((type(draft), cache_bits))
        return stream(*given, draft=draft, cache_bits=cache_bits, **more)

    monkeypatch.setattr(chat, "stream", watched)
    for options in ([], ["--draft", "lookup", "--cache-bits", "8"]):
        assert cli.main(["chat", "hello", "--model", tiny, "--max-tokens", "8", *options]) == 0
    assert asked == [(type(None), None), (PromptLookup, 8)]


def quantized(tiny, tmp_path, *options):
    """The directory that `tinyphi quantize` makes of the tiny model."""
    path = tmp_path / "quantized"
    assert cli.main(["quantize", tiny, "--to", str(path), *options]) == 0
    return str(path)


def test_quantize_reports_and_saves(tiny, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("hello " * 600, encoding="utf-8")
    path = quantized(tiny, tmp_path, "--group-size", "16", "--asymmetric", "--text", str(text))
    printed = capsys.readouterr().out
    model, tokenizer = tinyphi.load(tiny)
    ids = torch.tensor(tokenizer.encode(text.read_text())[:1024]).view(2, 512)
    report = tinyphi.quant.quantize(model, "int4", group_size=16, symmetric=False, ids=ids)
    assert printed == f"{report}\nsaved to {path}\n"
    assert "on 1024 tokens" in printed
    again, _ = tinyphi.load(path)
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize("method", [[], ["--method", "nf4"], ["--method", "q8_0"], ["--method", "int8"]])
def test_a_quantized_directory_generates(tiny, tmp_path, capsys, method):
    path = quantized(tiny, tmp_path, *method)
    capsys.readouterr()
    assert cli.main(["generate", "hello", "--model", path, "--max-tokens", "4"]) == 0
    assert capsys.readouterr().out.startswith("hello")


def test_quantize_calibrates_with_a_text(tiny, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("hello there, " * 100, encoding="utf-8")
    options = ["--method", "awq", "--group-size", "16"]
    quantized(tiny, tmp_path, *options, "--text", str(text))
    assert "int4, groups of 16 with minima" in capsys.readouterr().out
    assert cli.main(["quantize", tiny, "--to", str(tmp_path / "more"), *options]) == 2
    assert "awq calibrates with a text" in capsys.readouterr().err


def test_quantize_exports_a_gguf_file(tiny, tmp_path, capsys):
    path = tmp_path / "model.gguf"
    assert cli.main(["quantize", tiny, "--to", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"saved to {path}: {path.stat().st_size / 1e6:.1f} MB, ")
    assert "tensors Q4_0" in printed
    assert "not whole blocks: 2 (blk.0.ffn_down.weight, blk.1.ffn_down.weight)" in printed
    stored = tinyphi.load_model(path, quantize="as_stored")
    assert isinstance(stored.layers[0].attention.qkv_proj, GroupedLinear)
    assert cli.main(["quantize", tiny, "--to", str(path), "--method", "f16"]) == 0
    assert "F16" in capsys.readouterr().out


def test_quantize_says_what_is_wrong(tiny, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("", encoding="utf-8")
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    quantized(tiny, tmp_path)
    new = str(tmp_path / "new")
    for options, message in {
        (tiny, "--to", new, "--method", "int3"): "no method 'int3'",
        (tiny, "--to", new, "--group-size", "0"): "group size is 0",
        (tiny, "--to", new, "--text", str(tmp_path / "none.txt")): "cannot be read",
        (tiny, "--to", new, "--text", str(tmp_path / "broken.txt")): "cannot be read",
        (tiny, "--to", new, "--text", str(tmp_path / "short.txt")): "takes at least 2",
        (str(tmp_path / "quantized"), "--to", new): "quantized already",
        (tiny, "--to", str(tmp_path / "full")): "not of a saved model (thesis.tex)",
        (tiny, "--to", f"{new}.gguf", "--method", "int4"): "no number type 'int4'",
        (tiny, "--to", f"{new}.gguf", "--asymmetric"): "for a directory",
    }.items():
        capsys.readouterr()
        assert cli.main(["quantize", *options]) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "broken.txt",
        "full",
        "quantized",
        "short.txt",
    ]


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_quantize_while_loading_and_compile(tiny, tmp_path, monkeypatch, capsys, command):
    """The tiny model has rows of 48, no groups of 32 for the kernels; the layers compute it nonetheless."""
    loaded, load = [], tinyphi.load

    def remember(*given, **more):
        loaded.append(load(*given, **more)[0])
        return loaded[-1], load(*given, **more)[1]

    monkeypatch.setattr(tinyphi, "load", remember)
    for method in ("int4", "int8"):
        options = ["--model", tiny, "--quantize", method, "--max-tokens", "3"]
        assert cli.main([command, "hello", *options]) == 0
    assert cli.main([command, "hello", "--model", tiny, "--max-tokens", "3"]) == 0
    assert isinstance(loaded[0].layers[0].mlp.down_proj, GroupedLinear)
    assert [model._decoder is not None for model in loaded] == [False, False, False]
    assert cli.main([command, "hello", "--model", tiny, "--quantize", "as_stored"]) == 2
    assert "is no GGUF file" in capsys.readouterr().err


@pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))
def test_the_real_model_is_compiled(real_model, monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr(tinyphi.Phi3, "compile", lambda model: compiled.append(model))
    prompt = "The capital of France is"
    options = ["--model", real_model, "--quantize", "as_stored", "--max-tokens", "3"]
    assert cli.main(["generate", prompt, *options]) == 0
    assert capsys.readouterr().out.startswith(f"{prompt} Paris.")
    assert len(compiled) == 1


def converse(monkeypatch, tiny, typed, interrupted=()):
    """Run a session in which `typed` is entered; return its messages at the end.

    An exception in `typed` is raised at the prompt. The replies with the numbers in `interrupted` get a
    Ctrl-C after four tokens.
    """
    sessions, lines, numbers = [], iter(typed), iter(range(100))
    initialise, stream = chat.Conversation.__init__, chat.stream

    def remember(self, *given, **more):
        initialise(self, *given, **more)
        sessions.append(self)

    def interrupted_stream(steps, stop):
        for count, step in enumerate(steps):
            if stop and count == 4:
                raise KeyboardInterrupt
            yield step

    def type_line(prompt):
        line = next(lines)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr(chat.Conversation, "__init__", remember)
    monkeypatch.setattr(
        chat,
        "stream",
        lambda *given, **more: interrupted_stream(stream(*given, **more), next(numbers) in interrupted),
    )
    monkeypatch.setattr("builtins.input", type_line)
    assert cli.main(["chat", "--model", tiny, "--max-tokens", "8"]) == 0
    return sessions[0].messages


def test_a_session_goes_on_after_ctrl_c_and_keeps_the_partial_reply(tiny, monkeypatch, capsys):
    messages = converse(monkeypatch, tiny, ["hello", "", "  ", "hell", EOFError()], interrupted=[0])
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2  # empty lines are skipped
    partial, whole = messages[1]["content"], messages[3]["content"]
    assert partial
    assert whole
    assert f"{partial} …\n{whole}\n\n" in capsys.readouterr().out


def test_ctrl_c_at_the_prompt_leaves(tiny, monkeypatch, capsys):
    assert converse(monkeypatch, tiny, [KeyboardInterrupt()]) == []
    assert capsys.readouterr().out.endswith("\n\n")


def test_a_refused_message_does_not_end_the_session(tiny, monkeypatch, capsys):
    messages = converse(monkeypatch, tiny, ["\ud800", "hello", EOFError()])
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert capsys.readouterr().err.startswith("tinyphi: ")


def test_ctrl_c_elsewhere_is_130(monkeypatch, capsys):
    def interrupt(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(tinyphi, "load", interrupt)
    assert cli.main(["generate", "hello"]) == 130
    assert capsys.readouterr().err == "\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_cannot_be_shown_or_read_are_replaced(tiny, encoding):
    """Broken bytes come in, a model's random letters go out, in the encoding of an old terminal."""
    done = subprocess.run(
        [*COMMAND, "chat", "--model", tiny, "--max-tokens", "30"],
        input=b"hello \xff\x81\n",
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_bench_gets_its_arguments(monkeypatch):
    given = []
    monkeypatch.setattr("tinyphi.bench.main", lambda arguments: given.append(arguments) or 7)
    assert cli.main(["bench", "decode", "--runs", "3"]) == 7
    assert cli.main(["bench", "--help"]) == 7
    assert given == [["decode", "--runs", "3"], ["--help"]]


def test_the_real_model_continues_a_text(real_model, capsys):
    assert cli.main(["generate", "The capital of France is", "--model", real_model, "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("The capital of France is Paris.")


def test_the_real_model_answers_a_question(real_model):
    question = "What is gravity? Answer in one sentence."
    answer = subprocess.check_output(
        [*COMMAND, "chat", question], encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"}
    )
    assert "gravity" in answer.lower()


def test_a_stop_string_ends_the_text(real_model, capsys):
    prompt = "The capital of France is"
    assert cli.main(["generate", prompt, "--model", real_model, "--stop", "Paris"]) == 0
    assert capsys.readouterr().out == prompt + " \n"


@pytest.mark.skipif(os.name != "posix", reason="drives a pseudo-terminal")
def test_ctrl_c_stops_a_reply_and_then_the_session(real_model):
    import pty

    terminal, inside = pty.openpty()
    session = subprocess.Popen(
        [*COMMAND, "chat", "--model", real_model, "--max-tokens", "2000"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        seen = _read_until(terminal, "> ")
        os.write(terminal, b"Write a very long story about the sea.\n")
        seen = _read_until(terminal, "sea.\r\n")
        seen = _read_until(terminal, " ", at_least=60)  # the reply has begun
        session.send_signal(signal.SIGINT)
        seen = _read_until(terminal, "> ")
        assert "Traceback" not in seen
        assert session.poll() is None  # the session goes on
        os.write(terminal, b"Say hi.\n")
        _read_until(terminal, "hi.\r\n")
        _read_until(terminal, "", at_least=2)  # it answers, nobody knows how long
        session.send_signal(signal.SIGINT)
        _read_until(terminal, "> ")
        assert _interrupt_until_it_ends(session) == 0
    finally:
        session.kill()
        os.close(terminal)


def _interrupt_until_it_ends(session, tries=30):
    """A signal that comes just before Python waits for input is only noticed with the next one."""
    for _ in range(tries):
        session.send_signal(signal.SIGINT)
        try:
            return session.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the session did not end")


def _read_until(terminal, mark, at_least=0, patience=120):
    """Everything the program writes until `mark` comes, and `at_least` so many characters."""
    seen, deadline = "", time.monotonic() + patience
    while not (mark in seen and len(seen) >= at_least):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"waited for {mark!r} in vain; saw {seen!r}"
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


def test_the_notebooks_are_found_and_copied(tmp_path, capsys):
    assert (cli._notebooks(None) / "00_start_here.ipynb").is_file()
    mine = tmp_path / "course"
    assert cli._notebooks(mine) == mine
    copied = mine / "00_start_here.ipynb"
    copied.write_text("my own work")
    cli._notebooks(mine)
    assert copied.read_text() == "my own work"


def test_an_installed_package_brings_its_notebooks(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "tinyphi"
    (package / "notebooks").mkdir(parents=True)
    (package / "notebooks" / "00_start_here.ipynb").write_text("{}")
    monkeypatch.setattr(tinyphi, "__file__", str(package / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    assert cli._notebooks(None).resolve() == (tmp_path / "tinyphi-notebooks").resolve()
    assert (tmp_path / "tinyphi-notebooks" / "00_start_here.ipynb").read_text() == "{}"


def test_notebooks_that_cannot_be_copied_are_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinyphi.weights.fetch.resolve", lambda name: None)
    (tmp_path / "file").write_text("")
    assert cli.main(["lab", str(tmp_path / "file")]) == 2
    assert "another directory" in capsys.readouterr().err


def test_lab_without_jupyterlab_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["lab"]) == 2
    assert 'pip install "tinyphi[lab]"' in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
def test_lab_starts_jupyterlab_and_waits_for_it_after_ctrl_c(tmp_path, real_model):
    """A stand-in for JupyterLab says how it was called, and like the real one takes its time to stop."""
    (tmp_path / "jupyterlab.py").write_text(
        "import sys, time\n"
        "try:\n"
        "    print(sys.argv[1:], flush=True)\n"
        "    time.sleep(100)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1.5)\n"
        "    print('saved', flush=True)\n"
        "    sys.exit(5)\n"
    )
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [*COMMAND, "lab", "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": search},
    ) as lab:
        call = lab.stdout.readline()
        assert "notebooks" in call
        assert "--no-browser" in call
        os.killpg(lab.pid, signal.SIGINT)
        assert lab.stdout.read() == "saved\n"
    assert lab.returncode == 5
