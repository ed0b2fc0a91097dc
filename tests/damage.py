"""Random damage to the bytes of a file: cut, inserted, changed, repeated, truncated, recoded."""

from __future__ import annotations

import gzip
import random

TOKENS = [
    *(
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b",",
        b":",
        b"|",
        b"-",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\x00",
        b"\xff",
        b"\x85",
    ),
    *(
        b"nan",
        b"-inf",
        b"float('inf')",
        b"1e999",
        b"null",
        b"true",
        b"-0.0",
        b"1_0",
        b"0x1",
        b"9" * 400,
        b"9" * 5000,
        b"\xef\xbb\xbf",
        b"\xc2\x85",
    ),
    *(
        b"\\ud800",
        b"\\x00",
        b"\\U7fffffff",
        b"\\N{BULLET}",
        "\u2028".encode(),
        "é".encode("latin-1"),
        b"[" * 3000,
        b"(" * 3000,
        b'{"a":' * 3000,
        b"\x1f\x8b",
    ),
    *(
        b"[]",
        b"{}",
        b'""',
        b"''",
        b'"id"',
        b'"text"',
        b'"hyps": 1',
        b"ref=",
        b";;",
        b"-1",
        b"__import__('os').abort()",
        b"%s",
        b"\x1b[2J",
    ),
]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes after one to three accidents."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice(ACCIDENTS)(data, chance)
    return data


def _cut(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 1, 2, 5, 20, 200)))


def _delete(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    return data[:start] + data[end:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    token = chance.choice(TOKENS)
    return data[:start] + token + data[chance.choice((start, end)) :]


def _flip(data: bytes, chance: random.Random) -> bytes:
    start, _ = _cut(data, chance)
    return data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    return data[:end] + data[start:end] + data[end:]


def _swap(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _truncated_gzip(data: bytes, chance: random.Random) -> bytes:
    packed = gzip.compress(data, 1)
    return chance.choice(
        (packed[: chance.randrange(2, len(packed))], _flip(packed, chance), packed + b"x")
    )


def _recoded(data: bytes, chance: random.Random) -> bytes:
    return data.decode(errors="replace").encode(
        chance.choice(("latin-1", "utf-16", "shift_jis")), errors="replace"
    )


ACCIDENTS = [
    _delete,
    _insert,
    _insert,
    _insert,
    _flip,
    _flip,
    _repeat,
    _swap,
    _truncate,
    _truncated_gzip,
    _recoded,
]
