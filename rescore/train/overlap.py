"""Notice validation text that is training text too: its figures are then no forecast.

Short lines ("yes, sir") occur everywhere; lines of five words and more hardly do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from hashlib import blake2b

__all__ = ["Overlap"]

logger = logging.getLogger("rescore")

_LEAST_WORDS = 5
_SHARE = 0.01  # of the validation lines, from which it is no accident


class Overlap:
    """Which lines of a validation text come again in a training text: 16 bytes a line.

    `figures` is what the warning says of the validation: "perplexity", for example.
    """

    def __init__(self, valid: Iterable[str], figures: str = "perplexity") -> None:
        self._figures = figures
        self._lines = {_digest(line) for line in valid if len(line.split()) >= _LEAST_WORDS}
        self._shared: set[bytes] = set()

    def watched(self, lines: Iterable[str]) -> Iterator[str]:
        """The training lines, as they come; warns at the end."""
        for line in lines:
            if self._lines and len(line.split()) >= _LEAST_WORDS:
                digest = _digest(line)
                if digest in self._lines:
                    self._shared.add(digest)
            yield line
        self._warn()

    def count(self, lines: Iterable[str]) -> None:
        """Read the training lines, and warn."""
        for _ in self.watched(lines):
            pass

    def _warn(self) -> None:
        if len(self._shared) > _SHARE * len(self._lines):
            logger.warning(
                "%d of %d different validation lines of at least %d words (%.0f %%) are in the "
                "training text too: the %s will look better than it is; take others for --valid",
                len(self._shared),
                len(self._lines),
                _LEAST_WORDS,
                100 * len(self._shared) / len(self._lines),
                self._figures,
            )


def _digest(line: str) -> bytes:
    return blake2b(line.encode(), digest_size=8).digest()
