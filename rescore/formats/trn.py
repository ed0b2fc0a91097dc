"""sclite's trn: one utterance a line, `words (id)`. Written for `sclite -r ref.trn trn -h hyp.trn trn -i spu_id`; read by references.py."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rescore.errors import FormatError
from rescore.formats.files import PathLike, atomic_writer
from rescore.types import NBest

__all__ = ["write_reference_trn", "write_trn"]

_ID = re.compile(r"[^\s()]+")


def write_trn(lists: Iterable[NBest], path: PathLike) -> int:
    """Write the first hypothesis of every list, its words joined by single spaces, and return the number of lines.

    Raises FormatError if the file cannot be written or an id holds white space or a parenthesis, which trn cannot represent.
    """
    return _write(((nbest, nbest.hyps[0].text) for nbest in lists), path)


def write_reference_trn(lists: Iterable[NBest], path: PathLike) -> int:
    """Write the references as `write_trn` writes hypotheses. Raises FormatError for a list without a reference, too."""
    return _write(((nbest, _reference(nbest)) for nbest in lists), path)


def _write(texts: Iterable[tuple[NBest, str]], path: PathLike) -> int:
    count = 0
    with atomic_writer(path) as output:
        for nbest, text in texts:
            if not _ID.fullmatch(nbest.id):
                raise FormatError(f"{nbest.place()}: trn ids cannot hold white space or parentheses; rename the utterance")
            output.write(" ".join([*text.split(), f"({nbest.id})\n"]).encode())
            count += 1
    return count


def _reference(nbest: NBest) -> str:
    if nbest.ref is None:
        raise FormatError(f"{nbest.place()}: there is no reference to write")
    return nbest.ref
