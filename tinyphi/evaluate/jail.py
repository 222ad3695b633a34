"""The inside of the sandbox: the program that `tinyphi.evaluate.sandbox` starts, and that runs the code.

    python -I -S -c <this file> <settings as JSON>        with the code on standard input

The *supervisor* enters new namespaces, starts the *worker*, waits for it and reports how it ended. The worker
gives up its powers one after the other, and then becomes the program. It imports nothing of tinyphi: the
sandbox must not be able to read tinyphi, nor the packages beside it.

Sources: man pages unshare(2), setrlimit(2), prctl(2), setfsuid(2); the kernel's
Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h; PEP 578 and the table of audit
events in Python's documentation.
"""

import ctypes
import json
import linecache
import os
import resource
import signal
import struct
import sys
import traceback
from types import ModuleType
from typing import Any

_NOBODY = 65534
_NEW_NETWORK, _NEW_PROCESSES, _NEW_IPC, _NEW_USER = 0x40000000, 0x20000000, 0x08000000, 0x10000000
_DIE_WITH_PARENT, _KEEP_CAPABILITIES, _NO_NEW_PRIVILEGES = 1, 8, 38  # of prctl
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls of Landlock, on every processor
_READ_FILE, _READ_FOLDER, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
_LINUX = sys.platform == "linux"


def main() -> None:
    """Supervisor: start the worker, wait for it, say how it ended."""
    settings = json.loads(sys.argv[1])
    code = sys.stdin.buffer.read()
    held = ["limits"]
    if _LINUX:
        _libc().prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if "namespaces" in settings["layers"] and enter_namespaces():
            held.append("namespaces")
    worker = os.fork()
    if worker == 0:
        work(code, settings, held)
        return
    _report(settings["report"], worker=worker)
    _, status, usage = os.wait4(worker, 0)
    cpu = usage.ru_utime + usage.ru_stime
    _report(settings["report"], exit_code=os.waitstatus_to_exitcode(status), cpu_seconds=cpu)


def work(code: bytes, settings: dict[str, Any], held: list[str]) -> None:
    """Worker: give everything up, then run the program as `__main__`."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    folder, readable = os.getcwd(), settings["readable"]
    if _LINUX and "landlock" in settings["layers"] and enter_landlock(folder, readable):
        held.append("landlock")
    set_limits(settings["limits"])
    if _LINUX:
        _libc().prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    _report(settings["report"], held=[*held, *({"audit"} & set(settings["layers"]))])
    os.close(settings["report"])
    if "audit" in settings["layers"]:
        enter_audit(folder, readable)
    program = sys.modules["__main__"] = ModuleType("__main__")
    text = code.decode("utf-8", errors="replace")
    linecache.cache["program.py"] = (len(text), None, text.splitlines(True), "program.py")
    try:
        exec(compile(text, "program.py", "exec", dont_inherit=True), program.__dict__)
    except Exception as error:
        behind_exec = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(type(error), error, behind_exec)
        sys.exit(1)


def enter_namespaces() -> bool:
    """No network, and children that see no process but themselves. Root needs no user namespace for that."""
    flags = _NEW_NETWORK | _NEW_PROCESSES | _NEW_IPC | (_NEW_USER if os.geteuid() else 0)
    return bool(_libc().unshare(flags) == 0)


def enter_landlock(folder: str, readable: list[str]) -> bool:
    """Write below `folder` only, read there and below `readable`; no TCP, and no signals to others.

    What the kernel does not know yet is left out: TCP before Linux 6.7, signals before 6.12.
    """
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1  # every right that it knows
    tcp, scopes = (0b11 if version >= 4 else 0), (0b11 if version >= 6 else 0)
    rules = struct.pack("QQQ", files, tcp, scopes)
    ruleset = libc.syscall(_CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    device = files & (_READ_FILE | _WRITE_FILE | _TRUNCATE)
    allowed = dict.fromkeys(readable, _READ_FILE | _READ_FOLDER) | {folder: files, os.devnull: device}
    for path, rights in allowed.items():
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has every one
        if not os.path.isdir(path):
            rights &= ~_READ_FOLDER
        libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0)
        os.close(place)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def set_limits(limits: dict[str, int]) -> None:
    """Hard limits, which only root could raise again, and root becomes nobody first."""
    if os.geteuid() == 0:
        become_nobody()
    for name, most in limits.items():
        kind, (_, highest) = getattr(resource, name), resource.getrlimit(getattr(resource, name))
        most = most if highest == resource.RLIM_INFINITY else min(most, highest)
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            if _LINUX:  # macOS has the name of RLIMIT_AS, but refuses to set it
                raise


def become_nobody() -> None:
    """Root without powers: nobody in everything but files, since its Python may lie where no other may look.

    The kernel lets only those with CAP_SETUID (bit 7) be somebody else for files; it is kept for that step.
    """
    os.setgroups([])
    if not _LINUX:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        return
    libc, header = _libc(), struct.pack("Ii", 0x20080522, 0)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    libc.capset(header, struct.pack("6I", 1 << 7, 1 << 7, 0, 0, 0, 0))
    libc.setfsuid(0)
    if libc.capset(header, struct.pack("6I", *[0] * 6)) != 0:
        raise PermissionError("root could not give up its capabilities")


def enter_audit(folder: str, readable: list[str]) -> None:
    """The belt: Python itself refuses, with a sentence that says what. C code does not ask Python."""
    closed = (
        "ctypes.", "socket.", "subprocess.", "pty.", "signal.", "os.fork", "os.exec", "os.spawn", "os.system",
        "os.posix_spawn", "os.kill", "os.link", "os.symlink",
    )  # fmt: skip
    changes = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.chflags"}
    changes |= {"os.truncate", "os.utime", "os.setxattr", "os.removexattr"}
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    real, inside = os.path.realpath, os.path.realpath(folder)
    visible = [real(path) for path in readable]

    def below(path: Any, places: list[str]) -> bool:
        if isinstance(path, int) or path is None:  # already open, or the folder itself
            return True
        place = real(os.fsdecode(path))
        return place == real(os.devnull) or any(
            place == top or place.startswith(top.rstrip("/") + "/") for top in places
        )

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event.startswith(closed):
            raise PermissionError(f"the sandbox does not allow {event}")
        if event == "open" and isinstance(given[2], int) and given[2] & writing:
            if not below(given[0], [inside]):
                raise PermissionError(f"the sandbox does not allow writing to {given[0]!r}")
        elif event in ("open", "os.listdir", "os.scandir"):
            if not below(given[0], [inside, *visible]):
                raise PermissionError(f"the sandbox does not allow reading {given[0]!r}")
        elif event in changes and not all(
            below(path, [inside]) for path in given if isinstance(path, (str, bytes))
        ):
            raise PermissionError(f"the sandbox does not allow {event} of {given[0]!r}")

    sys.addaudithook(hook)


def _report(pipe: int, **said: Any) -> None:
    os.write(pipe, json.dumps(said).encode() + b"\n")


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main()
