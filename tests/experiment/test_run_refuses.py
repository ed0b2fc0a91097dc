"""Folders, lists and scorers that an experiment refuses."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from small_experiment import contents, record, write

import rescore
from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.experiment.folder import Clock, claimed
from rescore.formats.bounded import LIMITS, Limits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 2}, "with depth null and not 2"),
        ({"unit": "char"}, 'with unit "word" and not "char"'),
        ({"dtype": "float64"}, "with scorers "),
        ({"base": ("am",)}, r'with base \["am", "ngram"\] and not \["am"\]'),
    ],
)
def test_a_folder_of_other_settings_is_refused(specs, change, message):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    before = contents("out")
    with pytest.raises(
        FormatError, match=f"^out: belongs to another experiment, {message}.*; use another folder$"
    ):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1], **change)
    assert contents("out") == before


def test_a_folder_of_other_lists_is_refused(specs):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    write("dev.jsonl", [record("dev", number) for number in range(6)])
    with pytest.raises(FormatError, match=r"^out: belongs to another experiment, with dev lists "):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])


def test_a_folder_with_other_files_is_refused(specs):
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    for name, message in (
        ("full", "full: holds other files and no run.json"),
        ("dev.jsonl", "dev.jsonl: cannot be written: file exists; name another one"),
    ):
        with pytest.raises(FormatError, match=message):
            rescore.run("dev.jsonl", "test.jsonl", name, scorers=specs[:1])
    Path("full/run.json").write_text("{")
    with pytest.raises(FormatError, match=r"full/run.json: broken JSON"):
        rescore.run("dev.jsonl", "test.jsonl", "full", scorers=specs[:1])
    assert sorted(path.name for path in Path("full").iterdir()) == ["run.json", "thesis.tex"]


def test_a_card_without_an_end_is_refused_by_its_size(tmp_path):
    with claimed(tmp_path / "out", {"depth": 2}):
        pass
    os.truncate(tmp_path / "out" / "run.json", 1 << 40)  # sparse
    token = LIMITS.set(Limits(file=1 << 20))
    try:
        with (
            pytest.raises(FormatError, match=r"run.json: holds more than 1 MiB"),
            claimed(tmp_path / "out", {"depth": 2}),
        ):
            pass
    finally:
        LIMITS.reset(token)


@pytest.mark.parametrize(
    "content", ['{"ar": "x"}', "[1]", '{"ar": NaN}', "[" * 5000, '{"ar": [1]}']
)
def test_seconds_that_are_none_count_as_not_measured(tmp_path, content):
    (tmp_path / "seconds.json").write_text(content)
    clock = Clock(tmp_path)
    assert clock.seconds("ar") is None
    clock.record("ar", 1.5)
    assert Clock(tmp_path).seconds("ar") == 1.5


def test_a_folder_in_use_is_refused(specs):
    fcntl = pytest.importorskip("fcntl")
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    with Path("out/run.json").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FormatError, match=r"^out: another run is at work in this folder"):
            rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])


def test_utterances_in_both_sets_are_refused(specs):
    write("test.jsonl", [record("test", 0), record("dev", 3), record("dev", 5)])
    with pytest.raises(
        FormatError,
        match=(
            r"^test.jsonl:2: utterance dev-3: this utterance is also in the dev "
            r"lists, as are 2 of the 3 test utterances;"
        ),
    ):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("scorers", "error", "message"),
    [
        (["ar", "ar"], RescoreError, 'two scores would be called "ar"; name one of them'),
        (["am=ar"], RescoreError, 'two scores would be called "am"'),
        (["all=ar"], RescoreError, 'two scores would be called "all"'),
        (["ar:"], RescoreError, "scorer 'ar:' is not written as"),
        (["../x=ar"], RescoreError, "scorer '../x=ar' is not written as"),
        (["magic"], RescoreError, "scorer 'magic' is unknown"),
        (["mdlm:magic"], ScoreError, "estimator 'magic' of --scorer mdlm is unknown"),
        (["mdlm@nowhere"], RescoreError, "nowhere: no such checkpoint directory"),
        ([], RescoreError, "there is no scorer"),
    ],
)
def test_scorers_that_cannot_work_are_one_line(scorers, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=tuple(scorers))
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_lists_that_were_scored_before_keep_their_scores_apart(specs):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    halves = ("out/dev.scored.jsonl", "out/test.scored.jsonl")
    with pytest.raises(
        ScoreError, match=r'out/dev.scored.jsonl:1: utterance dev-0: score "ar" already exists'
    ):
        rescore.run(*halves, "more", scorers=specs[:2])
    assert rescore.run(*halves, "more", scorers=specs[1:2]).base == ("am", "ngram")
