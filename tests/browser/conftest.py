"""Views in a real browser: pages of HTML, and a real JupyterLab. Nothing may leave this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tinyphi.show import View


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture
def static(page: Any, tmp_path: Path) -> Callable[[View], Any]:
    """Open a view's HTML face as a file and return the page."""

    def show(view: View) -> Any:
        file = tmp_path / "view.html"
        file.write_text(f"<!doctype html><meta charset=utf-8><body>{view.html()}</body>", encoding="utf-8")
        page.goto(file.as_uri())
        page.wait_for_selector(".tinyphi-view")
        return page

    return show


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab: its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    settings = {name: str(folder / name) for name in ("config", "runtime")}
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')  # or JupyterLab asks whether to fetch news
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": settings["config"],
        "JUPYTER_RUNTIME_DIR": settings["runtime"],
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield _address(process, Path(settings["runtime"]), folder / "log"), folder
    finally:
        process.terminate()
        process.wait(20)


def _address(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    for _ in range(600):
        for file in runtime.glob("jpserver-*.json"):
            return str(json.loads(file.read_text())["url"])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def lab(server: tuple[str, Path], page: Any) -> Callable[[str], Any]:
    """Run code in a cell of a new notebook in JupyterLab and return the page that shows its output."""
    address, folder = server

    def run(code: str) -> Any:
        name = f"view-{time.monotonic_ns()}.ipynb"
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / name)
        page.set_default_timeout(90_000)
        page.goto(f"{address}lab/tree/{name}?reset")
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'"
        )
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_selector(".tinyphi-view, .jp-OutputArea-output pre")
        return page

    return run


@pytest.fixture
def in_page(static: Callable[[View], Any]) -> Callable[[str], Any]:
    """What `lab` does, in a page of HTML: open the view that is the last line of some code."""

    def run(code: str) -> Any:
        *lines, last = code.strip().splitlines()
        names: dict[str, Any] = {}
        exec("\n".join(lines), names)
        return static(eval(last, names))

    return run


@pytest.fixture
def milliseconds() -> Callable[[Any, str, float], float]:
    """How long a view's script works when a slider is set to a value, drawing by the browser included."""

    def measure(page: Any, testid: str, value: float) -> float:
        return float(
            page.evaluate(
                """([testid, value]) => new Promise((done) => {
                    const input = document.querySelector(`[data-testid="${testid}"]`);
                    const before = performance.now();
                    input.value = value;
                    input.dispatchEvent(new Event("input"));
                    requestAnimationFrame(() => setTimeout(() => done(performance.now() - before)));
                })""",
                [testid, value],
            )
        )

    return measure
