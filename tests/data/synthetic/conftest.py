"""What the tests of this room share: one world."""

import pytest

from tinyphi.data.synthetic.world import World


@pytest.fixture(scope="session")
def world() -> World:
    return World()
