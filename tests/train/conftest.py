"""Fixtures that the tests of training share."""

import pytest
from small_runs import prepared


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("text"))
