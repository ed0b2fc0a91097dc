"""An utterance: a stretch of a recording, its id, and what was spoken where that is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Utterance"]


@dataclass(frozen=True)
class Utterance:
    """Seconds `start` to `start + duration` of a file; `duration` None: to its end.

    `channel` counts from 0; None: the file has one. `text` is the reference, None if unknown.
    `where` names the line that says so.
    """

    id: str
    path: Path
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    text: str | None = None
    where: str = ""

    def place(self) -> str:
        """Return how messages name it: `dev.tsv:3: utterance an4-12`."""
        return f"{self.where}: utterance {self.id}" if self.where else f"utterance {self.id}"
