"""Notice references in upper case and hypotheses in lower case, or the reverse.

Then every word counts as an error, tuning optimises nothing, and nothing says why.
"""

from __future__ import annotations

import logging

__all__ = ["CaseWatch"]

logger = logging.getLogger("rescore")


class CaseWatch:
    """Counts, as utterances pass by, references and first hypotheses of opposite case."""

    def __init__(self) -> None:
        self._utterances = self._upper_references = self._lower_references = 0

    def add(self, ref: str, hyp: str) -> None:
        """Count one utterance, as the normaliser leaves both texts."""
        self._utterances += 1
        self._upper_references += ref.isupper() and hyp.islower()
        self._lower_references += ref.islower() and hyp.isupper()

    def warn(self) -> None:
        """Log a warning if the cases are opposite in more than half of the utterances."""
        for count, ref, hyp in (
            (self._upper_references, "upper", "lower"),
            (self._lower_references, "lower", "upper"),
        ):
            if count > self._utterances / 2:
                logger.warning(
                    "%d of %d references are in %s case and their hypotheses in %s case: every "
                    "word counts as an error; use --normalizer librispeech",
                    count,
                    self._utterances,
                    ref,
                    hyp,
                )
