"""The error tree. Every failure a user can cause is a `RescoreError` whose message is one line: where, what, got, expected, what to do.

The command line prints that line and exits with status 1; Python callers catch the class they care about.
"""

from __future__ import annotations

__all__ = ["FormatError", "FusionError", "ModelError", "RescoreError", "ScoreError", "TrainError"]


class RescoreError(Exception):
    """Base of every error this package raises on purpose. Its message is one line, whatever the file holds that it quotes."""

    def __str__(self) -> str:
        return super().__str__().replace("\n", "\\n").replace("\r", "\\r")


class FormatError(RescoreError):
    """An input file or record that is not what it has to be."""


class ModelError(RescoreError):
    """A checkpoint, tokenizer or Hub model that cannot be used."""


class ScoreError(RescoreError):
    """A score that cannot be computed, is missing, or is not finite."""


class FusionError(RescoreError):
    """Weights that do not fit the lists they are applied to."""


class TrainError(RescoreError):
    """A training run that cannot start or continue."""
