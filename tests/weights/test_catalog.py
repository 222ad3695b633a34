"""The catalog's entries are well-formed and agree with the presets and with the real file."""

import hashlib
import re

import pytest

from tinyphi.config import PRESETS
from tinyphi.weights.catalog import CATALOG
from tinyphi.weights.fetch import fetch, is_fetched


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_an_entry_is_well_formed(entry):
    assert CATALOG[entry.name] is entry
    assert entry.config is PRESETS[entry.name]
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo)
    assert entry.licence in ("MIT", "Apache-2.0")
    assert entry.size > 0
    if entry.file is None:
        assert entry.size == entry.config.memory().weights
    for digest in (entry.sha256, entry.package and entry.package.sha256):
        assert digest is None or re.fullmatch(r"[0-9a-f]{64}", digest)


def test_the_real_file_is_the_one_that_was_promised():
    entry = CATALOG["smollm2-135m"]
    if not is_fetched(entry):
        pytest.skip("the model has not been fetched here")
    path = fetch(entry)
    assert path.stat().st_size == entry.size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
