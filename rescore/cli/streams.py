"""Standard input, output and error, whatever they are: closed, full, or without a reader.

A closed descriptor is filled, so that no file of ours becomes standard output. What is written to
standard output and does not arrive is an error; a message that does not reach standard error is
dropped, and never fails a run.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from rescore.formats.bounded import failure

__all__ = ["give_up_output", "guard"]

#: How the null device is opened in place of a closed stream: reading standard input and writing
#: standard output then fail, as they should, and messages vanish.
_IN_PLACE_OF = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}


class _StandardOutput(io.FileIO):
    """Standard output, whose failures name it. A pipe without a reader stays BrokenPipeError."""

    def write(self, data: Any, /) -> int:
        """Write bytes. Raises FormatError."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise failure("standard output", "written", error) from error


class _StandardError(io.FileIO):
    """Standard error, where a message that cannot be written is dropped."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them."""
        with suppress(OSError):
            return super().write(data)
        return len(data)


def guard() -> None:
    """Make the standard streams of this process safe to use; streams that were replaced stay."""
    for number, flags in _IN_PLACE_OF.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_StandardOutput(1, "wb", closefd=False), sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_StandardError(2, "wb", closefd=False), sys.__stderr__)


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """A text stream over `raw` that is otherwise like the one before; None: there was none."""
    encoding = "utf-8" if before is None else before.encoding
    errors = "backslashreplace" if before is None else before.errors
    is_line_buffered = before is not None and bool(before.line_buffering)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=is_line_buffered)


def give_up_output() -> None:
    """Drop what standard output still holds: otherwise Python tries to write it at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
