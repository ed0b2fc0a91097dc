"""The journal beside an output file, from which an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from rescore.pipeline.journal import Journal

__all__ = ["journal_beside", "resumable"]


def journal_beside(output: str) -> AbstractContextManager[Journal[Any] | None]:
    """The journal of the run that writes a file.

    Standard output, a device or a file in a missing directory has none: it cannot be resumed.
    """
    path = Path(output)
    is_regular = path.is_file() or not path.exists()
    if output == "-" or not path.parent.is_dir() or not is_regular:
        return nullcontext()
    return Journal(f"{output}.journal")


class _Counted(Protocol):
    """The progress of a run."""

    @property
    def utterances(self) -> int:
        """How many are done."""


@contextmanager
def resumable(progress: _Counted, journal: Journal[Any] | None, kept: str) -> Iterator[None]:
    """Say where an interrupted run can be resumed; delete the journal of a complete one.

    `kept` names what the journal holds ("scores").
    """
    try:
        yield
    except KeyboardInterrupt:
        where = ""
        if journal is not None and len(journal):
            where = f"; the {kept} so far are in {journal.path}"
        raise KeyboardInterrupt(
            f"interrupted after {progress.utterances} utterances{where}; run the same command "
            "again to resume"
        ) from None
    if journal is not None:
        journal.discard()
