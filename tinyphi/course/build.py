"""`tinyphi course build`: folders for a class, made from the notebooks.

A folder is made under a temporary name and then renamed, so that it is complete or not there. A build may be
repeated: the file `.tinyphi-build.json` says what it made, and only a folder that holds nothing else, and
nothing changed, is replaced.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tinyphi
from tinyphi.errors import InputError

RECORD = ".tinyphi-build.json"
_LEFT_BEHIND = {".ipynb_checkpoints", "__pycache__", ".DS_Store"}  # by Jupyter, Python and macOS

Notebooks = Mapping[str, Any]  # file name without .ipynb → notebook


def build(
    targets: Mapping[str, Path],
    *,
    notebooks: Path | None = None,
    package: str | None = None,
    reveal: Path | None = None,
) -> dict[str, int]:
    """Make folders for a class; return how many notebooks came into each.

    `targets` says where, for any of student, instructor, nbgrader, slides and colab; `notebooks` is the
    folder to take them from (default: the course's own), `package` the address from which Colab installs
    tinyphi, `reveal` a folder of reveal.js for the slides. Raises InputError for a target that cannot be
    used, before anything is written.
    """
    if find_spec("nbformat") is None:
        raise InputError('Notebooks need nbformat: pip install "tinyphi[teach]" brings it.')
    home = notebooks or source_notebooks()
    makers = _makers(package, reveal)
    places = {kind: target.expanduser().resolve() for kind, target in targets.items()}
    _refuse_overlap(list(places.values()))
    for place in places.values():
        _refuse_foreign(place)
    counts = {}
    try:
        with ExitStack() as stack:
            finished = {}
            for kind, place in places.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                workshop = TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent)
                folder = Path(stack.enter_context(workshop)) / "new"
                folder.mkdir()
                counts[kind] = makers[kind](_read(home), folder)
                _record(folder)
                finished[folder] = place
            for folder, place in finished.items():
                _put(folder, place)
    except OSError as error:
        raise InputError(f"The folder cannot be written ({error}). Name another one.") from error
    return counts


def _makers(package: str | None, reveal: Path | None) -> dict[str, Callable[[Notebooks, Path], int]]:
    """What fills an empty folder with each kind of build, and says how many notebooks went in."""
    from tinyphi.course import editions

    return {
        "student": _changed(editions.student),
        "instructor": _changed(editions.instructor),
        "colab": _changed(lambda notebook: editions.colab(notebook, package)),
        "nbgrader": _nbgrader,
        "slides": lambda notebooks, folder: _slides(notebooks, folder, reveal),
    }


def source_notebooks() -> Path:
    """The folder of the course's notebooks: of the installed package, or of the source checkout."""
    package = Path(tinyphi.__file__).parent
    installed = package / "notebooks"
    return installed if installed.is_dir() else package.parent / "notebooks"


def _read(home: Path) -> Notebooks:
    from tinyphi.course.author import read

    paths = sorted(home.glob("*.ipynb"))
    if not paths:
        raise InputError(f"There are no notebooks in {home}.")
    return {path.stem: read(path) for path in paths}


def _changed(change: Callable[[Any], None]) -> Callable[[Notebooks, Path], int]:
    """A maker that saves each notebook after a change."""

    def make(notebooks: Notebooks, folder: Path) -> int:
        from tinyphi.course.author import save

        for name, notebook in notebooks.items():
            change(notebook)
            save(notebook, folder / f"{name}.ipynb")
        return len(notebooks)

    return make


def _nbgrader(notebooks: Notebooks, folder: Path) -> int:
    from tinyphi.course.author import save
    from tinyphi.course.grading import CONFIG, assignment

    graded = {name: notebook for name, notebook in notebooks.items() if assignment(notebook)}
    if not graded:
        raise InputError("None of the notebooks has an exercise, so there is nothing for nbgrader to grade.")
    for name, notebook in graded.items():
        place = folder / "source" / name
        place.mkdir(parents=True)
        save(notebook, place / f"{name}.ipynb")
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    return len(graded)


def _slides(notebooks: Notebooks, folder: Path, reveal: Path | None) -> int:
    from tinyphi.course.author import sync
    from tinyphi.course.slides import copy_reveal, find_reveal, to_html

    copy_reveal(find_reveal(reveal), folder)
    for name, notebook in notebooks.items():
        sync(notebook)
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ") if notebook.cells else name
        (folder / f"{name}.html").write_text(to_html(notebook, title), encoding="utf-8")
    return len(notebooks)


def _refuse_overlap(places: list[Path]) -> None:
    for place in places:
        if Path.cwd().is_relative_to(place):
            raise InputError(f"{place} is the folder in which you are. Name a new one.")
        if sum(place.is_relative_to(other) for other in places) > 1:
            raise InputError(f"{place} is asked for twice, or lies in another one. Name separate folders.")


def _refuse_foreign(place: Path) -> None:
    """InputError if something is there that a build did not make, or that was changed since."""
    if place.exists() and not place.is_dir():
        raise InputError(f"{place} is a file. Name a folder.")
    if not place.is_dir():
        return
    try:
        made = dict(json.loads((place / RECORD).read_text(encoding="utf-8")))
        made[RECORD] = _fingerprint(place / RECORD)
    except (OSError, ValueError, TypeError):
        made = {}  # nothing in it is ours
    # Only files that the record names are read, and four are enough: the folder may be somebody's home.
    foreign = (n for n, path in _files(place) if n not in made or made[n] != _fingerprint(path))
    some = list(islice(foreign, 4))
    if some:
        names = ", ".join(some[:3]) + (" and more" if len(some) > 3 else "")
        raise InputError(
            f"{place} holds what no build has made, or what was changed since: {names}. Name a new folder."
        )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files and links in the folder, with their paths inside of it."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if not _LEFT_BEHIND.intersection(inside.parts) and (path.is_symlink() or not path.is_dir()):
            yield inside.as_posix(), path


def _fingerprint(path: Path) -> str:
    """The SHA-256 of a file; a link has none."""
    return "" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()


def _record(folder: Path) -> None:
    marks = {name: _fingerprint(path) for name, path in sorted(_files(folder))}
    (folder / RECORD).write_text(json.dumps(marks, indent=1), encoding="utf-8")


def _put(folder: Path, place: Path) -> None:
    """Rename the finished folder; a former build there goes away with the temporary folder."""
    if not place.exists():
        folder.rename(place)
        return
    former = folder.parent / "former"
    place.rename(former)
    try:
        folder.rename(place)
    except OSError:
        former.rename(place)
        raise
