"""The error tree: every failure a user can cause is a `RescoreError` with a one-line message.

A message says where, what, what was expected and what to do. The command line prints it and exits
with status 1; Python callers catch the class they care about.
"""

from __future__ import annotations

__all__ = [
    "AudioError",
    "FormatError",
    "FusionError",
    "ModelError",
    "RescoreError",
    "ScoreError",
    "TrainError",
]


class RescoreError(Exception):
    """Base of every error this package raises on purpose.

    Its message stays on one line even if it quotes a line break from a file.
    """

    def __str__(self) -> str:
        return super().__str__().replace("\n", "\\n").replace("\r", "\\r")


class FormatError(RescoreError):
    """A file or a record that breaks the rules of its format."""


class AudioError(RescoreError):
    """A recording that cannot be read, or holds no sound."""


class ModelError(RescoreError):
    """A checkpoint, tokenizer or Hub model that cannot be used."""


class ScoreError(RescoreError):
    """A score that cannot be computed, is missing, or is not finite."""


class FusionError(RescoreError):
    """Weights that do not fit the lists."""


class TrainError(RescoreError):
    """A training run that cannot start or continue."""
