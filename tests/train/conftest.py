"""What the tests of training share: the small run that can also be killed."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_run():
    """The module `killed_run`: `small_run.make_trainer(folder)` and `small_run.PLAN`."""
    spec = importlib.util.spec_from_file_location("killed_run", Path(__file__).with_name("killed_run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
