"""Outputs that cannot be written, links, and what a killed run has left in a folder."""

from __future__ import annotations

import os
import shutil

import pytest
from closed_streams import one_line
from forked import Stop
from small_commands import AUDIO, CASES, contents

#: One command for each way in which outputs are written.
WRITERS = [name for name, case in CASES.items() if case.output and not name.startswith("score ")]
#: Those without audio, and one of the three that train language models.
QUICK = [name for name in WRITERS if name not in {*AUDIO, "train usdm", "train ar"}]


@pytest.mark.parametrize("name", QUICK)
def test_an_output_that_cannot_be_is_one_line_and_leaves_nothing(forks, tmp_path, name):
    case = CASES[name]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("none/x")
    (tmp_path / "loop").symlink_to("loop")
    for output in ("file/x", "dangling/x" if case.is_folder else "dangling", "n" * 300, "loop/x"):
        done = forks.run(case.on(output), tmp_path)
        if output.startswith("dangling") and case.is_folder and done.status == 0:
            continue  # folders are made with their parents
        assert done.status in (1, 2), (output, done)
        assert one_line(done), (output, done)
        assert done.err.rstrip("\n").splitlines()[-1], (output, done)
        others = {"lm.arpa", "out.csv"}  # second outputs, each whole
        assert set(os.listdir(tmp_path)) <= {"file", "dangling", "loop", "in", "none", *others}
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["convert", "convert to a directory", "tune", "train ngram"])
def test_a_link_as_output_is_followed(forks, tmp_path, name):
    case = CASES[name]
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "out"
    for _ in range(2):  # a link to nothing, then to what is there
        (tmp_path / case.output).unlink(missing_ok=True)
        (tmp_path / case.output).symlink_to(target)
        assert forks.run(case.argv, tmp_path).status == 0
        assert (tmp_path / case.output).is_symlink()
        assert target.is_dir() == case.is_folder
        assert target.exists()


def test_a_run_that_was_killed_before_run_json_may_begin_again(forks, tmp_path):
    """By an earlier release, which made the folder `scores` first; by this one, at every step."""
    (tmp_path / "old" / "results" / "scores").mkdir(parents=True)
    done = forks.run(CASES["run"].argv, tmp_path / "old")
    assert done.status == 0, done.err
    expected = contents(tmp_path / "old")
    for step in range(1, 12):
        killed = tmp_path / f"step{step}"
        assert forks.run(CASES["run"].argv, killed, stop=Stop(step=step)).status == -9
        if not (killed / "results" / "run.json").exists():
            break
        shutil.rmtree(killed)
    done = forks.run(CASES["run"].argv, killed)
    assert done.status == 0, done.err
    assert contents(killed) == expected


@pytest.mark.parametrize(
    "log", ["a,b\nx,y\n", "date,value\n2024-01-01,3\n", "hello\n", "step,x\nnone,1\n"]
)
def test_a_log_of_something_else_is_refused_and_stays(forks, tmp_path, log):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text(log)
    done = forks.run(CASES["train ar"].argv, tmp_path)
    assert done.status == 1
    assert "log.csv:" in done.err.splitlines()[-1]
    assert "not the log of a run; move the file away" in done.err.splitlines()[-1]
    assert one_line(done)
    assert (tmp_path / "run" / "log.csv").read_text() == log
