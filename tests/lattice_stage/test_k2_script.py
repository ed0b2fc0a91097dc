"""dlm_rescoring.sh from dumps to a fused test set, with icefall's habits: stages, options, files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dlm_rescore.dump import close_dumps
from k2_lattices import SENTENCES, hlg_lattice
from test_k2_dump import dump

import rescore

RECIPES = Path(__file__).parents[2] / "recipes" / "icefall"

#: What icefall's shared/parse_options.sh does, in short: --some-name value sets some_name.
PARSE_OPTIONS = 'while [ $# -gt 0 ]; do name=${1#--}; name=${name//-/_}; printf -v "$name" %s "$2"; shift 2; done\n'


@pytest.fixture
def recipe(tmp_path):
    """A folder like egs/librispeech/ASR with the dumps of stage 0."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "parse_options.sh").write_text(PARSE_OPTIONS)
    shutil.copy(RECIPES / "librispeech" / "dlm_rescoring.sh", tmp_path)
    lists = tmp_path / "exp" / "nbest-dump"
    lists.mkdir(parents=True)
    for seed, part in enumerate(["dev-clean", "dev-other", "test-clean", "test-other"]):
        for batch in range(2):
            ids = [f"{part}-{batch}-{i}" for i in range(3)]
            dump(lists / f"nbest-{part}-epoch-1_avg-1.jsonl", hlg_lattice(seed=10 * seed + batch, noise=3.0), ids, SENTENCES[:3])
    close_dumps()
    return tmp_path


def run(folder, *options):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{RECIPES}{os.pathsep}{RECIPES.parents[1]}"}
    command = [shutil.which("bash"), "dlm_rescoring.sh", "--exp-dir", "exp", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_from_dumps_to_the_fused_test_sets(recipe):
    done = run(recipe, "--stage", "1", "--stop-stage", "3", "--scorers", "usdm:pll mdlm:pll")
    assert done.returncode == 0, done.stderr
    folder = recipe / "exp" / "dlm-rescoring"
    weights = json.loads((folder / "fusion.json").read_text())
    assert list(weights["scales"]) == ["am", "ngram", "usdm_pll", "mdlm_pll"]
    assert weights["dev"]["utterances"] == 12
    for part in ("test-clean", "test-other"):
        best = list(rescore.read(folder / f"best-{part}.jsonl"))
        recogs = list(rescore.read(folder / f"recogs-{part}-dlm-rescoring.txt", "icefall-recogs"))
        assert [(nbest.id, nbest.ref, nbest.hyps[0].text) for nbest in best] == [(nbest.id, nbest.ref, nbest.hyps[0].text) for nbest in recogs]
        assert json.loads((folder / f"eval-{part}.json").read_text())["tuned_on"] == 0
    done = run(recipe, "--stage", "4")
    assert done.returncode == 1
    assert "icefall cannot be imported (No module named 'icefall'); put its checkout on PYTHONPATH" in done.stderr


def test_results_are_icefalls_files_and_a_block(recipe, monkeypatch, capsys):
    from dlm_rescore import results  # noqa: PLC0415

    assert run(recipe, "--stage", "1", "--stop-stage", "3", "--scorers", "usdm:pll").returncode == 0
    folder = recipe / "exp" / "dlm-rescoring"
    monkeypatch.setattr(results, "write_files", lambda _, part: {"nbest": 9.1 if part == "test-clean" else 20.25, "dlm-rescoring": 8.0})
    assert results.main([str(folder), "--decode", "./zipformer/ctc_decode.py --epoch 30"]) == 0
    text = (folder / "RESULTS-dlm-rescoring.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| nbest                | 9.1        | 20.25      | first pass |" in text
    assert "scales tuned on dev-clean + dev-other: am 1, ngram " in text
    assert "./zipformer/ctc_decode.py --epoch 30 --decoding-method nbest-dump" in text


def test_a_missing_or_a_second_dump_is_an_error(recipe):
    lists = recipe / "exp" / "nbest-dump"
    shutil.copy(lists / "nbest-dev-clean-epoch-1_avg-1.jsonl", lists / "nbest-dev-clean-epoch-2_avg-1.jsonl")
    done = run(recipe, "--stage", "1", "--stop-stage", "1", "--scorers", "usdm:pll")
    assert done.returncode == 1
    assert "expected one dump of dev-clean in exp/nbest-dump" in done.stderr
    done = run(recipe, "--stage", "1", "--stop-stage", "1", "--scorers", "usdm:pll", "--suffix", "-epoch-1_avg-1")
    assert done.returncode == 0, done.stderr
    (lists / "nbest-test-other-epoch-1_avg-1.jsonl").unlink()
    shutil.rmtree(recipe / "exp" / "dlm-rescoring")
    done = run(recipe, "--stage", "1", "--stop-stage", "1", "--scorers", "usdm:pll", "--suffix", "-epoch-1_avg-1")
    assert done.returncode == 1
    assert "expected one dump of test-other" in done.stderr
