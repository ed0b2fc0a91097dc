"""Hostile files: bombs, pipes and devices in place of files, and random damage that keeps a form.

`HOSTILE` names what may stand where a file is expected. `mutated` changes bytes at random, but for
the same seed in the same way: as text (tests/damage.py), bit by bit, as JSON whose values turn into
others, or as safetensors with another header.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import socket
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from damage import damaged

__all__ = ["HOSTILE", "mutated", "put"]


@cache
def _member(block: bytes) -> bytes:
    """16 MiB of a block as a member of a gzip file, which may hold many."""
    return gzip.compress(block * ((1 << 24) // len(block)), 9)


def _zeros(path: Path, data: bytes) -> None:
    del data
    path.write_bytes(_member(b"\0") * 640)  # 10 GiB without a line end


def _blank_lines(path: Path, data: bytes) -> None:
    del data
    path.write_bytes(_member(b"\n") * 640)


def _objects(path: Path, data: bytes) -> None:
    """Valid JSON up to its end, which never comes: 24 bytes of memory for each byte of the file."""
    del data
    path.write_bytes(gzip.compress(b"[") + _member(b"{},") * 640)


def _lines(path: Path, data: bytes) -> None:
    """The file itself, again and again."""
    member = gzip.compress(data * max(1, (1 << 22) // max(1, len(data))), 9)
    path.write_bytes(member * max(1, min(2560, (1 << 27) // len(member))))


def _sparse(path: Path, data: bytes) -> None:
    """A TiB of zeros that takes no space, behind the file."""
    with path.open("wb") as file:
        file.write(data)
        file.truncate(1 << 40)


def _pipe(path: Path, data: bytes) -> None:
    del data
    os.mkfifo(path)


def _socket(path: Path, data: bytes) -> None:
    del data
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's name has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def _link(target: str) -> Callable[[Path, bytes], None]:
    def put(path: Path, data: bytes) -> None:
        del data
        path.symlink_to(target)

    return put


def _directory(path: Path, data: bytes) -> None:
    (path / "inside").mkdir(parents=True)
    (path / "inside" / "file").write_bytes(data)


def _deep(path: Path, data: bytes) -> None:
    del data
    path.write_bytes(b"[" * 5000 + b"NaN" + b"]" * 5000 + b"\n")


def _deep_surrogate(path: Path, data: bytes) -> None:
    del data
    path.write_bytes(b'{"id": ' * 995 + b'"\\ud800"' + b"}" * 995 + b"\n")


def _long_integer(path: Path, data: bytes) -> None:
    del data
    path.write_bytes(b'{"id": ' + b"9" * 5000 + b"}\n")


def _one_line(path: Path, data: bytes) -> None:
    """No bomb: a line of 80 MB that does not compress."""
    del data
    path.write_bytes(random.Random(0).randbytes(1 << 20).replace(b"\n", b"") * 80)


#: What stands in place of a file, given the path and the bytes that were there.
HOSTILE: dict[str, Callable[[Path, bytes], None]] = {
    "a gzip bomb of zeros": _zeros,
    "a gzip bomb of line ends": _blank_lines,
    "a gzip bomb of JSON objects": _objects,
    "a gzip bomb of its own lines": _lines,
    "a sparse TiB": _sparse,
    "a long line": _one_line,
    "a named pipe": _pipe,
    "a socket": _socket,
    "/dev/zero": _link("/dev/zero"),
    "/dev/null": _link("/dev/null"),
    "a link to itself": lambda path, data: path.symlink_to(path.name),
    "a directory": _directory,
    "an empty file": lambda path, data: path.write_bytes(b"") and None,
    "deep JSON with NaN": _deep,
    "deep JSON with half a pair": _deep_surrogate,
    "an integer of 5,000 digits": _long_integer,
}


def put(name: str, path: Path) -> None:
    """Replace a file by a hostile one."""
    data = path.read_bytes()
    path.unlink()
    HOSTILE[name](path, data)


#: Values that JSON may hold where another is expected.
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    2.5,
    -0.0,
    1e-320,
    1e308,
    -1e38,
    10**6,
    10**9,
    2**31,
    2**63,
    10**30,
    "",
    "a",
    "1",
    "nan",
    "../../etc/passwd",
    "/dev/zero",
    "x" * 5000,
    "\u2028\x00\x85",
    [],
    [[]],
    {},
    [1, "a", None],
    {"a": 1},
    [0] * 3000,
)
_RAW = (b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b"9" * 5000, b"[" * 2000 + b"]" * 2000)


def mutated(path: Path, chance: random.Random) -> None:
    """Change a file in place."""
    data = path.read_bytes()
    path.write_bytes(_changed(data, path.name, chance))


def _changed(data: bytes, name: str, chance: random.Random) -> bytes:
    changes = [damaged, _bits, _bits]
    if name.endswith(".safetensors"):
        changes += [_header] * 6
    elif data[:1] in b"{[" and data:
        changes += [_json] * 6
    elif data[:2] == b"PK":
        changes += [_deflated]
    return chance.choice(changes)(data, chance)


def _bits(data: bytes, chance: random.Random) -> bytes:
    """Flip one to three bits."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _json(data: bytes, chance: random.Random) -> bytes:
    """Change one or two values of a JSON file, or of one of its lines."""
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    for part in ([number] if chance.random() < 0.5 else []) + [None]:
        try:
            value = json.loads(data if part is None else lines[part])
        except ValueError:
            continue
        for _ in range(chance.choice((1, 1, 2))):
            value = _with_other_value(value, chance)
        text = _spelled(value, chance)
        return text if part is None else b"\n".join([*lines[:part], text, *lines[part + 1 :]])
    return _json_lines(lines, chance)


