"""Runs that were stopped continue to the same bits, and wrong states are refused in one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from small import small_tokenizer
from small_runs import TINY, Killed, killed_after_saving, log_of

from rescore.errors import TrainError
from rescore.train.corpus import batches, open_corpus
from rescore.train.learner import Learner
from rescore.train.run import Run
from rescore.train.trainer import text_run, train


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(corpus, directory, TINY, {})
    return directory


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (Learner, "update", 2),  # before anything was saved
        (Learner, "update", 7),  # between two saves
        (Run, "_save", 2),  # after the log has the line of a state that is not saved
        (Run, "_save", 3),  # after the last step
    ],
)
def test_a_killed_and_resumed_run_ends_with_the_same_bits_and_log(
    owner, method, call, corpus, uninterrupted, tmp_path, monkeypatch
):
    calls, whole = [], getattr(owner, method)

    def killed(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(owner, method, killed)
    with pytest.raises(Killed):
        train(corpus, tmp_path, TINY, {})
    monkeypatch.undo()
    assert not (tmp_path / "config.json").exists()
    train(corpus, tmp_path, TINY, {})
    assert (tmp_path / "model.safetensors").read_bytes() == (
        uninterrupted / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "config.json").read_bytes() == (uninterrupted / "config.json").read_bytes()
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert [row[0] for row in log_of(tmp_path)] == ["step", "4", "8", "12"]


def test_a_log_line_cut_off_by_a_crash_is_written_again(corpus, uninterrupted, tmp_path):
    train(corpus, tmp_path, TINY, {})
    log = (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").write_bytes(log + b"1")
    train(corpus, tmp_path, TINY, {})
    assert (tmp_path / "log.csv").read_bytes() == log


def test_a_finished_run_is_finished(corpus, uninterrupted, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    monkeypatch.setattr(Learner, "update", lambda *_: pytest.fail("a step was done"))
    train(corpus, uninterrupted, TINY, {})
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_epochs_go_on_after_a_resume_where_they_were(corpus, tmp_path):
    tokenizer = small_tokenizer()
    train_part = open_corpus(corpus / "train", tokenizer)
    run = text_run(corpus, tmp_path, TINY, tokenizer)

    def following(step, count):
        run.progress.step, found = step, []
        for rows in run.remaining_batches():
            found.append(rows.tolist())
            run.progress.step += 1
            if len(found) == count:
                break
        return found

    whole = following(0, 12)
    assert len(batches(train_part, TINY.batch_tokens, 0)) < 5  # so the run has several epochs
    for step in range(12):
        assert following(step, 12 - step) == whole[step:]


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-3}, {"seed": 1}, {"optimizer": "muon"}, {"steps": 20}]
)
def test_other_options_for_the_same_directory_are_refused_in_one_line(
    change, corpus, uninterrupted
):
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    with pytest.raises(
        TrainError,
        match=rf"state\.pt: the run was started with other options \({next(iter(change))}\)",
    ) as caught:
        train(corpus, uninterrupted, replace(TINY, **change), {})
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_a_run_whose_learning_rate_has_not_begun_to_fall_may_end_at_another_step(corpus, tmp_path):
    options = replace(TINY, steps=40, decay=0.5)
    with killed_after_saving():  # at step 4; the rate would fall from step 20 on
        train(corpus, tmp_path / "changed", options, {})
    train(corpus, tmp_path / "changed", replace(options, steps=12), {})
    train(corpus, tmp_path / "straight", replace(options, steps=12), {})
    assert (tmp_path / "changed" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()
    with pytest.raises(TrainError, match=r"started with other options \(steps\)"):  # now it has
        train(corpus, tmp_path / "changed", options, {})


def test_a_state_is_saved_every_few_minutes_too(corpus, tmp_path, monkeypatch):
    steps, save = [], Run._save
    monkeypatch.setattr(Run, "_save", lambda run: (steps.append(run.progress.step), save(run)))
    train(corpus, tmp_path, replace(TINY, save_every=1000, save_minutes=1e-9), {})
    assert steps == list(range(1, TINY.steps + 1))
    # not an option that decides the run
    train(corpus, tmp_path, replace(TINY, save_every=1000, save_minutes=60), {})
    assert steps == list(range(1, TINY.steps + 1))


def test_muon_learns_and_resumes_to_the_same_bits(corpus, tmp_path):
    options = replace(TINY, optimizer="muon")
    finished = train(corpus, tmp_path / "whole", options, {})
    assert finished.card["training"]["valid_nats_per_token"] < math.log(64)
    with killed_after_saving():
        train(corpus, tmp_path / "parts", options, {})
    train(corpus, tmp_path / "parts", options, {})
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def _with_run(state, **changes):
    state["run"] = json.dumps(json.loads(state["run"]) | changes)


def _without_moments(state):
    next(iter(state["optimizers"][0].values())).pop("exp_avg")


def _with_moments_of_another_shape(state):
    next(iter(state["optimizers"][0].values()))["exp_avg"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: _with_run(state, step=10**9), "it is at step 1000000000 of 12"),
        (lambda state: _with_run(state, step=-1), "Expected `int` >= 0 - at `$.step`"),
        (lambda state: _with_run(state, running="a"), "Expected `float`, got `str`"),
        (lambda state: _with_run(state, options=[]), "Expected `object`, got `array`"),
        (lambda state: _with_run(state, options={}), "KeyError: 'steps'"),
        (lambda state: state.update(run="[" * 5000), "lists or objects are nested too deeply"),
        (lambda state: state.update(run=None), "AttributeError: "),
        (lambda state: state["average"].pop(), "the averaged weights are those of another"),
        (_without_moments, "the moments of weight"),
        (_with_moments_of_another_shape, "the moments of weight"),
    ],
)
def test_a_state_of_another_form_is_refused_in_one_line(
    change, reason, corpus, uninterrupted, tmp_path
):
    state = torch.load(uninterrupted / "state.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(TrainError) as caught:
        train(corpus, tmp_path, TINY, {})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/state.pt: the saved state cannot be read (")
    assert reason in str(caught.value)
    assert not (tmp_path / "config.json").exists()


_FULL = """
import resource, signal, sys
from pathlib import Path
from rescore.train.trainer import TrainOptions, train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
corpus, run = Path(sys.argv[1]), Path(sys.argv[2])
options = TrainOptions(
    "ar", steps=8, batch_tokens=256, width=16, layers=1, heads=2, feed_forward=24, bf16=False,
    evaluate_every=4, save_every=4,
)
from rescore.train.run import Run
save, calls = Run._save, []
def limited(run):
    calls.append(1)
    if len(calls) == 2:
        # as on a full disk: writing fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    save(run)
Run._save = limited
train(corpus, run, options, {})
"""


def test_a_full_disk_is_one_line_and_the_last_state_stays(corpus, tmp_path):
    script = tmp_path / "full.py"
    script.write_text(_FULL)
    done = subprocess.run(
        [sys.executable, script, corpus, tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "run: cannot be written (" in last, last
    assert last.startswith("rescore.errors.TrainError: ")
    assert last.endswith("free some space and run this again, it continues from the last state")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.csv", "state.pt"]
    assert (
        json.loads(torch.load(tmp_path / "run" / "state.pt", weights_only=True)["run"])["step"] == 4
    )
    options = replace(TINY, objective="ar", steps=8, learning_rate=2e-3, warmup=150)
    train(corpus, tmp_path / "run", options, {})
    train(corpus, tmp_path / "straight", options, {})
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()


def test_a_damaged_state_is_one_line(corpus, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(TrainError, match="the saved state cannot be read") as caught:
        train(corpus, tmp_path, TINY, {})
    assert "\n" not in str(caught.value)
