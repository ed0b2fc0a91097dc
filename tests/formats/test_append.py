"""Growing native files: whole lines, torn ones cut off, a run that goes on, one that is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.formats.append import Appender
from rescore.types import Hypothesis, NBest

SETTINGS = {"num_paths": 10, "nbest_scale": 0.5}


def lists(*ids: str) -> list[NBest]:
    return [
        NBest(
            id,
            (Hypothesis(f"hello {id}", {"am": -1.5}), Hypothesis("", {"am": -2.0})),
            f"ref of {id}",
        )
        for id in ids
    ]


def test_what_is_appended_can_be_read_at_once(tmp_path):
    path = tmp_path / "nbest.jsonl"
    with Appender(path, SETTINGS) as file:
        assert file.append(lists("a", "b")) == 2
        assert [nbest.id for nbest in jsonl.read(path)] == ["a", "b"]
        assert file.append(lists("c")) == 1
        assert file.append([]) == 0
    found = list(jsonl.read(path))
    assert [nbest.id for nbest in found] == ["a", "b", "c"]
    assert found[2].hyps[0].text == "hello c"
    assert found[2].ref == "ref of c"
    assert found[2].raw["meta"] == SETTINGS


def test_a_record_keeps_its_own_meta(tmp_path):
    with Appender(tmp_path / "x", SETTINGS) as file:
        file.append(
            [
                NBest(
                    "a",
                    (Hypothesis("", {"am": 0.0}),),
                    raw={"meta": {"empty_lattice": True}, "speaker": "s"},
                )
            ]
        )
    [nbest] = jsonl.read(tmp_path / "x")
    assert nbest.raw["meta"] == {**SETTINGS, "empty_lattice": True}
    assert nbest.raw["speaker"] == "s"


@pytest.mark.parametrize("cut", range(1, 130, 7))
def test_a_run_that_goes_on_ends_with_the_file_of_a_run_that_was_never_stopped(cut, tmp_path):
    for name in ("whole", "torn"):
        with Appender(tmp_path / name, SETTINGS) as file:
            file.append(lists("a", "b"))
            file.append(lists("c", "d"))
    whole = (tmp_path / "whole").read_bytes()
    os.truncate(tmp_path / "torn", len(whole) - cut)
    with Appender(tmp_path / "torn", SETTINGS) as file:
        assert [nbest.id for nbest in jsonl.read(tmp_path / "torn")] == ["a", "b", "c"][
            : (tmp_path / "torn").read_bytes().count(b"\n")
        ]
        file.append(lists("a", "b"))
        file.append(lists("c", "d"))
    assert (tmp_path / "torn").read_bytes() == whole


def test_a_file_torn_in_its_first_line_begins_anew(tmp_path):
    for torn in (b"", b"{", b'{"id":"a","ref":"x'):
        (tmp_path / "x").write_bytes(torn)
        with Appender(tmp_path / "x", SETTINGS) as file:
            file.append(lists("a"))
        assert [nbest.id for nbest in jsonl.read(tmp_path / "x")] == ["a"]


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path):
    with Appender(tmp_path / "x", SETTINGS) as file:
        file.append(lists("a"))
    before = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(before + b'{"id":"' + b"b" * 200_000)
    Appender(tmp_path / "x", SETTINGS).close()
    assert (tmp_path / "x").read_bytes() == before


def test_an_id_twice_in_one_run_is_refused_and_nothing_of_the_batch_is_written(tmp_path):
    with Appender(tmp_path / "x", SETTINGS) as file:
        file.append(lists("a"))
        for batch in (lists("b", "a"), lists("c", "c")):
            with pytest.raises(
                FormatError,
                match=r"this id was appended to .*x before; every utterance needs its own",
            ):
                file.append(batch)
        file.append(lists("b"))
    assert [nbest.id for nbest in jsonl.read(tmp_path / "x")] == ["a", "b"]


def test_other_settings_another_file_and_broken_lines_are_refused(tmp_path):
    with Appender(tmp_path / "x", SETTINGS) as file:
        file.append(lists("a"))
    with pytest.raises(
        FormatError,
        match=(
            "x:1: utterance a: was written with num_paths 10, expected 20; append to another file"
        ),
    ):
        Appender(tmp_path / "x", {**SETTINGS, "num_paths": 20})
    (tmp_path / "notes").write_text("my only copy")
    with pytest.raises(FormatError, match="is not a native file"):
        Appender(tmp_path / "notes", SETTINGS)
    assert (tmp_path / "notes").read_text() == "my only copy"
    (tmp_path / "text").write_text("one line\nand another")
    with pytest.raises(FormatError, match="text:1: broken JSON"):
        Appender(tmp_path / "text", SETTINGS)
    assert (tmp_path / "text").read_text() == "one line\nand another"
    with pytest.raises(FormatError, match="cannot be opened: no such file or directory"):
        Appender(tmp_path / "no" / "x", SETTINGS)
    with pytest.raises(FormatError, match="cannot be opened: is a directory"):
        Appender(tmp_path, SETTINGS)


def test_two_runs_cannot_append_at_once(tmp_path):
    with (
        Appender(tmp_path / "x", SETTINGS),
        pytest.raises(FormatError, match="another process is appending to this file"),
    ):
        Appender(tmp_path / "x", SETTINGS)
    Appender(tmp_path / "x", SETTINGS).close()


def test_a_score_that_is_not_finite_is_refused(tmp_path):
    with Appender(tmp_path / "x", SETTINGS) as file:
        with pytest.raises(ScoreError, match="utterance b, hypothesis 1"):
            file.append([*lists("a"), NBest("b", (Hypothesis("x", {"am": float("-inf")}),))])
        assert (tmp_path / "x").read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device to write to")
def test_a_full_disk_is_an_error_in_one_line(tmp_path, monkeypatch):
    with Appender(tmp_path / "x", SETTINGS) as file:
        file.append(lists("a"))
        before = (tmp_path / "x").read_bytes()
        written = os.write

        def half_then_full(descriptor: int, data: memoryview) -> int:
            monkeypatch.setattr(
                os, "write", lambda *_: written(os.open("/dev/full", os.O_WRONLY), b"x")
            )
            return written(descriptor, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(RescoreError, match="x: cannot be written: no space left on device"):
            file.append(lists("b"))
        assert (tmp_path / "x").read_bytes() == before


def test_a_killed_run_leaves_a_readable_file(tmp_path):
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_append import Appender, SETTINGS, lists
        file = Appender({str(tmp_path / "x")!r}, SETTINGS)
        for number in range(1000):
            file.append(lists(f"{{number}}-a", f"{{number}}-b"))
            if number == 20:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(jsonl.read(tmp_path / "x"))) == 42
    with Appender(tmp_path / "x", SETTINGS) as file:
        assert file.append(lists("20-a", "20-b", "21-a")) == 1