def _json_lines(lines: list[bytes], chance: random.Random) -> bytes:
    number = chance.randrange(len(lines))
    try:
        value = _with_other_value(json.loads(lines[number]), chance)
    except ValueError:
        return damaged(b"\n".join(lines), chance)
    lines[number] = _spelled(value, chance)
    return b"\n".join(lines)


_MARK = "raw value of the mutator"


def _spelled(value: Any, chance: random.Random) -> bytes:
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return text.replace(json.dumps(_MARK).encode(), chance.choice(_RAW))


def _with_other_value(value: Any, chance: random.Random) -> Any:
    """Replace, remove, repeat or rename something at a random place of a JSON value."""
    goes_deeper = chance.random() < 0.85
    if isinstance(value, dict) and value and goes_deeper:
        return _in_object(value, chance.choice(sorted(value)), chance)
    if isinstance(value, list) and value and goes_deeper:
        return _in_list(value, chance.randrange(len(value)), chance)
    if chance.random() < 0.15:
        return _MARK
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.3:
        return chance.choice((value + 1, value - 1, -value, value * 1000, value / 3, str(value)))
    return chance.choice(_VALUES)


def _in_object(value: dict[str, Any], name: str, chance: random.Random) -> dict[str, Any]:
    kind = chance.random()
    if kind < 0.1:
        return {other: item for other, item in value.items() if other != name}
    if kind < 0.15:
        return {**value, chance.choice(("", "a", name.upper(), name + "2")): value[name]}
    return {**value, name: _with_other_value(value[name], chance)}


def _in_list(value: list[Any], place: int, chance: random.Random) -> list[Any]:
    kind = chance.random()
    if kind < 0.1:
        return value[:place] + value[place + 1 :]
    if kind < 0.2:
        return value + [value[place]] * chance.choice((1, 2, 1000))
    return [*value[:place], _with_other_value(value[place], chance), *value[place + 1 :]]


def _header(data: bytes, chance: random.Random) -> bytes:
    """Change the header of safetensors, with the right length before it or the old one."""
    size = struct.unpack("<Q", data[:8])[0]
    if chance.random() < 0.15:
        size = chance.choice((0, 1, size - 1, size + 1, 10**8, 2**40, 2**63, 2**64 - 1))
        return struct.pack("<Q", size) + data[8:]
    try:
        header = _spelled(_with_other_value(json.loads(data[8 : 8 + size]), chance), chance)
    except ValueError:
        return _bits(data, chance)
    if chance.random() < 0.9:
        return struct.pack("<Q", len(header)) + header + data[8 + size :]
    return data[:8] + header + data[8 + size :]


def _deflated(data: bytes, chance: random.Random) -> bytes:
    """A zip whose members are deflated, one of them to a GiB of zeros."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, EOFError):
        return _bits(data, chance)
    grown = chance.choice([*members, None])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            if name == grown:
                with archive.open(name, "w") as file:
                    for _ in range(64):
                        file.write(bytes(1 << 22))
            else:
                archive.writestr(name, content)
    return packed.getvalue()
