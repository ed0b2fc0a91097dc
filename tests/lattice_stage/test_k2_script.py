"""dlm_rescoring.sh from dumps to a fused test set, in icefall's style: stages, options, files."""

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
PARSE_OPTIONS = (
    "while [ $# -gt 0 ]; do name=${1#--}; name=${name//-/_}; "
    'printf -v "$name" %s "$2"; shift 2; done\n'
)


SETS = ("--dev-sets", "dev-clean", "--test-sets", "test-clean")


def make_recipe(folder):
    """A folder like egs/librispeech/ASR with the dumps of stage 0."""
    (folder / "shared").mkdir()
    (folder / "shared" / "parse_options.sh").write_text(PARSE_OPTIONS)
    shutil.copy(RECIPES / "librispeech" / "dlm_rescoring.sh", folder)
    lists = folder / "exp" / "nbest-dump"
    lists.mkdir(parents=True)
    for seed, part in enumerate(["dev-clean", "test-clean"]):
        for batch in range(2):
            ids = [f"{part}-{batch}-{i}" for i in range(3)]
            dump(
                lists / f"nbest-{part}-epoch-1_avg-1.jsonl",
                hlg_lattice(seed=10 * seed + batch, noise=3.0),
                ids,
                SENTENCES[:3],
            )
    close_dumps()
    return folder


@pytest.fixture
def recipe(tmp_path):
    return make_recipe(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Stages 1 to 3 have run."""
    folder = make_recipe(tmp_path_factory.mktemp("recipe"))
    done = run(folder, *SETS, "--stage", "1", "--stop-stage", "3", "--scorers", "usdm:pll mdlm")
    assert done.returncode == 0, done.stderr
    return folder


def run(folder, *options):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": f"{RECIPES}{os.pathsep}{RECIPES.parents[1]}",
    }
    command = [shutil.which("bash"), "dlm_rescoring.sh", "--exp-dir", "exp", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_from_dumps_to_the_fused_test_set(finished):
    folder = finished / "exp" / "dlm-lists"
    weights = json.loads((folder / "fusion.json").read_text())
    assert list(weights["scales"]) == ["am", "ngram", "usdm_pll", "mdlm"]
    assert weights["dev"]["utterances"] == 6
    first = next(iter(rescore.read(folder / "scored-test-clean.jsonl")))
    assert [score["kind"] for score in first.raw["meta"]["scores"].values()] == ["pll", "pll"]
    best = list(rescore.read(folder / "best-test-clean.jsonl"))
    recogs = list(rescore.read(folder / "recogs-test-clean-dlm-rescoring.txt", "icefall-recogs"))
    assert [(nbest.id, nbest.ref, nbest.hyps[0].text) for nbest in best] == [
        (nbest.id, nbest.ref, nbest.hyps[0].text) for nbest in recogs
    ]
    assert json.loads((folder / "eval-test-clean.json").read_text())["tuned_on"] == 0


def test_stage_4_says_that_it_needs_icefall(finished):
    done = run(finished, *SETS, "--stage", "4")
    assert done.returncode == 1
    assert (
        "icefall cannot be imported (No module named 'icefall'); put its checkout on PYTHONPATH"
        in done.stderr
    )


def test_results_are_a_block_of_markdown(finished, monkeypatch, capsys):
    from dlm_rescore import results  # noqa: PLC0415

    folder = finished / "exp" / "dlm-lists"
    monkeypatch.setattr(results, "write_files", lambda *_: {"nbest": 9.1, "dlm-rescoring": 8.0})
    decode = "./zipformer/ctc_decode.py --epoch 30"
    assert (
        results.main(
            [
                str(folder),
                "--decode",
                decode,
                "--dev-sets",
                "dev-clean",
                "--test-sets",
                "test-clean",
            ]
        )
        == 0
    )
    text = (folder / "RESULTS-dlm-rescoring.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert (
        "| nbest                | 9.1        | first pass, num_paths 30, nbest_scale 0.5 |" in text
    )
    assert "scales tuned on dev-clean: am 1, ngram " in text
    assert "./zipformer/ctc_decode.py --epoch 30 --decoding-method nbest-dump" in text


def test_a_missing_or_a_second_dump_is_an_error(recipe):
    lists, stage_1 = (
        recipe / "exp" / "nbest-dump",
        ("--stage", "1", "--stop-stage", "1", "--scorers", ""),
    )
    shutil.copy(
        lists / "nbest-dev-clean-epoch-1_avg-1.jsonl", lists / "nbest-dev-clean-epoch-2_avg-1.jsonl"
    )
    done = run(recipe, *SETS, *stage_1)
    assert done.returncode == 1
    assert "expected one dump of dev-clean in exp/nbest-dump" in done.stderr
    done = run(recipe, *SETS, *stage_1, "--suffix", "-epoch-1_avg-1")
    assert done.returncode == 0, done.stderr
    (lists / "nbest-test-clean-epoch-1_avg-1.jsonl").unlink()
    done = run(recipe, *SETS, *stage_1, "--suffix", "-epoch-1_avg-1")
    assert done.returncode == 1
    assert "expected one dump of test-clean" in done.stderr
