"""What all tests share: a progress file, a place for views, a browser, a hub, seconds of each notebook."""

import importlib.util
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from tinyphi.config import PhiConfig
    from tinyphi.model.transformer import Phi3
    from tinyphi.tokenizer import Tokenizer

GOAL = (
    60  # seconds for a notebook on two cores. Shared machines are slow, so only the cell timeout is enforced.
)

# For this process and for the kernels that nbval starts. What tests try is nobody's progress; the views of
# the notebooks are kept for the pages of the documentation, which are built without running anything again.
os.environ["TINYPHI_PROGRESS"] = str(Path(tempfile.mkdtemp(prefix="tinyphi-")) / "progress.json")
os.environ["TINYPHI_KEEP_VIEWS"] = str(Path(__file__).parents[1] / "docs" / "_build" / "views")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")
# JupyterLab's own complaints, which say nothing about a view.
HARMLESS = re.compile(
    r"favicon|ResizeObserver loop|service worker|source map|was preloaded using link preload"
)


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, which must not outlive the module
def chromium() -> Iterator[Any]:
    """A running browser. Without chromium: skipped on a learner's machine, an error in `.ci/run`."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        reason = "no chromium on this machine; on Debian: apt-get install chromium"
        if os.environ.get("TINYPHI_NEED_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page. After the test: no error on the console, no request to another machine."""
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    errors: list[str] = []
    elsewhere: list[str] = []

    def watch(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in (
            "127.0.0.1",
            "localhost",
        ):
            elsewhere.append(request.url)

    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", watch)
    page.set_default_timeout(30_000)
    yield page
    page.close()
    assert [error for error in errors if not HARMLESS.search(error)] == []
    assert elsewhere == []


@pytest.fixture(scope="session")
def small_config() -> "PhiConfig":
    """The shape of a model that is run in a blink, with grouped heads and no special tokens."""
    from tinyphi.config import PhiConfig

    return PhiConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        original_max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


@pytest.fixture(scope="session")
def make_model(small_config: "PhiConfig") -> "Callable[..., Phi3]":
    """Makes models of that shape, or a changed one, with weights that hide nothing."""
    from dataclasses import replace

    import torch

    from tinyphi.model.transformer import Phi3

    def make(**changes: Any) -> Phi3:
        torch.manual_seed(3)
        model = Phi3(replace(small_config, **changes)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_((1.0 if "norm" in name else 0.0) + 0.3 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture(scope="session")
def world_tokenizer() -> "Tokenizer":
    """A vocabulary of the small world's texts, with Phi-3's special tokens: 2,048 in all."""
    from tinyphi.train.recipes.data_quality import vocabulary

    return vocabulary()


@pytest.fixture
def serve_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """(repository, files, kind) → the state of a stand-in for the hub, which tinyphi then asks."""
    place = Path(__file__).with_name("stand_in_hub.py")
    spec = importlib.util.spec_from_file_location("stand_in_hub", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.delenv("TINYPHI_OFFLINE", raising=False)
    with ExitStack() as servers:

        def serve(*what: Any) -> Any:
            address, state = servers.enter_context(module.serve(*what))
            monkeypatch.setenv("HF_ENDPOINT", address)
            return state

        yield serve


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.fspath.endswith(".ipynb"):
                seconds[PurePosixPath(report.fspath).name] += report.duration
    if seconds:
        terminalreporter.section("seconds per notebook")
    for name, spent in sorted(seconds.items()):
        note = f"  longer than the goal of {GOAL} s on two free cores" if spent > GOAL else ""
        terminalreporter.write_line(f"{spent:7.1f}  {name}{note}")
