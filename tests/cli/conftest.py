"""Fixtures of the tests of commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import (
    RECORDS,
    Done,
    good,
    write,
)
from small import save_small

from rescore.cli import main


@pytest.fixture
def dlm(capsys, monkeypatch):
    """Run a command in this process."""

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(stopped.value.code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: save_small(root / objective, objective) for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for the test to work in, so that messages name files as a user types them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scored(folder, dlm, models):
    """dev.jsonl and test.jsonl: equal texts, other ids, the scores `ar` and `mdlm_nelbo`."""
    for half, prefix in (("dev", "d"), ("test", "t")):
        write("bare.jsonl", [{**record, "id": prefix + record["id"]} for record in RECORDS])
        good(
            dlm("score", "bare.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "ar.jsonl")
        )
        nelbo = ["--estimator", "nelbo", "--draws", 4]
        good(dlm("score", "ar.jsonl", *nelbo, "--model", models["mdlm"], "-o", f"{half}.jsonl"))
    for name in ("bare.jsonl", "ar.jsonl"):
        Path(name).unlink()
