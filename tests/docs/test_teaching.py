"""docs/teaching.md names what there is, and the settings for Binder and JupyterHub can be read."""

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tinyphi.course.command import _parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def test_every_command_is_understood():
    commands = re.findall(r"^tinyphi course (.*?)\s*(?:#.*)?$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert _parser().parse_args(shlex.split(command)).action == "build"


def test_every_notebook_is_in_both_plans():
    six, twelve = PAGE.split("## Six weeks")[1].split("## Time and memory")[0].split("## Twelve weeks")
    goals = PAGE.split("## Six weeks")[0]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        number = path.name[:2]
        assert f"\n| {number} |" in goals, path.name
        for plan in (six, twelve):
            cells = [
                row.split("|")[2] for row in re.findall(r"^\| +\d+ \|.*$|^\| \d+ \|.*$", plan, re.MULTILINE)
            ]
            assert any(number in cell for cell in cells), path.name


def test_the_files_that_are_named_exist():
    for name in re.findall(r"`(\.[\w./-]+|tinyphi/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_binder_and_jupyterhub_settings_can_be_read():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    torch = re.search(r'"torch(.*?)"', project)[1]
    assert f"pytorch-cpu{torch}" in environment["dependencies"]  # the range that tinyphi allows
    values = yaml.safe_load((ROOT / ".jupyterhub" / "zero-to-jupyterhub.yaml").read_text(encoding="utf-8"))
    assert values["singleuser"]["memory"] == {"guarantee": "1G", "limit": "3G"}

    class Config:
        class Spawner:
            environment = {}  # noqa: RUF012 – traitlets gives one of its own

    source = (ROOT / ".jupyterhub" / "tljh_environment.py").read_text(encoding="utf-8")
    exec(source, {"get_config": lambda: Config})
    assert Config.Spawner.environment["TINYPHI_OFFLINE"] == "1"


@pytest.mark.skipif(os.name != "posix", reason="looks at the executable bit")
@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binders_scripts_can_be_run(name):
    path = ROOT / ".binder" / name
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/bash\n")
