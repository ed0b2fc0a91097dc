"""The icefall stage's archive of CTC posteriors, read as a Kaldi archive."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rescore.acoustic.formats import kaldi
from rescore.errors import FormatError, ScoreError

STAGE = Path(__file__).parents[2] / "recipes" / "icefall" / "dlm_rescore"


@pytest.fixture
def stage():
    """The module alone: its package imports k2."""
    spec = importlib.util.spec_from_file_location("stage", STAGE / "posteriors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.close_archives()


def batch(ids, frames=(5, 3), symbols=4):
    logits = torch.randn(len(ids), 6, symbols, generator=torch.Generator().manual_seed(len(ids[0])))
    return logits.log_softmax(-1), torch.tensor(frames), [SimpleNamespace(id=name) for name in ids]


def back(path, folder):
    (folder / "tokens.txt").write_text("<blk> 0\n\u2581a 1\nb 2\nc 3\n#0 4\n", encoding="utf-8")
    read = kaldi.read(path, symbols=folder / "tokens.txt", frame_shift=0.04)
    return {item.id: item.log_probs for item in read}


def test_batches_come_back_as_posteriors_without_their_padding(stage, tmp_path):
    path = tmp_path / "p.ark"
    first, second = batch(["a", "b"]), batch(["cc", "dd"], (6, 1))
    assert stage.dump_posteriors(*first, path) == 2
    assert list(back(path, tmp_path)) == ["a", "b"]  # on disk already
    stage.dump_posteriors(*second, path)
    found = back(path, tmp_path)
    assert [len(rows) for rows in found.values()] == [5, 3, 6, 1]
    np.testing.assert_array_equal(found["dd"], second[0][1, :1].numpy())


@pytest.mark.parametrize("torn", [1, 30, 60, 61])
def test_a_killed_run_goes_on_and_ends_as_one_run(stage, tmp_path, torn):
    whole, killed = tmp_path / "whole.ark", tmp_path / "killed.ark"
    batches = [batch(["a", "b"]), batch(["cc", "dd"])]
    for part in batches:
        stage.dump_posteriors(*part, whole)
    killed.write_bytes(whole.read_bytes()[:-torn])
    assert [stage.dump_posteriors(*part, killed) for part in batches] == [0, 1]
    assert killed.read_bytes() == whole.read_bytes()
    stage.close_archives()
    for size in (1, 5, 20):  # of the first matrix
        killed.write_bytes(whole.read_bytes()[:size])
        assert stage.dump_posteriors(*batches[0], killed) == 2
        stage.close_archives()


def test_what_cannot_be_appended_is_refused(stage, tmp_path):
    path = tmp_path / "p.ark"
    stage.dump_posteriors(*batch(["a", "b"]), path)
    with pytest.raises(FormatError, match="utterance a: this id came before"):
        stage.dump_posteriors(*batch(["a", "c"]), path)
    with pytest.raises(FormatError, match="this id holds white space"):
        stage.dump_posteriors(*batch(["x y", "c"]), path)
    log_probs, frames, cuts = batch(["e", "f"])
    log_probs[1, 2, 0] = -torch.inf
    with pytest.raises(ScoreError, match="utterance f: its CTC output is not finite"):
        stage.dump_posteriors(log_probs, frames, cuts, path)
    (tmp_path / "text").write_text("some text that is no archive")
    with pytest.raises(FormatError, match="is no archive of posteriors"):
        stage.dump_posteriors(*batch(["a", "b"]), tmp_path / "text")
    assert (tmp_path / "text").read_text() == "some text that is no archive"
