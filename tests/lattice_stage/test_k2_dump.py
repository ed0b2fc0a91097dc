"""`dump_nbest`: the records, batches, a killed run that goes on, cut ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import k2
import pytest
import torch
from dlm_rescore import dump_nbest
from dlm_rescore.dump import close_dumps
from k2_lattices import SENTENCES, ctc_lattice, hlg_lattice, letters_to_text, words_to_text

import rescore
from rescore.errors import FormatError, ScoreError

CUTS = [SimpleNamespace(id=f"cut-{name}") for name in "abc"]


def dump(path, lattice=None, cuts=CUTS, texts=SENTENCES[:3], **options):
    lattice = hlg_lattice() if lattice is None else lattice
    return dump_nbest(
        lattice,
        cuts,
        texts,
        path,
        **{"num_paths": 30, "nbest_scale": 0.5, "ids_to_text": words_to_text, **options},
    )


def test_records_hold_what_the_lattice_said(tmp_path):
    best = dump(tmp_path / "x.jsonl")
    lists = list(rescore.read(tmp_path / "x.jsonl"))
    assert [nbest.id for nbest in lists] == ["cut-a", "cut-b", "cut-c"]
    assert [nbest.ref for nbest in lists] == SENTENCES[:3]
    assert [nbest.hyps[0].text for nbest in lists] == best
    assert lists[0].raw["meta"] == {"num_paths": 30, "nbest_scale": 0.5, "scores_of": "am + ngram"}
    assert all(hyp.scores.keys() == {"am", "ngram"} for nbest in lists for hyp in nbest.hyps)
    fused = rescore.evaluate(rescore.fuse(lists, rescore.Fusion({"am": 1.0, "ngram": 1.0})))
    assert fused.first_pass.absolute_reduction == 0
    assert replace(fused, first_pass=None) == rescore.evaluate(lists)


def test_batches_are_appended_and_can_be_read_between(tmp_path):
    path = tmp_path / "x.jsonl"
    dump(path)
    assert len(list(rescore.read(path))) == 3
    dump(path, hlg_lattice(seed=1), ["d", "e", "f"])
    assert [nbest.id for nbest in rescore.read(path)] == ["cut-a", "cut-b", "cut-c", "d", "e", "f"]


def test_an_empty_lattice_keeps_its_utterance(tmp_path):
    lattice = k2.index_fsa(hlg_lattice(), torch.tensor([0, -1, 1], dtype=torch.int32))
    best = dump(tmp_path / "x.jsonl", lattice)
    lists = list(rescore.read(tmp_path / "x.jsonl"))
    assert best[1] == ""
    assert [hyp.text for hyp in lists[1].hyps] == [""]
    assert lists[1].raw["meta"]["empty_lattice"] is True
    rescore.tune(lists, ["am", "ngram"], restarts=0)


def test_a_graph_without_an_ngram_has_one_score(tmp_path):
    with pytest.raises(ScoreError, match="has no lm_scores"):
        dump(tmp_path / "x.jsonl", ctc_lattice(), ids_to_text=letters_to_text)
    assert not (tmp_path / "x.jsonl").exists()
    dump(tmp_path / "x.jsonl", ctc_lattice(), ids_to_text=letters_to_text, ngram=False)
    assert {
        tuple(hyp.scores) for nbest in rescore.read(tmp_path / "x.jsonl") for hyp in nbest.hyps
    } == {("am",)}


def test_a_cut_id_twice_is_refused(tmp_path):
    dump(tmp_path / "x.jsonl")
    with pytest.raises(
        FormatError, match=r"utterance cut-b: this id was appended to .*x.jsonl before"
    ):
        dump(tmp_path / "x.jsonl", cuts=["d", "cut-b", "e"])
    with pytest.raises(FormatError, match="utterance d: this id was appended"):
        dump(tmp_path / "x.jsonl", cuts=["d", "d", "e"])
    assert len(list(rescore.read(tmp_path / "x.jsonl"))) == 3


def test_other_settings_are_refused_in_one_run_and_in_the_next(tmp_path):
    dump(tmp_path / "x.jsonl")
    with pytest.raises(ScoreError, match="this run began the file with"):
        dump(tmp_path / "x.jsonl", cuts=["d", "e", "f"], num_paths=40)
    close_dumps()
    with pytest.raises(FormatError, match=r"was written with nbest_scale 0.5, expected 0.3"):
        dump(tmp_path / "x.jsonl", cuts=["d", "e", "f"], nbest_scale=0.3)


def test_references_and_cuts_have_to_be_as_many(tmp_path):
    with pytest.raises(ScoreError, match="there are 2 reference texts for 3 cuts"):
        dump(tmp_path / "x.jsonl", texts=SENTENCES[:2])


def test_a_killed_run_goes_on_and_ends_with_the_same_file(tmp_path):
    """The run is killed after two of four batches, its last line is torn, and it starts again."""
    tests = Path(__file__).parent
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(tests)!r}, {str(tests.parents[1] / "recipes" / "icefall")!r}]
from test_k2_dump import dump, hlg_lattice
path, kill_after = sys.argv[1], int(sys.argv[2])
for seed in range(4):
    dump(path, hlg_lattice(seed=seed), [f"cut-{{seed}}-{{i}}" for i in range(3)])
    if seed == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
"""

    def run(path, kill_after):
        return subprocess.run(
            [sys.executable, "-c", code, str(path), str(kill_after)],
            check=False,
            capture_output=True,
        ).returncode

    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    assert run(whole, -1) == 0
    assert run(torn, 1) == -signal.SIGKILL
    assert len(list(rescore.read(torn))) == 6
    os.truncate(torn, torn.stat().st_size - 50)
    assert run(torn, -1) == 0
    assert torn.read_bytes() == whole.read_bytes()
