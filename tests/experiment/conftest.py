"""Small models, the scorers made of them, and a folder with lists."""

from __future__ import annotations

import pytest
from small import save_small
from small_experiment import record, write


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: save_small(root / objective, objective) for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture(scope="module")
def specs(models):
    return (
        f"ar@{models['ar']}",
        f"usdm:pll@{models['usdm']}",
        f"again=mdlm:nelbo@{models['mdlm']}",
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for half in ("dev", "test"):
        write(f"{half}.jsonl", [record(half, number) for number in range(7)])
    return tmp_path
