"""Resuming: from a journal, after kills, and what a damaged journal costs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import StopError, build, lists, run, stopping
from small import nbest, save_small

import rescore
from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.pipeline import Journal, score
from rescore.scorers import ScorerOptions, load_scorer


@pytest.mark.parametrize(
    ("family", "estimator", "settings"),
    [
        ("usdm", "nelbo", {"draws": 2}),
        ("usdm", "pll", {}),
        ("mdlm", "pll", {"folds": 3}),
        ("ar", None, {}),
    ],
)
@pytest.mark.parametrize("per_token", [False, True])
def test_a_run_goes_on_where_it_stopped_and_ends_alike(
    models, family, estimator, settings, per_token
):
    few = lists(30)
    make = partial(build, models, family, estimator, per_token=per_token, **settings)
    whole = [jsonl.encode(one) for one in score(few, make())]
    scorer = stopping(make(), 5)
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, scorer, journal=journal))
    with Journal("x.journal") as journal:
        assert [jsonl.encode(one) for one in score(few, make(), journal=journal)] == whole
        assert (len(journal), journal.added) == (len(journal), len(journal) - 5)


def test_a_journal_of_other_settings_is_refused(models):
    few = lists(4)
    with Journal("x.journal") as journal:
        list(score(few, build(models, "usdm", "pll"), journal=journal))
    kept = Path("x.journal").read_bytes()
    for other, what in (
        (build(models, "usdm", "pll", t=0.2), "signature"),
        (build(models, "ar"), "signature"),
        (build(models, per_token=True), "per_token"),
    ):
        with (
            Journal("x.journal") as journal,
            pytest.raises(
                FormatError,
                match=rf"x.journal: belongs to another run, with {what} .*, expected .*; finish",
            ),
        ):
            list(score(few, other, journal=journal))
    assert Path("x.journal").read_bytes() == kept


def test_a_model_that_changed_meanwhile_is_refused(models, tmp_path):
    directory = save_small(tmp_path / "m", "usdm")
    scorer = stopping(load_scorer("usdm", ScorerOptions(model=str(directory))), 3)
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(lists(30), scorer, journal=journal))
    save_small(directory, "usdm", seed=1)
    with (
        Journal("x.journal") as journal,
        pytest.raises(FormatError, match=r"x.journal: belongs to another run, with signature"),
    ):
        list(
            score(
                lists(30), load_scorer("usdm", ScorerOptions(model=str(directory))), journal=journal
            )
        )


def test_changed_lists_are_scored_again_and_others_are_not(models):
    few = lists(30)
    with Journal("x.journal") as journal:
        list(score(few, build(models), journal=journal))
    changed = [*few[:7], nbest("another text", id=few[7].id), *few[8:]]
    with Journal("x.journal") as journal:
        found = list(score(changed, build(models), journal=journal))
        assert 1 <= journal.added <= 2
    assert [hyp.text for hyp in found[7].hyps] == ["another text"]
    assert [jsonl.encode(one) for one in found] == [
        jsonl.encode(one) for one in score(changed, build(models))
    ]


def test_a_torn_or_damaged_line_costs_its_chunk_only(models, caplog):
    few = lists(30)
    with Journal("x.journal") as journal:
        whole = [jsonl.encode(one) for one in score(few, build(models), journal=journal)]
    lines = Path("x.journal").read_bytes().splitlines(keepends=True)
    for content, again in (
        (b"".join(lines)[:-20], 1),
        (b"".join([*lines[:3], lines[3].replace(b"-", b"", 1), *lines[4:]]), 1),
        (b"".join(lines[:2]) + b"\x00\xff\n" + b"".join(lines[2:]), 0),
        (b"nonsense\n" + b"".join(lines[1:]), len(lines) - 1),
    ):
        Path("x.journal").write_bytes(content)
        with Journal("x.journal") as journal:
            assert [
                jsonl.encode(one) for one in score(few, build(models), journal=journal)
            ] == whole
            assert journal.added == again
    assert "x.journal:4: damaged; its chunk is computed again" in caplog.text
    assert "x.journal: the header is damaged; the journal starts over" in caplog.text


def test_the_budget_of_batches_is_kept(models):
    few = lists(30)
    scorer = stopping(build(models), 5)
    scorer.budget.tokens = 77
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, scorer, journal=journal))
    again = build(models)
    with Journal("x.journal") as journal:
        list(score(few, again, journal=journal))
    assert again.budget.tokens == 77


def test_two_runs_do_not_write_one_output(models, capsys, monkeypatch):
    jsonl.write(lists(3), "in.jsonl")
    with Journal("out.jsonl.journal"):
        status, message = run(
            capsys,
            monkeypatch,
            "score",
            "in.jsonl",
            "--scorer",
            "usdm",
            "--model",
            models["usdm"],
            "-o",
            "out.jsonl",
        )
    assert status == 1
    assert message == (
        "out.jsonl.journal: another run is writing this output; "
        "wait for it or choose another output"
    )
    assert (
        run(
            capsys,
            monkeypatch,
            "score",
            "in.jsonl",
            "--scorer",
            "usdm",
            "--model",
            models["usdm"],
            "-o",
            "out.jsonl",
        )[0]
        == 0
    )


def test_a_full_disk_is_one_line_and_the_earlier_output_stays(models, capsys, monkeypatch):
    jsonl.write(lists(40), "in.jsonl")
    Path("out.jsonl").write_text("as it was\n")
    command = ["score", "in.jsonl", "--scorer", "usdm", "--model", models["usdm"], "-o"]
    whole, written = os.write, []

    def full(descriptor, data):
        written.append(1)
        if len(written) > 6:  # half of a line gets through
            if len(written) > 7:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(descriptor, bytes(data)[:20])
        return whole(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        status, message = run(capsys, monkeypatch, *command, "out.jsonl")
    assert status == 1
    assert message == (
        "out.jsonl.journal: cannot be written: No space left on device; "
        "mend that and run the same command again"
    )
    assert Path("out.jsonl").read_text() == "as it was\n"
    assert run(capsys, monkeypatch, *command, "out.jsonl")[0] == 0
    assert run(capsys, monkeypatch, *command, "whole.jsonl")[0] == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


LIMITED = """
import resource, signal, sys
from rescore.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
main()
"""


def test_a_write_that_really_fails_is_one_line(models):
    jsonl.write(lists(40), "in.jsonl")
    Path("out.jsonl").write_text("as it was\n")
    arguments = ["score", "in.jsonl", "--scorer", "usdm", "--model", models["usdm"]]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments, "-o", "out.jsonl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip().endswith("run the same command again when it can")
        or "cannot be written" in done.stderr
    )
    assert len(done.stderr.strip().splitlines()) == 1
    assert Path("out.jsonl").read_text() == "as it was\n"


KILLS = """
import os, random, signal, sys, time
import torch
from rescore.cli import main
from rescore.scorers import chunks
torch.set_num_threads(1)
chunks.CHUNK = 12
random.seed(5)
kills = finished = 0
while kills < 24 or not finished:
    if os.path.exists("out.jsonl"):
        os.rename("out.jsonl", f"done.{finished}.jsonl")
        finished += 1
    child = os.fork()
    if not child:
        sys.argv[1:] = ["score", "in.jsonl", *sys.argv[1:], "-o", "out.jsonl"]
        sys.stderr = open(os.devnull, "w")
        main()
    patience = random.uniform(0, 0.25) if kills < 24 else 60
    until = time.monotonic() + patience
    while time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    try:
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except (ProcessLookupError, ChildProcessError):
        pass
    if kills >= 24 and os.path.exists("out.jsonl"):
        os.rename("out.jsonl", f"done.{finished}.jsonl")
        finished += 1
