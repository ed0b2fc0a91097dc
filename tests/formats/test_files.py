"""Reading lines of any honest text file, and writing files whole or not at all."""

import errno
import gzip
import io
import os
import resource
import stat
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescore.errors import FormatError
from rescore.formats.directories import atomic_directory
from rescore.formats.files import (
    atomic_writer,
    byte_lines,
    name_of,
    names_in,
    read_bytes,
    refuse_same_file,
    stem_of,
    text_lines,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def write(path, data, zipped=False):
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


def message(call, *arguments):
    with pytest.raises(FormatError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def all_lines(path):
    return list(text_lines(path))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"\n\na\n", ["", "", "a"]),
        ("a\u2028b\x0bc\x0cd\x85e\x1cf\rg\nh".encode(), ["a\u2028b\x0bc\x0cd\x85e\x1cf\rg", "h"]),
        ("日本\nनमस्ते\n".encode(), ["日本", "नमस्ते"]),
        (b"a\r\r\n", ["a\r"]),
    ],
)
def test_only_newlines_end_lines(tmp_path, data, lines, zipped):
    assert list(text_lines(write(tmp_path / "x", data, zipped))) == list(enumerate(lines, 1))


def test_gzip_is_known_by_its_content_whatever_its_name(tmp_path):
    assert read_bytes(write(tmp_path / "plain.gz", b"text\n")) == b"text\n"
    assert read_bytes(write(tmp_path / "zipped.txt", b"text\n", zipped=True)) == b"text\n"


def test_two_gzip_members_are_one_file(tmp_path):
    path = write(tmp_path / "x.gz", gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))
    assert [line for _, line in byte_lines(path)] == [b"a", b"bc", b"d"]


