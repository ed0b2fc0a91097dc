"""The one reader under all formats: its limits, what it refuses, and that nothing reads past it."""

from __future__ import annotations

import gzip
import io
import os
import random
import sys

import pytest

from rescore.errors import FormatError
from rescore.formats.bounded import INFLATION, LIMITS, Limits, check_regular, readable_size
from rescore.formats.files import byte_lines, head, read_bytes


@pytest.fixture(autouse=True)
def small_limits():
    token = LIMITS.set(Limits(line=1 << 12, file=1 << 16))
    yield
    LIMITS.reset(token)


def saved(folder, data, name="x"):
    (folder / name).write_bytes(data)
    return folder / name


def refusal(action):
    with pytest.raises(FormatError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_line_of_the_longest_length_is_read_and_a_longer_one_refused(tmp_path):
    for end in (b"\n", b""):
        longest = b"a" * (1 << 12)
        assert [line for _, line in byte_lines(saved(tmp_path, b"b\n" + longest + end))] == [
            b"b",
            longest,
        ]
        path = saved(tmp_path, b"b\n" + longest + b"a" + end)
        assert refusal(lambda path=path: list(byte_lines(path))) == (
            f"{path}:2: the line is longer than 4 KiB; check that the file is of this format, or "
            "raise the limit: dlmrescore --max-line SIZE"
        )


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_file_of_the_largest_size_is_read_and_a_larger_one_refused(tmp_path, packed):
    data = random.Random(0).randbytes((1 << 16) + 1)
    pack = gzip.compress if packed else bytes
    assert read_bytes(saved(tmp_path, pack(data[:-1]))) == data[:-1]
    path = saved(tmp_path, pack(data))
    assert refusal(lambda: read_bytes(path)) == (
        f"{path}: holds more than 64 KiB, and is read whole; check that it is the right file, or "
        "raise the limit: dlmrescore --max-file SIZE"
    )


def test_a_bomb_ends_while_it_inflates_and_text_that_compresses_well_does_not(tmp_path):
    LIMITS.set(Limits(line=1 << 22, file=1 << 30))
    for block in (b"\0", b"\n", b"{},"):
        path = saved(tmp_path, gzip.compress(block * (1 << 22)))
        for read in (read_bytes, lambda path: list(byte_lines(path))):
            assert refusal(lambda read=read, path=path: read(path)).startswith(
                f"{path}: inflates to more than 64 KiB and {INFLATION} times its size"
            )
        assert head(path, 10) == (block * 10)[:10]
    text = b"".join(b'{"id": "u%d", "hyps": []}\n' % i for i in range(40_000))
    path = saved(tmp_path, gzip.compress(text))
    assert path.stat().st_size * 5 < len(text)
    assert read_bytes(path) == text


def test_a_bomb_of_line_ends_is_refused_before_a_million_lines_are_read(tmp_path):
    LIMITS.set(Limits())
    path = saved(tmp_path, gzip.compress(b"\n" * (1 << 22)))
    count = 0
    with pytest.raises(FormatError, match="inflates to more than 1 MiB"):
        for count, _ in byte_lines(path):  # noqa: B007 - it is looked at below
            pass
    assert count <= 1 << 20


@pytest.mark.parametrize("size", [1, 890, 32_000])
def test_one_block_again_and_again_is_a_bomb(tmp_path, size):
    LIMITS.set(Limits(line=1 << 22, file=1 << 30))
    block = random.Random(0).randbytes(size)
    path = saved(tmp_path, gzip.compress(block * ((1 << 25) // size), 6))
    assert refusal(lambda: list(byte_lines(path))).startswith(
        f"{path}: inflates to more than 64 KiB"
    )


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    for action in (check_regular, read_bytes, lambda path: list(byte_lines(path))):
        for name, reason in (
            ("pipe", "is a named pipe, expected a regular file; give - and pipe it into standard"),
            ("zero", "is a device, expected a regular file"),
            ("folder", "cannot be read: is a directory; name a file in it"),
            ("none", "cannot be read: no such file or directory; check the path"),
        ):
            path = tmp_path / name
            message = refusal(lambda action=action, path=path: action(path))
            assert message.startswith(f"{path}: {reason}")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no pipes of the shell")
def test_pipes_of_the_shell_are_read(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, gzip.compress(b"a\nb\n"))
    os.close(writer)
    try:
        assert [line for _, line in byte_lines(f"/dev/fd/{reader}")] == [b"a", b"b"]
    finally:
        os.close(reader)


def test_a_closed_standard_input_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert refusal(lambda: read_bytes("-")).startswith("stdin: is closed; name a file")
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"a" * (1 << 17))))
    )
    assert refusal(lambda: read_bytes("-")).startswith("stdin: holds more than 64 KiB")


def test_sizes_are_written_as_people_read_them():
    assert [readable_size(size) for size in (0, 1023, 1024, 1 << 26, 3 << 29, 1 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "64 MiB",
        "1.5 GiB",
        "1 TiB",
    ]
