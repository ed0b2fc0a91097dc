"""recipes/an4/run.sh, command by command in this process, on tones instead of AN4."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_speech import RATE, TEXTS, spoken

from rescore.cli import cli

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "an4"
TINY = "--width=16 --layers=1 --heads=2 --feed-forward=24 --steps=2 --speeds=1"


@pytest.fixture(scope="module")
def an4(tmp_path_factory):
    """A folder like AN4: tables with speaker and seconds, FLAC files."""
    import soundfile  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("an4")
    for half, texts in (("train", TEXTS), ("test", [*TEXTS[:2], "bb a"])):
        (folder / half).mkdir()
        rows = []
        for number, text in enumerate(texts):
            audio = spoken(text, number)
            soundfile.write(folder / half / f"{half}{number}.flac", audio, RATE)
            rows.append(f"{half}{number}\tspeaker\t{len(audio) / RATE:.3f}\t{text}\n")
        (folder / f"{half}.tsv").write_text("".join(rows))
    return folder


def commands_of(an4: Path, output: Path, tmp_path: Path, **variables: str) -> list[list[str]]:
    """What run.sh would run, in order: `dlmrescore` and `python` are replaced by a recorder."""
    recorder = tmp_path / "bin" / "dlmrescore"
    recorder.parent.mkdir()
    record = f"{json.dumps(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    for name in ("dlmrescore", "python"):
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\n{record} {name} "$@" >> "{tmp_path}/commands"\n')
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{recorder.parent}{os.pathsep}{os.environ['PATH']}",
        "AN4": str(an4),
        "EXP": str(output),
        "TRAIN": TINY,
        "COUNT": "3",
        "DEV": "2",
        **variables,
    }
    shell = shutil.which("bash")
    assert shell is not None
    subprocess.run([shell, RECIPE / "run.sh"], env=environment, check=True)
    return [json.loads(line) for line in (tmp_path / "commands").read_text().splitlines()]


def run(program: str, *arguments: str) -> None:
    if program == "dlmrescore":
        done = CliRunner().invoke(cli, list(arguments))
        assert done.exit_code == 0, f"{arguments}\n{done.output}"
    else:
        script, *rest = arguments
        old, sys.argv = sys.argv, [script, *rest]
        try:
            runpy.run_path(script, run_name="__main__")
        finally:
            sys.argv = old


@pytest.mark.slow
def test_the_recipe_goes_from_audio_to_significance(an4, tmp_path):
    output = tmp_path / "exp"
    for command in commands_of(an4, output, tmp_path):
        run(*command)
    record = json.loads((output / "am+ngram+mdlm_pll.eval.json").read_text())
    assert record["utterances"] == 3
    unseen = json.loads((output / "unseen" / "am+ngram+ar.eval.json").read_text())
    assert unseen["utterances"] == 1  # the others' texts are training texts
    [best] = map(json.loads, (output / "unseen" / "am+ngram+ar.jsonl").read_text().splitlines())
    assert best["ref"] == "bb a"
    assert {"am", "ngram", "ar", "usdm_pll", "mdlm_pll", "total"} <= set(best["hyps"][0]["scores"])


def test_dev_is_the_beginning_of_train(an4, tmp_path):
    run("python", str(RECIPE / "manifests.py"), str(an4), "--dev", "2", "-o", str(tmp_path))
    parts = {
        part: [line.split("\t") for line in (tmp_path / f"{part}.tsv").read_text().splitlines()]
        for part in ("dev", "train", "test")
    }
    assert [row[0] for row in parts["dev"]] == ["train0", "train1"]
    assert [row[2] for row in parts["train"]] == TEXTS[2:]
    assert all(Path(row[1]).is_file() for rows in parts.values() for row in rows)
    assert (tmp_path / "test.text").read_text() == "test0 ab\ntest1 ba\ntest2 bb a\n"
