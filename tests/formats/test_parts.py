"""Parts of outputs: those that killed runs left go, those that are being written stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rescore.errors import FormatError
from rescore.formats.directories import atomic_directory
from rescore.formats.files import atomic_writer, make_folder, replace_file
from rescore.formats.parts import remove_dead_parts, try_lock

WRITE = """
import os, signal, sys
from rescore.formats.files import atomic_writer
from rescore.formats.directories import atomic_directory
with atomic_writer("out.txt") as file, atomic_directory("out") as directory:
    file.write(b"half")
    directory.add("x", b"half")
    directory.flush()
    print("writing", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parts():
    return [name for name in os.listdir() if name.endswith(".part")]


def write_both():
    replace_file("out.txt", b"whole")
    with atomic_directory("out") as directory:
        directory.add("x", b"whole")


def test_the_parts_of_a_killed_run_go_and_those_of_a_living_one_stay():
    command = [sys.executable, "-c", WRITE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writing:
        assert writing.stdout.readline() == b"writing\n"
        assert len(parts()) == 2
        write_both()
        assert len(parts()) == 2
        writing.stdin.close()
        assert writing.wait() == -signal.SIGKILL
    assert len(parts()) == 2
    replace_file("other.txt", b"")
    assert len(parts()) == 2
    write_both()
    assert parts() == []


def test_files_that_only_look_like_parts_stay():
    names = [
        ".out.txt.part",
        ".out.txt.mine.part",
        ".out.txt.0123456789ABCDEF.part",
        "out.txt.part",
    ]
    for name in names:
        replace_file(name, b"mine")
    replace_file("out.txt", b"")
    assert sorted(os.listdir()) == sorted([*names, "out.txt"])


def test_a_part_that_another_process_removes_before_it_is_locked_is_made_anew(monkeypatch):
    opened = []
    real_open = open

    def opening(path, *arguments):
        file = real_open(path, *arguments)
        opened.append(path)
        if len(opened) == 1:
            os.unlink(path)
        return file

    monkeypatch.setattr("rescore.formats.files.open", opening, raising=False)
    replace_file("out.txt", b"whole")
    assert len(opened) == 2
    with real_open("out.txt", "rb") as file:
        assert file.read() == b"whole"
    assert parts() == []


@pytest.mark.parametrize("step", ["held", "is_there_still"])
@pytest.mark.parametrize("module", ["files", "directories"])
def test_a_signal_while_a_part_is_made_leaves_none(monkeypatch, module, step):

    def interrupted(*_):
        assert len(parts()) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(f"rescore.formats.{module}.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_both()
    assert parts() == []


def test_a_part_is_locked_until_it_has_its_name(tmp_path, monkeypatch):
    replace, seen = os.replace, []

    def replacing(part, target):
        with open(part, "rb") as file:
            seen.append(try_lock(file.fileno()))
        remove_dead_parts(target)
        replace(part, target)

    monkeypatch.setattr(os, "replace", replacing)
    replace_file(tmp_path / "out.txt", b"whole")
    assert seen == [False]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file/x", "not a directory; check the path"),
        ("file/x/y", "not a directory; check the path"),
        ("n" * 256, "file name too long; choose a shorter name"),
        ("loop", "too many levels of symbolic links; check the link"),
        ("loop/x", "too many levels of symbolic links; check the link"),
        ("no/x", "no such file or directory; check the path"),
    ],
)
def test_a_path_where_nothing_can_be_written_is_refused_at_once(path, reason):
    replace_file("file", b"")
    os.symlink("loop", "loop")
    for writer in (atomic_writer, atomic_directory):
        with pytest.raises(FormatError) as caught, writer(path):
            pytest.fail("the block began")
        assert str(caught.value) in (
            f"{path}: cannot be written: {reason}",
            f"{path}: is there already, and not a directory; name another one",
        )
    if path != "no/x":
        with pytest.raises(FormatError, match=r": cannot be written: "):
            make_folder(path)


@pytest.mark.parametrize("target", ["target", "d/target"])
def test_a_link_to_nothing_is_followed(target):
    os.mkdir("d")
    for name, link in (("file", "link"), ("folder", "linked")):
        os.symlink(f"{target}.{name}", link)
    replace_file("link", b"whole")
    make_folder("linked")
    assert (os.path.islink("link"), os.path.islink("linked")) == (True, True)
    with open(f"{target}.file", "rb") as file:
        assert file.read() == b"whole"
    assert os.path.isdir(f"{target}.folder")
