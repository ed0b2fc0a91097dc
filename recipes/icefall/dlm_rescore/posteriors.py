"""`dump_posteriors`: the CTC posteriors of a running recipe as a Kaldi archive.

`dlmrescore posteriors FILE.ark --from kaldi` makes a file of posteriors of it. Batches are appended
and are on disk when the call returns. Start a recipe that was killed again: cuts that the archive
holds are left out, and a torn last matrix is cut off.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rescore.errors import FormatError, ScoreError
from rescore.formats.files import PathLike
from rescore.formats.parts import try_lock

__all__ = ["close_archives", "dump_posteriors"]

#: A matrix of Kaldi: id, space, mark of binary data, type, and rows and columns after their sizes.
_TYPE = b"\0BFM "
_SIZES = struct.Struct("<bibi")
_LONGEST_ID = 4096

_open: dict[str, _Archive] = {}


def dump_posteriors(
    log_probs: torch.Tensor, frames: torch.Tensor, cuts: Sequence[Any], path: PathLike
) -> int:
    """Append the posteriors of a batch to the archive `path`; return how many were new.

    log_probs: (N, T, C), natural log, as `model.ctc_output` and `nnet_output` are. frames: (N,),
    the frames of each utterance. cuts: lhotse cuts or their ids, in this order. Raises ScoreError
    for values that are not finite, FormatError for a repeated id and for a file that cannot be
    appended to.
    """
    name = os.path.realpath(path)
    if name not in _open:
        _open[name] = _Archive(path)
    ids = [cut if isinstance(cut, str) else cut.id for cut in cuts]
    rows = log_probs.detach().float().cpu().numpy()
    matrices = [row[:count] for row, count in zip(rows, frames.tolist(), strict=True)]
    for utterance, matrix in zip(ids, matrices, strict=True):
        if not np.isfinite(matrix).all():
            raise ScoreError(f"utterance {utterance}: its CTC output is not finite")
    return _open[name].append(ids, matrices)


def close_archives() -> None:
    """Close all archives that this process appends to. A cut may then come again."""
    while _open:
        _open.popitem()[1].close()


class _Archive:
    """A Kaldi archive that grows, locked until it is closed."""

    def __init__(self, path: PathLike) -> None:
        self._name = os.fspath(path)
        self._appended: set[str] = set()
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by `close`
        try:
            if not try_lock(self._file.fileno()):
                raise FormatError(
                    f"{self._name}: another process is appending to this file; wait for it or "
                    "name another file"
                )
            self._earlier, end = self._whole_matrices()
            self._file.truncate(end)
        except BaseException:
            self.close()
            raise

    def append(self, ids: Sequence[str], matrices: Sequence[np.ndarray]) -> int:
        """Write matrices, in one piece, and return how many were new."""
        data = []
        for utterance, matrix in zip(ids, matrices, strict=True):
            if utterance in self._appended or re.search(r"\s", utterance):
                problem = "holds white space" if re.search(r"\s", utterance) else "came before"
                raise FormatError(f"{self._name}: utterance {utterance}: this id {problem}")
            self._appended.add(utterance)
            if utterance not in self._earlier:
                sizes = _SIZES.pack(4, len(matrix), 4, matrix.shape[1])
                data += [utterance.encode(), b" ", _TYPE, sizes, matrix.astype("<f4").tobytes()]
        rest = memoryview(b"".join(data))
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())
        return len(data) // 5

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _whole_matrices(self) -> tuple[set[str], int]:
        """The ids of the matrices that are whole, and where the last of them ends."""
        ids: set[str] = set()
        end, size = 0, os.fstat(self._file.fileno()).st_size
        with open(self._name, "rb") as file:
            while head := _head(file):
                utterance, count = head
                end_of_matrix = file.tell() + 4 * count
                if end_of_matrix > size:
                    break
                ids.add(utterance)
                end = file.seek(end_of_matrix)
            file.seek(0)
            if not ids and not _is_beginning(file.read(_LONGEST_ID)):
                raise FormatError(f"{self._name}: is no archive of posteriors; name another file")
        return ids, end


def _is_beginning(data: bytes) -> bool:
    """Whether this may be the beginning of an archive whose first matrix is torn."""
    utterance, _, rest = data.partition(b" ")
    return len(utterance) < _LONGEST_ID and _TYPE.startswith(rest[: len(_TYPE)])


def _head(file: Any) -> tuple[str, int] | None:
    """The id of the next matrix, and its numbers; None if it is not whole."""
    token = bytearray()
    while (byte := file.read(1)) not in (b" ", b""):
        token += byte
    head = file.read(len(_TYPE) + _SIZES.size)
    if len(head) < len(_TYPE) + _SIZES.size or not head.startswith(_TYPE):
        return None
    _, rows, _, columns = _SIZES.unpack_from(head, len(_TYPE))
    return token.decode(), rows * columns
