"""The house rule: imports run downward between the rooms; and `import tinyphi` costs almost nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinyphi

PACKAGE = Path(tinyphi.__file__).parent
# A module may import rooms of a lower floor, or of its own room. `tokenizer` and `quant` stand below
# `weights`: loading a model can quantize it on the way.
FLOORS = [
    {"errors", "files", "longrope_factors"},
    {"config", "kernels"},
    {"model"},
    {"tokenizer", "quant"},
    {"weights"},
    {"generation", "longcontext"},
    {"data"},
    {"safety"},  # below evaluation and training, which use the filter
    {"evaluate"},  # below training, which measures what it makes
    {"train"},
    {"course", "doctor", "bench"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SEEN_BY_SHOW = {"tinyphi.errors", "tinyphi.model.trace"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def imports(tree):
    """Every tinyphi module that is imported anywhere in the file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tinyphi."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinyphi":
            if node.module == "tinyphi":
                yield from (
                    f"tinyphi.{alias.name}" for alias in node.names if alias.name in {*FLOOR_OF, "show"}
                )
            else:
                yield node.module


def violations(room, source):
    for module in imports(ast.parse(source)):
        target = module.split(".")[1]
        if target == room:
            continue
        if room == "show":
            if module not in SEEN_BY_SHOW:
                yield module
        elif target == "show" or FLOOR_OF[target] >= FLOOR_OF[room]:
            yield module


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_downward(path):
    assert list(violations(room_of(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("model", "from tinyphi.weights.load import load"),
        ("config", "def f():\n    import tinyphi.model.rope"),
        ("tokenizer", "from tinyphi.weights.gguf import GGUFFile"),
        ("show", "from tinyphi.model.transformer import Phi3"),
        ("generation", "from tinyphi import course"),
    ],
)
def test_a_planted_upward_import_is_noticed(room, source):
    assert list(violations(room, source))


def test_importing_tinyphi_imports_no_torch():
    program = "import sys, tinyphi; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


@pytest.mark.parametrize("name", tinyphi.__all__)
def test_every_public_name_resolves(name):
    assert getattr(tinyphi, name) is not None
    assert name in dir(tinyphi)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = tinyphi.lod
