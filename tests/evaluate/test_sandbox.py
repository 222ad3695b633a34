"""Attempts to escape. Each ends quickly, harms nobody, and is stopped by the layer that is meant for it.

A test that names a layer runs with this one alone (besides the limits), so that no other can hide its
failure; and `test_without_its_layer_*` shows that the attempt does succeed where its layer is missing.
"""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tinyphi.errors import InputError
from tinyphi.evaluate import sandbox
from tinyphi.evaluate.sandbox import LAYERS, run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the sandbox needs POSIX limits")
linux = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and Landlock are Linux")
NOBODY = 65534


def run(code, timeout=10.0):
    return run_python(code, timeout=timeout, run_code=True)


def with_only(layer, code, timeout=10.0, **limits):
    """Limits and one layer. Skips where this system does not have it."""
    wanted = sandbox._limits(10, 512) | limits
    done = sandbox._supervised(code, timeout, wanted, tuple({"limits": 1, layer: 1}))
    if layer not in done.held:
        pytest.skip(f"this system does not allow {layer} here")
    return done


@pytest.fixture
def victim():
    """A process of the same user as the program's."""
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **as_nobody) as process:
        yield process
        process.kill()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def outside(tmp_path):
    """A folder that everybody may write in, with a file that everybody may read."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "secret").write_text("the secret")
    tmp_path.chmod(0o777)
    return tmp_path


# ------------------------------------------------------------------------------------- what it is for


def test_a_program_says_what_it_has_to_say():
    done = run("import sys, random, dataclasses, typing\nprint(6 * 7)\nprint('oh', file=sys.stderr)")
    assert (done.stdout, done.stderr, done.exit_code, done.stopped) == ("42\n", "oh\n", 0, None)
    assert done.ok and {"limits", "audit"} <= set(done.held)


def test_nothing_is_run_unless_asked_for(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    with pytest.raises(InputError, match="run_code=True"):
        run_python("print(1)")


def test_windows_is_told_so(monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    try:
        with pytest.raises(InputError, match="WSL"):
            run_python("print(1)", run_code=True)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("given", [{"timeout": 0}, {"timeout": float("inf")}, {"memory_mb": 10}])
def test_limits_without_room_are_refused(given):
    with pytest.raises(InputError, match="needs some time and 64 MB"):
        run_python("", run_code=True, **given)


def test_errors_name_the_line():
    done = run("def half(x):\n    return x / 0\nhalf(1)")
    assert done.exit_code == 1 and not done.ok
    assert "line 2, in half" in done.stderr and "return x / 0" in done.stderr and "exec" not in done.stderr


@pytest.mark.parametrize("code", ["x = (", "\0", "(" * 3000])
def test_what_is_no_program_is_an_error_of_the_program(code):
    assert run(code).exit_code == 1


def test_exit_codes_and_signals():
    assert run("import sys; sys.exit(3)").exit_code == 3
    assert run("import os; os.abort()").exit_code < 0


def test_it_is_a_main_program_with_classes():
    code = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(__name__, A(1))"
    assert run(code).stdout == "__main__ A(x=1)\n"


def test_it_may_write_in_its_folder_which_is_empty_and_vanishes():
    code = (
        "import os; print(os.listdir('.'), os.getcwd()); open('a', 'w').write('b'); print(open('a').read())"
    )
    done = run(code)
    empty, folder = done.stdout.split("\n")[0].split(" ")
    assert done.ok and empty == "[]" and done.stdout.endswith("\nb\n")
    assert "tinyphi-sandbox" in folder and not os.path.exists(folder)


def test_several_at_once():
    with ThreadPoolExecutor(4) as pool:
        assert [one.stdout for one in pool.map(run, [f"print({n})" for n in range(8)])] == [
            f"{n}\n" for n in range(8)
        ]


def test_only_the_standard_library():
    done = run("import torch")
    assert "No module named 'torch'" in done.stderr


# ------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)", "print(10**10**9)"])
def test_a_program_without_end_is_stopped_by_the_clock(code):
    done = run(code, timeout=0.5)
    assert (done.stopped, done.exit_code) == ("time", None) and 0.5 <= done.seconds < 5


def test_what_was_said_before_is_kept():
    assert run("print('hello', flush=True)\nwhile True: pass", timeout=1).stdout == "hello\n"


def test_the_processor_has_a_clock_of_its_own():
    """It holds when nobody looks at the clock any more. The wall time here is a minute."""
    started = time.monotonic()
    done = with_only("audit", "while True: pass", timeout=60, RLIMIT_CPU=1)
    assert done.stopped == "cpu time" and time.monotonic() - started < 30


@linux
def test_a_program_dies_with_the_process_that_asked_for_it(tmp_path):
    token = f"{os.getpid()}{time.monotonic_ns()}"
    code = f"import time\nopen('{token}', 'w')\ntime.sleep(60)"
    asker = "from tinyphi.evaluate.sandbox import run_python\n"
    asker += f"run_python({code!r}, timeout=90, run_code=True)"
    elsewhere = os.environ | {"TMPDIR": str(tmp_path)}  # the folder is left when its owner is killed
    with subprocess.Popen([sys.executable, "-c", asker], env=elsewhere) as process:
        programs = wait_for(
            lambda: [one for one in family(process.pid) if os.path.exists(f"{works_in(one)}/{token}")]
        )
        process.kill()
    assert wait_for(lambda: not any(map(psutil.Process.is_running, programs)))


def family(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def works_in(process):
    """The folder of a process; one that is gone is still named."""
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
    return found


def test_an_interrupted_call_leaves_nothing_behind(monkeypatch):
    started, popen = [], subprocess.Popen

    def watched(*given, **named):
        started.append(popen(*given, **named))
        return started[-1]

    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", watched)
    monkeypatch.setattr(sandbox, "_too_full", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("while True: pass")
    assert started[0].returncode is not None and not family(started[0].pid)


# ------------------------------------------------------------------------------------- memory, output, disk


def test_a_memory_hog_gets_an_error():
    assert run("x = bytearray(10**9)").stopped == "memory"
    slowly = run("x = []\nwhile True: x.append(bytes(10**7))")
    assert slowly.stopped == "memory" and slowly.seconds < 10
    if sys.platform == "linux":
        assert run_python("x = bytearray(3 * 10**8)", memory_mb=512, run_code=True).ok
        assert run_python("x = bytearray(3 * 10**8)", memory_mb=256, run_code=True).stopped == "memory"


@pytest.mark.parametrize("pipe", ["stdout", "stderr"])
def test_endless_output_is_cut_while_it_is_read(pipe):
    before = psutil.Process().memory_info().rss
    done = run(f"import sys\nwhile True: sys.{pipe}.write('x' * 100_000)", timeout=60)
    assert done.stopped == "output" and len(getattr(done, pipe)) == sandbox._MOST_OUTPUT
    assert psutil.Process().memory_info().rss - before < 50e6


def test_a_file_has_a_largest_size():
    done = run("f = open('big', 'wb', 0)\nfor _ in range(1000): f.write(bytes(10**6))")
    assert "File too large" in done.stderr and done.exit_code == 1


def test_many_files_are_noticed():
    code = "n = 0\nwhile True:\n    open(str(n), 'wb').write(bytes({size}))\n    n += 1"
    for size in (1, 5_000_000):
        done = run(code.format(size=size), timeout=60)
        assert done.stopped == "files" and done.seconds < 30


def test_open_files_are_counted():
    assert "Too many open files" in run("held = [open('a', 'w') for _ in range(100)]").stderr


def test_input_is_closed():
    assert "EOFError" in run("input()").stderr


# ------------------------------------------------------------------------------------- processes

FORKS = """
import os, time
for n in range(50):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
print('made')
"""


def test_a_fork_bomb_does_not_get_its_first_child():
    started = time.monotonic()
    done = run("import os\nwhile True: os.fork()")
    assert done.exit_code == 1 and "sandbox does not allow os.fork" in done.stderr
    done = with_only("limits", FORKS)
    assert "BlockingIOError" in done.stderr and "made" not in done.stdout
    assert time.monotonic() - started < 20


def test_a_fork_bomb_in_c_does_not_either():
    bomb = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.fork(), ctypes.get_errno())"
    assert with_only("limits", bomb).stdout.startswith("-1 ")
    assert "sandbox does not allow ctypes" in run(bomb).stderr


@linux
def test_threads_are_processes_too():
    code = "import threading\n"
    code += "for _ in range(99): threading.Thread(target=threading.Event().wait, daemon=True).start()"
    assert "can't start new thread" in with_only("limits", code).stderr


@pytest.mark.parametrize("call", ["subprocess.run(['ls'])", "os.system('ls')", "os.execv('/bin/ls', ['ls'])"])
def test_other_programs_are_not_started(call):
    assert "the sandbox does not allow" in run(f"import os, subprocess; {call}").stderr


SLEEPER = """
import os, time
if os.fork() == 0:
    {leave}
    os.execv('/bin/sleep', ['{token}', '300'])
