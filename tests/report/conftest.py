"""Fixtures that the tests of reports share."""

import pytest

from raysynth.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))
