"""The pages, built once as on a machine without the model."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "extensions"))

KEPT = '<div class="tinyphi-view" style="height:777px" id="kept">kept by a test run</div>'


def first_view(notebook):
    """The digest of the first output of a notebook that has a picture."""
    cells = json.loads((ROOT / f"notebooks/{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            return "".join(output["data"]["text/plain"])
    raise LookupError(notebook)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the built pages. Warnings are errors; one view of notebook 03 was kept by a test run."""
    folder = tmp_path_factory.mktemp("docs")
    views = folder / "views"
    views.mkdir()
    name = hashlib.sha256(first_view("03_rmsnorm").encode()).hexdigest()[:16]
    (views / f"{name}.html").write_text(KEPT, encoding="utf-8")
    environment = {
        **os.environ,
        "TINYPHI_KEEP_VIEWS": str(views),
        "TINYPHI_CACHE": str(folder / "empty"),
        "TINYPHI_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(folder / "trees"),
    ]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"
