"""The process that forks, and the small inputs of every command."""

from __future__ import annotations

import pytest
from forked import Forks
from small_commands import make_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attack") / "in"
    make_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def forks(inputs):
    with Forks(inputs) as server:
        yield server
