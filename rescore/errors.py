"""The error tree: every failure a user can cause is a `RescoreError` with a one-line message.

A message says where, what, what was expected and what to do. The command line prints it and exits
with status 1; Python callers catch the class they care about.
"""

from __future__ import annotations

import re

__all__ = [
    "ArgumentError",
    "AudioError",
    "FormatError",
    "FusionError",
    "ModelError",
    "RescoreError",
    "ScoreError",
    "TrainError",
]

_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST = 1000  # characters of a message; what it quotes may be longer


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class RescoreError(Exception):
    """Base of every error this package raises on purpose.

    Its message stays on one line whatever it quotes from a file: line ends, the characters that
    control a terminal or the direction of text, and halves of surrogate pairs are escaped. The
    middle of a long one is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 4 :]}"
        return _UNPRINTABLE.sub(_escaped, text)


class ArgumentError(RescoreError, TypeError):
    """An argument of a Python function that is misspelt or of the wrong type."""


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
