"""How a command ends: its exit status, and one line on standard error if something went wrong.

With `--verbose` the traceback follows, with whatever text a library gave.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from rescore.cli import streams
from rescore.errors import RescoreError

__all__ = ["INTERNAL", "Reporter"]

#: How the line of a fault of ours begins: no input, however broken, should lead to it.
INTERNAL = "dlmrescore: internal error"

_INTERRUPTED = "interrupted; no output file was written; run the same command again"
_INTERRUPTED_STATUS = 130

_PACKAGE = Path(__file__).parents[1]


class Reporter:
    """Runs a command and reports how it ended."""

    def __init__(self) -> None:
        self.is_verbose = False
        self._was_interrupted = False
        self._has_ended = False

    def interrupt(self, _signal: int, _frame: object) -> None:
        """End the command, as the handler of a signal; after its end, the process.

        What this raises inside a library may come back as an error of the library; that there was
        a signal is remembered.
        """
        if self._has_ended:  # nobody would catch it
            os._exit(_INTERRUPTED_STATUS)
        self._was_interrupted = True
        raise KeyboardInterrupt

    def status_of(self, command: Callable[[], int | None]) -> int:
        """Run the command; return its exit status once everything is written or reported."""
        try:
            status = self._written_or_reported(command)
        except KeyboardInterrupt:  # a second one, while the first is reported
            status = _INTERRUPTED_STATUS
        self._has_ended = True
        return status

    def _written_or_reported(self, command: Callable[[], int | None]) -> int:
        status = self._reported(lambda: command() or 0)
        if status:
            with suppress(Exception):
                _flush()
            return status
        return self._reported(_flush)

    def _reported(self, command: Callable[[], int]) -> int:
        """Run the command, and turn an exception into one line and an exit status."""
        try:
            return command()
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort) as error:
            click.echo(str(error.__cause__ or error) or _INTERRUPTED, err=True)
            return _INTERRUPTED_STATUS
        except BrokenPipeError:  # the reader of standard output has what it wants
            return 1
        except Exception as error:  # noqa: BLE001 - nothing ends with a traceback
            if self._was_interrupted:
                click.echo(_INTERRUPTED, err=True)
                return _INTERRUPTED_STATUS
            click.echo(_line(error), err=True)
            if self.is_verbose:
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            return 1


def _flush() -> int:
    """Write out what standard output holds; give it up if that fails. Returns status 0."""
    try:
        sys.stdout.flush()
    except BaseException:
        streams.give_up_output()
        raise
    return 0


def _line(error: Exception) -> str:
    """One line about an exception; a RescoreError has written its own."""
    if isinstance(error, RescoreError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "dlmrescore: out of memory; give it more, or run it on less at a time"
    if isinstance(error, OSError) and error.filename is not None:
        reason = os.strerror(error.errno or 0).lower()
        return f"{os.fsdecode(error.filename)}: cannot be used: {reason}"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{INTERNAL}{_place(error)}: {reason}; please report it, with what "
        "`dlmrescore --verbose` and the same arguments print"
    )


def _place(error: Exception) -> str:
    """The innermost line of ours that the error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _PACKAGE in Path(frame.filename).parents:
            return f" at {Path(frame.filename).relative_to(_PACKAGE.parent)}:{frame.lineno}"
    return ""
