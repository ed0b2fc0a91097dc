"""Matrices of Kaldi, ESPnet and icefall: an archive (.ark) or a table of places in one (.scp).

Source: kaldi-asr/kaldi, src/matrix/kaldi-matrix.cc; kaldiio 2.18 reads the matrices. Kaldi's
commands in a table ("cat x |") are not run, and archives are read as matrices only: kaldiio would
unpickle what an archive tells it to.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from rescore.acoustic.formats.layout import LAYOUT_OPTIONS, Layout
from rescore.acoustic.posteriors import Posteriors
from rescore.errors import FormatError
from rescore.formats.base import Format
from rescore.formats.bounded import open_regular
from rescore.formats.files import PathLike, at_line, name_of, text_lines
from rescore.ids import UniqueIds
from rescore.installation import install_hint

__all__ = ["KALDI", "read"]

_LONGEST_ID = 4096
#: Bytes of a number in each kind of matrix, and where rows and columns stand in its header.
_KINDS = {
    b"FM ": (4, "<6xixi"),
    b"DM ": (8, "<6xixi"),
    b"CM ": (1, "<5xffii"),
    b"CM2": (2, "<6xffii"),
    b"CM3": (1, "<6xffii"),
}


def read(path: PathLike, **layout: Any) -> Iterator[Posteriors]:
    """Yield the posteriors of an archive, or of a table, in its order. Raises FormatError."""
    described = Layout.of(**layout)
    ids = UniqueIds("read")
    matrices = _of_table(path) if name_of(path).endswith(".scp") else _of_archive(path)
    for utterance, matrix, where in matrices:
        posteriors = described.posteriors(utterance, matrix, where)
        ids.add(posteriors)
        yield posteriors


def _of_archive(path: PathLike) -> Iterator[tuple[str, np.ndarray, str]]:
    with open_regular(path) as file:
        while utterance := _token(file, name_of(path)):
            yield utterance, _matrix(file, utterance, name_of(path)), name_of(path)


def _of_table(path: PathLike) -> Iterator[tuple[str, np.ndarray, str]]:
    """Kaldi's paths count from the working directory, as Kaldi reads them."""
    place = at_line(path)
    with ExitStack() as stack:
        opened: dict[str, BinaryIO] = {}
        for number, line in text_lines(path):
            if not line.strip():
                continue
            utterance, archive, offset = _entry(line, place(number))
            if archive not in opened:
                stack.pop_all().close()  # one archive at a time
                opened = {archive: stack.enter_context(_opened(archive, place(number)))}
            opened[archive].seek(offset)
            yield utterance, _matrix(opened[archive], utterance, place(number)), place(number)


def _entry(line: str, where: str) -> tuple[str, str, int]:
    """Utterance, archive and byte of a line of a table."""
    utterance, _, place = line.strip().partition(" ")
    match = re.fullmatch(r"(.+?)(?::([0-9]{1,18}))?", place.strip())
    if match is None or place.rstrip().endswith(("|", "]")):
        raise FormatError(
            f"{where}: {line!r}, expected ID ARCHIVE:BYTE; commands are not run and ranges are not "
            "cut: write an archive (copy-matrix) and name that"
        )
    return utterance, match[1], int(match[2] or 0)


def _opened(path: PathLike, where: str) -> io.BufferedReader:
    try:
        return open_regular(path)
    except (FormatError, ValueError) as error:  # ValueError: a null byte in the path
        raise FormatError(f"{where}: {error}") from error


def _token(file: BinaryIO, where: str) -> str:
    """The id before the next matrix; nothing at the end."""
    token = bytearray()
    while (byte := file.read(1)) not in (b" ", b""):
        token += byte
        if len(token) > _LONGEST_ID:
            raise FormatError(f"{where}: an id is longer than {_LONGEST_ID} bytes; not an archive?")
    try:
        return token.decode().strip()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: an id is not UTF-8; not a Kaldi archive?") from error


def _matrix(file: BinaryIO, utterance: str, where: str) -> np.ndarray:
    try:
        import kaldiio.matio  # noqa: PLC0415 - optional
    except ImportError as error:
        raise FormatError(
            f"{where}: reading Kaldi's matrices needs kaldiio; {install_hint('asr')}"
        ) from error
    at = f"{where}: utterance {utterance}"
    try:
        is_binary = _is_binary(file, at)
        reads = kaldiio.matio.read_matrix_or_vector if is_binary else kaldiio.matio.read_ascii_mat
        matrix: np.ndarray = reads(file)
    except FormatError:
        raise
    except Exception as error:  # damaged bytes raise anything
        reason = " ".join(str(error).split())[:200]
        raise FormatError(
            f"{at}: no whole matrix ({reason or type(error).__name__}); the archive is damaged or "
            "cut off"
        ) from error
    return matrix


def _is_binary(file: BinaryIO, at: str) -> bool:
    """Whether a binary matrix follows, rather than text; that it fits in the file is checked."""
    start = file.tell()
    head = file.read(24)
    file.seek(start)
    if not head.startswith(b"\0B"):
        if head.lstrip().startswith(b"["):
            return False
        raise FormatError(f"{at}: neither a binary matrix of Kaldi nor one in brackets")
    size, layout = _KINDS.get(head[2:5], (0, ""))
    if not size:
        kind = head[2:5].decode("latin-1").strip()
        raise FormatError(f"{at}: Kaldi's type {kind!r}, expected a matrix (FM, DM, CM)")
    rows, columns = struct.unpack_from(layout, head)[-2:]
    rest = os.fstat(file.fileno()).st_size - start
    if rows < 0 or columns < 0 or rows * columns * size > rest:
        raise FormatError(f"{at}: {rows} x {columns} numbers do not fit in the rest of the file")
    return True


KALDI = Format[Posteriors](
    name="kaldi",
    read=read,
    help="Kaldi matrices, .ark or .scp: Kaldi, ESPnet, icefall",
    read_options=LAYOUT_OPTIONS,
)