def test_standard_input_is_read_too(monkeypatch):
    for data in (b"a\nb\n", gzip.compress(b"a\nb\n")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
        assert list(text_lines("-")) == [(1, "a"), (2, "b")]


def test_a_latin_1_line_is_named(tmp_path):
    path = write(tmp_path / "refs.txt", b"u1 caf\xc3\xa9\nu2 caf\xe9\n")
    assert message(all_lines, path) == (
        f"{path}:2: not UTF-8 (byte 0xe9 at position 7); "
        "convert the file first, for example with iconv"
    )


def test_damaged_gzip_is_an_error_with_the_file_name(tmp_path):
    whole = gzip.compress(os.urandom(10_000))
    for name, data in {
        "cut": whole[:5000],
        "flipped": whole[:3000] + b"\0\0\0\0" + whole[3004:],
        "tail": whole + b"junk",
        "header": whole[:4],
    }.items():
        path = write(tmp_path / name, data)
        assert message(read_bytes, path).startswith(f"{path}: cannot be read: "), name
        assert message(all_lines, path).startswith(f"{path}"), name


def test_missing_files_and_directories(tmp_path):
    assert (
        message(read_bytes, tmp_path / "none")
        == f"{tmp_path}/none: cannot be read: no such file or directory; check the path"
    )
    assert (
        message(read_bytes, tmp_path)
        == f"{tmp_path}: cannot be read: is a directory; name a file in it"
    )


def test_names():
    assert [name_of(path) for path in ("-", "a/b.jsonl")] == ["stdin", "a/b.jsonl"]
    assert [stem_of(path) for path in ("a/dev.json.gz", "dev.json", "dev", "-", "a.b.json")] == [
        "dev",
        "dev",
        "dev",
        "stdin",
        "a.b",
    ]


@given(st.binary(max_size=200))
def test_lines_join_to_what_was_read(scratch, data):
    path = write(scratch / "x", b"-" + data)
    lines = [line for _, line in byte_lines(path)]
    assert lines == [
        line.removesuffix(b"\r") for line in (b"-" + data).removesuffix(b"\n").split(b"\n")
    ]


def copy(path, data):
    with atomic_writer(path) as output:
        output.write(data)


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "out.txt"
    with atomic_writer(path) as output:
        output.write(b"one\n")
        assert not path.exists()
    assert path.read_bytes() == b"one\n"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_writer(tmp_path / "out.txt"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o640


def write_and_fail(path, error):
    with atomic_writer(path) as output:
        output.write(b"new")
        raise error


@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, name, error):
    path = write(tmp_path / name, b"old")
    with pytest.raises(error, match="mine"):
        write_and_fail(path, error("mine"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_gzipped_output_is_reproducible_and_readable(tmp_path):
    for name in ("a.gz", "b.gz"):
        with atomic_writer(tmp_path / name) as output:
            output.write(b"line\n" * 1000)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"line\n" * 1000
    assert (tmp_path / "a.gz").read_bytes()[4:8] == b"\0\0\0\0"


def test_standard_output_is_written_directly(capfdbinary):
    with atomic_writer("-") as output:
        output.write(b"one\n")
    assert capfdbinary.readouterr().out == b"one\n"


def test_a_link_keeps_being_a_link(tmp_path):
    target = write(tmp_path / "target", b"old")
    (tmp_path / "link").symlink_to(target)
    with atomic_writer(tmp_path / "link") as output:
        output.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


def test_pipes_are_written_and_stay_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # not /dev/null: a mistake here would replace it for everybody
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        copy(tmp_path / "pipe", b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


class FullDisk(io.BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, "as the system says it")


def test_a_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr("rescore.formats.files._open_part", lambda *_: FullDisk())
    for name in ("none", "none.gz"):
        assert message(copy, name, b"x") == (
            f"{name}: cannot be written: no space left on device; "
            "free some space and run this again"
        )


@pytest.mark.parametrize("name", ["out.txt", "out.gz"])
@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_a_write_that_fails_leaves_nothing(tmp_path, name, size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        text = message(copy, tmp_path / name, os.urandom(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text == f"{tmp_path / name}: cannot be written: file too large"
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_and_a_directory_are_one_line(tmp_path):
    path = tmp_path / "none" / "out"
    assert (
        message(copy, path, b"")
        == f"{path}: cannot be written: no such file or directory; check the path"
    )
    assert (
        message(copy, tmp_path, b"")
        == f"{tmp_path}: cannot be written: is a directory; name a file in it"
    )


def fill(path, error=None):
    with atomic_directory(path) as output:
        for number in range(3):
            output.add("a/text", b"%d\n" % number)
            output.add("b", b"%d" % number)
        if error is not None:
            raise error


@pytest.mark.parametrize("buffer", [0, 3, 1 << 24])
def test_a_directory_appears_when_the_block_ends(tmp_path, monkeypatch, buffer):
    monkeypatch.setattr("rescore.formats.directories._DIRECTORY_BUFFER", buffer)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        fill(tmp_path / name)
        assert (
            (tmp_path / name / "a" / "text").read_bytes(),
            (tmp_path / name / "b").read_bytes(),
        ) == (b"0\n1\n2\n", b"012")
    assert names_in(tmp_path) == ["empty", "new"]


@pytest.mark.parametrize("buffer", [0, 1 << 24])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_no_directory(tmp_path, monkeypatch, error, buffer):
    monkeypatch.setattr("rescore.formats.directories._DIRECTORY_BUFFER", buffer)
    with pytest.raises(error, match="mine"):
        fill(tmp_path / "new", error("mine"))
    assert names_in(tmp_path) == []


def test_a_directory_is_never_written_over(tmp_path):
    (tmp_path / "full").mkdir()
    write(tmp_path / "full" / "x", b"old")
    assert message(fill, tmp_path / "full") == (
        f"{tmp_path}/full: is there already, with another a/text, and a directory is never "
        "written over; remove it or name another one"
    )
    assert message(fill, tmp_path / "full" / "x") == (
        f"{tmp_path}/full/x: is there already, and not a directory; name another one"
    )
    assert (tmp_path / "full" / "x").read_bytes() == b"old"
    assert (
        message(fill, "-")
        == "this format is a directory, which cannot go to standard output; name one with -o"
    )
    assert (
        message(fill, tmp_path / "no" / "new")
        == f"{tmp_path}/no/new: cannot be written: no such file or directory; check the path"
    )
    assert names_in(tmp_path) == ["full"]


@pytest.mark.parametrize("buffer", [0, 3, 1 << 24])
def test_a_directory_that_a_killed_run_had_completed_is_accepted(tmp_path, monkeypatch, buffer):
    monkeypatch.setattr("rescore.formats.directories._DIRECTORY_BUFFER", buffer)
    (tmp_path / "link").symlink_to(tmp_path / "whole")
    fill(tmp_path / "link")
    before = (tmp_path / "whole" / "b").stat().st_mtime_ns
    for name in ("whole", "link"):
        fill(tmp_path / name)
    assert (tmp_path / "whole" / "b").stat().st_mtime_ns == before
    assert names_in(tmp_path) == ["link", "whole"]


@pytest.mark.parametrize(
    ("name", "data"),
    [("b", b"01"), ("b", b"0123"), ("b", b"013"), ("b", None), ("c", b""), ("a/text/c", None)],
)
@pytest.mark.parametrize("buffer", [0, 1 << 24])
def test_a_directory_with_any_other_byte_is_refused(tmp_path, monkeypatch, name, data, buffer):
    monkeypatch.setattr("rescore.formats.directories._DIRECTORY_BUFFER", buffer)
    fill(tmp_path / "out")
    if data is not None:
        write(tmp_path / "out" / name, data)
    elif name == "b":
        (tmp_path / "out" / "b").unlink()
    else:
        (tmp_path / "out" / "a" / "text").unlink()
        (tmp_path / "out" / "a" / "text").mkdir()
    before = names_in(tmp_path / "out")
    assert ": is there already, with another " in message(fill, tmp_path / "out")
    assert names_in(tmp_path / "out") == before


def test_an_output_in_the_input_is_refused(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "d")
    for target in ("d/x", "d/e/x", "link/x"):
        assert (
            message(refuse_same_file, tmp_path / "d", tmp_path / target)
            == f"{tmp_path}/{target}: lies in the input ({tmp_path}/d); write somewhere else"
        )
    refuse_same_file(tmp_path / "d", tmp_path / "d.jsonl")
    refuse_same_file(tmp_path / "d" / "x", tmp_path / "d" / "y")


def test_names_in_what_is_no_directory(tmp_path):
    assert (
        message(names_in, write(tmp_path / "x", b""))
        == f"{tmp_path}/x: cannot be read: not a directory; check the path"
    )
    assert (
        message(names_in, tmp_path / "y")
        == f"{tmp_path}/y: cannot be read: no such file or directory; check the path"
    )


def test_the_same_file_is_refused_by_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a", b"")
    (tmp_path / "soft").symlink_to(path)
    os.link(path, tmp_path / "hard")
    for other in ("a", "./a", path, "soft", "hard"):
        assert (
            message(refuse_same_file, path, other)
            == f"{other}: is also the input ({path}); write to another file"
        )
    assert message(refuse_same_file, "new", tmp_path / "new").startswith(f"{tmp_path}/new: is also")
    refuse_same_file(path, tmp_path / "b")
    refuse_same_file("-", "-")
    write(tmp_path / "b", b"")
    refuse_same_file(path, tmp_path / "b")


def test_a_byte_order_mark_alone_is_no_line(tmp_path):
    assert list(byte_lines(write(tmp_path / "empty", b"\xef\xbb\xbf"))) == []
    assert list(byte_lines(write(tmp_path / "blank", b"\xef\xbb\xbf\n\xef\xbb\xbf"))) == [
        (1, b""),
        (2, b"\xef\xbb\xbf"),
    ]
