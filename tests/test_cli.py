"""The command line as a user types it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tinyphi import cli, doctor
from tinyphi.errors import FetchError
from tinyphi.model import attention
from tinyphi.weights.catalog import CATALOG
from tinyphi.weights.fetch import resolve

COMMAND = [sys.executable, "-m", "tinyphi.cli"]


@pytest.fixture(scope="module")
def real_model():
    try:
        return str(resolve("smollm2-135m"))
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")


def test_help_does_not_import_torch():
    program = (
        "import sys; from tinyphi import cli; cli._parser().format_help(); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


def test_list_shows_exact_counts(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CATALOG)
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
    listing = subprocess.Popen([*COMMAND, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listing.stdout.close()
    assert listing.stderr.read() == b""


def test_generate_and_chat_answer(real_model, capsys):
    assert cli.main(["generate", "The capital of France is", "--model", real_model, "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("The capital of France is Paris.")
    question = "What is gravity? Answer in one sentence."
    assert cli.main(["chat", question, "--model", real_model, "--max-tokens", "60"]) == 0
    assert "force" in capsys.readouterr().out


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
        _read_until(terminal, "> ", at_least=12)
        assert _interrupt_until_it_ends(session) == 0
    finally:
        session.kill()
        os.close(terminal)


def _interrupt_until_it_ends(session, tries=30):
    """A signal that comes just before Python waits for input is only noticed with the next one."""
    for _ in range(tries):
        session.send_signal(signal.SIGINT)
        try:
            return session.wait(timeout=2)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the session did not end")


def _read_until(terminal, mark, at_least=0, patience=120):
    """Everything the program writes until `mark` comes, and `at_least` so many characters."""
    seen, deadline = "", time.monotonic() + patience
    while not (mark in seen and len(seen) >= at_least):
        assert time.monotonic() < deadline, f"waited for {mark!r} in vain; saw {seen!r}"
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


def test_doctor_finds_this_machine_right(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "computes correct results" in out
    assert "WRONG" not in out


@pytest.mark.parametrize(
    ("module", "name", "mistake"),
    [
        (attention, "rotate", lambda x, cos, sin: x),
        (attention, "fused_attention", lambda queries, keys, values, mask: queries),
    ],
)
def test_doctor_notices_wrong_arithmetic(monkeypatch, capsys, module, name, mistake):
    monkeypatch.setattr(module, name, mistake)
    assert doctor.examine() == 1
    out = capsys.readouterr().out
    assert "WRONG" in out
    assert "Reinstall torch" in out


def test_doctor_gives_advice(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(doctor, "free_memory", lambda: 10**8)
    assert doctor.examine() == 0
    out = capsys.readouterr().out
    assert "tinyphi get" in out
    assert "Close other programs" in out
