"""Tests of recipes/icefall with the real k2: `make test-k2` runs them.

Without k2 nothing is collected, and then pytest fails.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "recipes" / "icefall")]

if find_spec("k2") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _fresh():
    """Forget after each test what a recipe remembers between batches."""
    from dlm_rescore import dump, posteriors, stage  # noqa: PLC0415

    stage._tested.clear()
    yield
    dump.close_dumps()
    posteriors.close_archives()
