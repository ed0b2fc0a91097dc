"""A folder of its own for every test, small chunks, and small models."""

from __future__ import annotations

import pytest
from small import save_small


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: str(save_small(root / objective, objective))
        for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 12)