time.sleep(0.5)
"""


def sleepers(token):
    return [one for one in psutil.process_iter(["cmdline"]) if token in (one.info["cmdline"] or [])]


@pytest.mark.parametrize(("leave", "layer"), [("pass", "limits"), ("os.setsid()", "namespaces")])
def test_a_child_does_not_outlive_the_program(leave, layer):
    """Let it have a child: one dies with the group, and one that left the group with the namespace."""
    token = f"tinyphi-{layer}-{time.monotonic_ns()}"
    done = with_only(layer, SLEEPER.format(leave=leave, token=token), RLIMIT_NPROC=10_000)
    assert done.exit_code == 0, done.stderr
    assert wait_for(lambda: not sleepers(token))


def test_without_its_layer_a_child_outlives_the_program():
    token = f"tinyphi-free-{time.monotonic_ns()}"
    done = with_only("limits", SLEEPER.format(leave="os.setsid()", token=token), RLIMIT_NPROC=10_000)
    found = sleepers(token)
    for one in found:
        one.kill()
    assert done.exit_code == 0 and found


def test_leaving_the_group_does_not_help():
    done = run("import os\nos.setsid()\nprint(os.getcwd(), flush=True)\nwhile True: pass", timeout=1)
    folder = done.stdout.strip()
    assert done.stopped == "time" and "tinyphi-sandbox" in folder
    assert not [one for one in psutil.process_iter() if works_in(one).startswith(folder)]


@pytest.mark.parametrize(
    ("layer", "says"),
    [("namespaces", "No such process"), ("landlock", "not permitted"), ("audit", "not allow os.kill")],
)
def test_other_processes_cannot_be_killed(victim, layer, says):
    if layer == "landlock" and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12):
        pytest.skip("Landlock holds signals since Linux 6.12")
    done = with_only(layer, f"import os, signal; os.kill({victim.pid}, signal.SIGKILL)")
    assert says in done.stderr and done.exit_code == 1
    assert victim.poll() is None


def test_without_its_layer_a_process_is_killed(victim):
    assert with_only("limits", f"import os, signal; os.kill({victim.pid}, signal.SIGKILL)").ok
    assert victim.wait(10) == -signal.SIGKILL


@linux
def test_its_parent_is_nobody():
    assert with_only("namespaces", "import os; print(os.getpid(), os.getppid())").stdout == "1 0\n"


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("layer", "says"), [("landlock", "Permission denied"), ("audit", "not allow writing")]
)
def test_nothing_is_written_outside(outside, layer, says):
    for target in (outside / "made", outside / "secret"):
        done = with_only(layer, f"open({str(target)!r}, 'w').write('x')")
        assert says in done.stderr
    assert os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "the secret"


@pytest.mark.parametrize("layer", ["landlock", "audit"])
@pytest.mark.parametrize(
    "call", ["os.remove({})", "os.rename({}, 'mine')", "os.truncate({}, 0)", "os.link({}, 'mine')"]
)
def test_nothing_outside_is_changed(outside, layer, call):
    done = with_only(layer, f"import os; {call.format(repr(str(outside / 'secret')))}")
    assert done.exit_code == 1
    assert (outside / "secret").read_text() == "the secret"


def test_a_whole_tree_cannot_be_removed(outside):
    done = run(f"import shutil; shutil.rmtree({str(outside)!r})")
    assert done.exit_code == 1 and (outside / "secret").exists()


@pytest.mark.parametrize(
    ("layer", "says"), [("landlock", "Permission denied"), ("audit", "not allow reading")]
)
def test_nothing_is_read_outside(outside, layer, says):
    done = with_only(layer, f"print(open({str(outside / 'secret')!r}).read())")
    assert says in done.stderr and "secret\n" not in done.stdout


def test_without_its_layer_files_are_read_and_written(outside):
    name = str(outside / "secret")
    assert with_only("limits", f"print(open({name!r}).read()); open({name!r}, 'w').write('mine')").ok
    assert (outside / "secret").read_text() == "mine"


@pytest.mark.parametrize("layer", ["landlock", "limits"])
def test_links_lead_nowhere(outside, layer):
    """Through a link nothing is written; what is cleaned up afterwards is the link, not what it points to."""
    inner = outside / "inner"
    inner.mkdir(mode=0o755)
    (inner / "file").write_text("untouched")
    (inner / "file").chmod(0o640)
    code = f"import os; os.symlink({str(inner)!r}, 'door'); os.symlink({str(inner / 'file')!r}, 'file')\n"
    code += "os.mkdir('locked'); os.symlink('../door', 'locked/door'); os.chmod('locked', 0)\n"
    done = with_only(layer, code + ("open('door/made', 'w')" if layer == "landlock" else "print('made')"))
    assert "Permission denied" in done.stderr or done.stdout == "made\n"
    assert os.listdir(inner) == ["file"] and (inner / "file").read_text() == "untouched"
    assert stat.S_IMODE((inner / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE(inner.stat().st_mode) == 0o755


def test_the_belt_allows_no_links(outside):
    assert "not allow os.symlink" in run(f"import os; os.symlink({str(outside)!r}, 'door')").stderr


@pytest.mark.parametrize("depth", [300, 1500])
def test_folders_that_resist_vanish(depth):
    code = (
        f"import os; print(os.getcwd(), flush=True)\nfor _ in range({depth}): os.mkdir('d'); os.chdir('d')\n"
    )
    code += "os.chdir('..'); os.chmod('d', 0)\nimport time; time.sleep(0.3)"
    done = with_only("limits", code)
    assert done.stopped in (None, "files") and not os.path.exists(done.stdout.strip())
    assert done.stopped == "files" or depth < 1000


def test_a_folder_that_hides_its_files_counts_as_full():
    if os.geteuid() == 0:
        pytest.skip("nothing is hidden from root")
    assert run("import os, time; os.mkdir('d'); os.chmod('d', 0o300); time.sleep(5)").stopped == "files"


# ------------------------------------------------------------------------------------- secrets, network


def test_secrets_of_the_environment_stay_here(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the secret")
    done = run("import os; print(sorted(os.environ))")
    assert done.ok and "secret" not in run("import os; print(os.environ)").stdout
    assert set(eval(done.stdout)) <= {"HOME", "TMPDIR", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}


@linux
@pytest.mark.parametrize("layer", ["landlock", "audit"])
def test_nor_are_they_read_from_this_process(layer):
    done = with_only(layer, f"print(open('/proc/{os.getpid()}/environ').read())")
    assert done.exit_code == 1 and not done.stdout


@pytest.mark.parametrize(
    ("layer", "says"),
    [("namespaces", "is unreachable"), ("landlock", "Permission denied"), ("audit", "not allow socket.")],
)
def test_there_is_no_network(listener, layer, says):
    """Not even this machine's own."""
    if layer == "landlock" and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 7):
        pytest.skip("Landlock holds TCP since Linux 6.7")
    done = with_only(layer, f"import socket; socket.create_connection({listener.getsockname()!r}, 5)")
    assert says in done.stderr and done.exit_code == 1


def test_without_its_layer_there_is_a_network(listener):
    accepted = threading.Thread(target=listener.accept)
    accepted.start()
    assert with_only("limits", f"import socket; socket.create_connection({listener.getsockname()!r}, 5)").ok
    accepted.join(10)
    assert not accepted.is_alive()


def test_names_are_not_resolved():
    done = run("import socket; socket.gethostbyaddr('127.0.0.1')")
    assert "not allow socket." in done.stderr


def test_a_python_that_cannot_start_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="could not start"):
        run("print(1)")


def test_all_layers_are_known():
    assert LAYERS == ("limits", "namespaces", "landlock", "audit")
