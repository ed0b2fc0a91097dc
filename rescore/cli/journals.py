"""The journal beside an output file, from which an interrupted run resumes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rescore.pipeline.journal import Journal

__all__ = ["interrupted", "journal_beside"]


def journal_beside(output: str) -> AbstractContextManager[Journal[Any] | None]:
    """The journal of the run that writes a file.

    Standard output, a device or a file in a missing directory has none: it cannot be resumed.
    """
    path = Path(output)
    is_regular = path.is_file() or not path.exists()
    if output == "-" or not path.parent.is_dir() or not is_regular:
        return nullcontext()
    return Journal(f"{output}.journal")


def interrupted(utterances: int, journal: Journal[Any] | None, kept: str) -> str:
    """The message of an interrupted run; `kept` names what the journal holds ("scores")."""
    where = ""
    if journal is not None and len(journal):
        where = f"; the {kept} so far are in {journal.path}"
    return f"interrupted after {utterances} utterances{where}; run the same command again to resume"