print(kills, finished)
"""


@pytest.mark.parametrize(("family", "estimator"), [("mdlm", "nelbo"), ("ar", None)])
def test_killed_at_random_moments_two_dozen_times_the_bytes_are_the_same(models, family, estimator):
    jsonl.write(lists(60, hyps=8), "in.jsonl")
    options = [
        "--scorer",
        family,
        "--model",
        models[family],
        *(["--estimator", estimator] if estimator else []),
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    kills, finished = map(int, done.stdout.split())
    assert kills >= 20
    torch.set_num_threads(1)
    spec = f"{family}:{estimator}" if estimator else family
    whole = "".join(
        jsonl.encode(one).decode() + "\n"
        for one in score(
            rescore.read("in.jsonl"),
            build(models, family, estimator),
            command=f"dlmrescore score --scorer {spec}@{models[family]}",
        )
    )
    outputs = [path.read_text() for path in Path().glob("done.*.jsonl")]
    assert len(outputs) == finished >= 1
    assert set(outputs) == {whole}
    assert not list(Path().glob("*.journal"))


def test_sigterm_ends_a_run_as_ctrl_c_does(models):
    code = (
        "from rescore.cli import main; from rescore.scorers import chunks; "
        "chunks.CHUNK = 12; main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "score",
        "-",
        "--from",
        "jsonl",
        "--scorer",
        "usdm",
        "--model",
        models["usdm"],
        "-o",
        "out.jsonl",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        for one in lists(200):  # more than the buckets hold back
            running.stdin.write(jsonl.encode(one) + b"\n")
        running.stdin.flush()
        patience = time.monotonic() + 60
        while (
            not Path("out.jsonl.journal").exists()
            or Path("out.jsonl.journal").read_bytes().count(b"\n") < 3
        ):
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < patience
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        try:
            assert running.wait(timeout=60) == 130
        finally:
            running.kill()
        message = running.stderr.read().decode()
        running.stdin.close()
    assert message.strip().startswith("interrupted after ")
    assert message.strip().endswith(
        "the scores so far are in out.jsonl.journal; run the same command again to resume"
    )
    assert not Path("out.jsonl").exists()
