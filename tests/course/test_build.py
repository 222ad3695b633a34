"""Folders for a class: what is in them, and that nothing else is ever overwritten."""

import json
import re

import nbformat
import pytest

import tinyphi
from tinyphi.course import slides
from tinyphi.course.build import RECORD, build, source_notebooks
from tinyphi.course.editions import without_solutions
from tinyphi.errors import InputError

NAME = "90_tiny.ipynb"


@pytest.fixture
def make(tiny_course, tmp_path):
    """Build one kind; return its folder."""

    def make(kind, **more):
        folder = tmp_path / kind
        build({kind: folder}, notebooks=tiny_course, **more)
        return folder

    return make


def read(folder):
    return nbformat.read(folder / NAME, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_students_get_stubs_and_no_answers(make, tiny_exercises):
    notebook = read(make("student"))
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_of(notebook))
    assert "widgets" not in notebook.metadata
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "Solution" not in text
    assert "much more" not in text  # a fold inside the fold
    assert "It is odd" in text
    for exercise in (tiny_exercises.first, tiny_exercises.second, tiny_exercises.third):
        assert exercise.stub_source in text
        assert exercise.solution_source not in text


def test_a_solved_notebook_becomes_a_stub_again(tiny_course, tiny_exercises, make):
    notebook = nbformat.read(tiny_course / NAME, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(
            tiny_exercises.first.stub_source, tiny_exercises.first.solution_source
        )
    nbformat.write(notebook, tiny_course / NAME)
    assert "x + x\n" not in "".join(cell.source for cell in code_of(read(make("student"))))


def test_the_instructor_gets_solutions_and_what_the_checks_say(make, tiny_exercises):
    notebook = read(make("instructor"))
    nbformat.validate(notebook)
    assert [output.data["text/plain"] for cell in code_of(notebook) for output in cell.outputs] == ["43"]
    for exercise in (tiny_exercises.first, tiny_exercises.second, tiny_exercises.third):
        place = next(
            number
            for number, cell in enumerate(notebook.cells)
            if cell.cell_type == "code" and exercise.name in cell.source
        )
        assert exercise.solution_source in notebook.cells[place].source
        assert "your code" not in notebook.cells[place].source
        note = notebook.cells[place + 1].source
        assert f"{'★' * exercise.difficulty}{'☆' * (3 - exercise.difficulty)}" in note
        assert f"{exercise.minutes} minutes" in note
        for name, wrong in exercise.wrong_answers.items():
            assert f"- **{name}**: " in note
            assert wrong.says in note
    assert "You square instead of doubling." in "".join(cell.source for cell in notebook.cells)


def test_the_instructors_cells_run(make, tiny_exercises):
    scope = {}
    for cell in code_of(read(make("instructor"))):
        exec(cell.source.replace("tinyphi.course.check", "passed = tinyphi.course.check"), scope)
    assert scope["passed"]


def test_colab_installs_first_and_only_there(make):
    notebook = read(make("colab", package="git+https://example.org/tinyphi"))
    nbformat.validate(notebook)
    setup = notebook.cells[1].source
    assert "Colab" in notebook.cells[0].source
    assert 'pip install -q "tinyphi[reference] @ git+https://example.org/tinyphi"' in setup
    assert "enable_custom_widget_manager" in setup
    exec(setup.replace("%pip", "pip = None  # "), {})  # outside of Colab it does nothing
    assert notebook.cells[2].source.startswith("# Tiny things")


@pytest.mark.parametrize("package", [None, "tinyphi", 'git+https://x" && rm -rf "', "https://a b"])
def test_colab_needs_an_address(make, package):
    with pytest.raises(InputError, match=r"--package git\+https"):
        make("colab", package=package)


def test_slides_take_nothing_from_elsewhere(make):
    pytest.importorskip("sphinx_revealjs")
    folder = make("slides")
    page = (folder / "90_tiny.html").read_text(encoding="utf-8")
    loaded = re.findall(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']([^"']*)""", page)
    assert loaded
    for address in loaded:
        assert (folder / address).is_file(), address
    assert not re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", page)
    styles = [
        path.read_text(encoding="utf-8") for path in (folder / "reveal.js" / "dist").glob("reveal*.css")
    ]
    assert not re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", "".join(styles))
    assert "<title>Tiny things slides</title>" in page
    assert "<math" in page
    assert "<msqrt>" in page
    assert "$x$" in page  # code is no formula
    assert "widget-view" not in page
    assert page.count("<section") == page.count("</section>")


def test_headings_begin_slides_and_answers_wait(tiny_course):
    notebook = nbformat.read(tiny_course / NAME, as_version=4)
    found = [
        (cell.source.split("\n")[0], cell.metadata.slideshow.slide_type)
        for cell in slides._in_slides(notebook).cells
    ]
    assert found[:6] == [
        ("# Tiny things", "slide"),
        ("import torch", "subslide"),  # the title has a slide to itself
        ("**Predict** the next number.", "subslide"),
        ("42 + 1", "subslide"),  # the answer to a prediction stands on its own slide
        (found[4][0], "subslide"),
        ("## Exercises", "slide"),
    ]
    assert found[6:8] == [("### Twice as much", "subslide"), ("def double(x):", "-")]
    assert "slideshow" not in notebook.cells[0].metadata  # the notebook itself is as it was


def test_another_reveal_can_be_named(make, tmp_path):
    with pytest.raises(InputError, match=r"dist/reveal\.js, dist/reveal\.css"):
        make("slides", reveal=tmp_path)
    for name in slides.NEEDED:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(f"my {name}")
    folder = make("slides", reveal=tmp_path / "mine")
    assert (folder / "reveal.js" / "dist" / "reveal.js").read_text() == "my dist/reveal.js"


@pytest.mark.parametrize(
    ("kind", "module"), [("nbgrader", "nbgrader"), ("slides", "sphinx_revealjs"), ("student", "nbformat")]
)
def test_what_is_missing_is_named(make, monkeypatch, kind, module):
    def find(name):
        return None if name == module else object()

    for home in ("build", "grading", "slides"):
        monkeypatch.setattr(f"tinyphi.course.{home}.find_spec", find)
    with pytest.raises(InputError, match=r'pip install "tinyphi\[teach\]"'):
        make(kind)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("no fold", "no fold"),
        ("a\n<details><summary>Solution</summary>x</details>\nb", "a\nb"),
        ("a <DETAILS class='s'>\n<summary>Our solutions</summary>x</DETAILS>", "a\n"),
        ("<details><summary>Solution</summary>x</details><details><summary>Hint</summary>y</details>",
         "\n<details><summary>Hint</summary>y</details>"),
        ("<details><summary>Hint</summary>a <details><summary>Solution</summary>x</details> b</details>",
         "<details><summary>Hint</summary>a\n b</details>"),
        ("a <details><summary>Solution</summary>never closed", "a "),
        ("<details><summary>Dissolution</summary>x</details>",
         "<details><summary>Dissolution</summary>x</details>"),
    ],
)  # fmt: skip
def test_folded_solutions_go(text, kept):
    assert without_solutions(text) == kept


def test_several_at_once_and_again(tiny_course, tmp_path):
    targets = {"student": tmp_path / "new" / "s", "instructor": tmp_path / "new" / "i"}
    assert build(targets, notebooks=tiny_course) == {"student": 1, "instructor": 1}
    first = read(targets["student"])
    (targets["student"] / ".ipynb_checkpoints").mkdir()
    assert build(targets, notebooks=tiny_course) == {"student": 1, "instructor": 1}
    assert read(targets["student"]) == first  # nothing in it changes from build to build
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["i", "s"]  # nothing left over


def test_an_empty_folder_is_filled(tiny_course, tmp_path):
    (tmp_path / "empty").mkdir()
    build({"student": tmp_path / "empty"}, notebooks=tiny_course)
    assert (tmp_path / "empty" / NAME).is_file()


def lost_record(folder):
    (folder / RECORD).unlink()


def changed_notebook(folder):
    (folder / NAME).write_text("my own work")


def added_file(folder):
    (folder / "gradebook.db").write_text("a year's grades")


def broken_record(folder):
    (folder / RECORD).write_text("[1]")


def forged_record(folder):
    (folder / "mine.txt").write_text("mine")
    (folder / RECORD).write_text(json.dumps({"mine.txt": "", NAME: ""}))


@pytest.mark.parametrize("change", [lost_record, changed_notebook, added_file, broken_record, forged_record])
def test_the_work_of_others_stays(make, change):
    folder = make("student")
    change(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="changed since"):
        make("student")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_bad_folders_are_refused_before_anything_is_written(tiny_course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    good = tmp_path / "good"
    for other, says in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "cannot be written"),
        (good, "twice"),
        (good / "below", "another one"),
        (tiny_course, "changed since"),
        (tmp_path, "in which you are"),
    ):
        with pytest.raises(InputError, match=says):
            build({"instructor": other, "student": good}, notebooks=tiny_course)
        assert not good.exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "notebooks"]


def test_a_broken_notebook_is_named(tiny_course, tmp_path):
    (tiny_course / "91_broken.ipynb").write_text("{")
    with pytest.raises(InputError, match=r"91_broken\.ipynb is not a notebook"):
        build({"student": tmp_path / "s"}, notebooks=tiny_course)
    with pytest.raises(InputError, match="no notebooks"):
        build({"student": tmp_path / "s"}, notebooks=tmp_path / "nowhere")


def test_a_notebook_without_exercises_is_no_assignment(tmp_path):
    pytest.importorskip("nbgrader")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / NAME)
    with pytest.raises(InputError, match="nothing for nbgrader"):
        build({"nbgrader": tmp_path / "n"}, notebooks=tmp_path)


def test_the_courses_own_notebooks_are_found(tmp_path, monkeypatch):
    assert (source_notebooks() / "00_start_here.ipynb").is_file()
    (tmp_path / "tinyphi" / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(tinyphi, "__file__", str(tmp_path / "tinyphi" / "__init__.py"))
    assert source_notebooks() == tmp_path / "tinyphi" / "notebooks"


def test_the_whole_course_can_be_built(tmp_path):
    kinds = ["student", "instructor", "colab", "slides"]
    counts = build({kind: tmp_path / kind for kind in kinds}, package="https://example.org/tinyphi.whl")
    assert set(counts.values()) == {len(list(source_notebooks().glob("*.ipynb")))}
    for path in (tmp_path / "student").glob("*.ipynb"):
        assert "<summary>Solution" not in path.read_text(encoding="utf-8")
