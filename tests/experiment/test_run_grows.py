"""`run --add` grows a folder; `run --cache` shares scores between folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_experiment import contents

import rescore
from rescore.cli import cli
from rescore.errors import FormatError


def run(folder, scorers, **options):
    return rescore.run("dev.jsonl", "test.jsonl", folder, scorers=scorers, draws=2, **options)


def test_a_folder_that_grows_ends_with_the_files_of_one_run(specs, monkeypatch):
    run("grown", specs[:1])
    journal = Path("grown/scores/dev.ar.journal")
    before = journal.read_bytes()
    with pytest.raises(FormatError, match="belongs to another experiment, with scorers"):
        run("grown", specs[:2])
    run("grown", specs[:2], grows=True)
    assert journal.read_bytes() == before  # nothing was scored again
    run("whole", specs[:2])
    assert contents(Path("grown")) == contents(Path("whole"))
    run("grown", specs[:2])  # the folder is that of the larger experiment now


def test_only_more_scorers_may_differ(specs):
    run("grown", specs[:2])
    for scorers, options in (
        (specs[:1], {}),  # fewer
        (specs, {"seed": 1}),
        ((specs[0], f"usdm_pll={specs[2].partition('=')[2]}"), {}),  # another of the same name
    ):
        with pytest.raises(FormatError, match="belongs to another experiment"):
            run("grown", scorers, grows=True, **options)
    card = json.loads(Path("grown/run.json").read_text())
    assert list(card["scorers"]) == ["ar", "usdm_pll"]


def test_runs_share_a_cache(specs):
    first = run("one", specs[:1], cache="cache")
    assert list(Path("cache").iterdir())
    second = run("two", specs[:1], cache="cache")
    assert first.table.splitlines()[:8] == second.table.splitlines()[:8]
    scored = [
        next(iter(rescore.read(f"{folder}/test.scored.jsonl"))).hyps[0].scores["ar"]
        for folder in ("one", "two")
    ]
    assert scored[0] == scored[1]


def test_the_command_adds_scorers(specs):
    argv = ["run", "--dev", "dev.jsonl", "--test", "test.jsonl", "--draws", "2", "-o", "grown"]
    argv += ["--scorers", specs[0]]
    for further in ([], ["--add", specs[1], "--cache", "cache"]):
        cli.main([*argv, *further], standalone_mode=False)
    card = json.loads(Path("grown/run.json").read_text())
    assert list(card["scorers"]) == ["ar", "usdm_pll"]
    assert [path.name.partition(".")[0] for path in Path("cache").iterdir()] != []
