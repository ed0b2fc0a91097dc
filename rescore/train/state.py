"""The saved state of a run, `state.pt`: written whole or not at all, read to the same bits.

A dictionary of `network` (weights), `average` (averaged weights), `optimizers` (moments) and `run`:
JSON text, because torch 1.13 reads no floats with weights_only, of step, tokens, running (the
smoothed loss), averaged (updates of the average) and options.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch

from rescore.errors import FormatError, TrainError
from rescore.formats.bounded import open_regular
from rescore.formats.files import atomic_writer
from rescore.formats.strict_json import decode
from rescore.formats.zips import check_stored
from rescore.models.opening import one_line
from rescore.train.learner import Learner
from rescore.train.options import RunOptions

__all__ = ["Progress", "load_state", "save_state", "writing_to"]

#: Options that may change on the way: they say when and where things are done, not what is done.
_FREE_OPTIONS = frozenset({"evaluate_every", "save_every", "save_minutes", "compile"})


@dataclass
class Progress:
    """How far a run has come: steps, scored tokens, and the smoothed training loss.

    `loss` is in nats per token; 0 before the first step.
    """

    step: int = 0
    tokens: int = 0
    loss: float = 0.0


def save_state(path: Path, options: RunOptions, learner: Learner, progress: Progress) -> None:
    """Write the state. Raises TrainError if the disk is full; the last state stays then."""
    state = learner.state()
    run = {
        "step": progress.step,
        "tokens": progress.tokens,
        "running": progress.loss,
        "averaged": state.pop("averaged"),
        "options": asdict(options),
    }
    with writing_to(path.parent), atomic_writer(path) as output:
        torch.save({"run": json.dumps(run), **state}, output)  # type: ignore[arg-type] # writes


def load_state(path: Path, options: RunOptions, learner: Learner) -> Progress:
    """Load a saved state into `learner` and return the progress.

    Raises TrainError if the file is damaged or the run was started with other options.
    """
    try:
        with open_regular(path) as file:
            check_stored(file, str(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        run = msgspec.convert(decode(state["run"].encode(), "its run"), _StoredRun)
        _check_options(run, options, path)
        learner.load_state({**state, "averaged": run.averaged})
    except TrainError:
        raise
    except Exception as error:  # damaged bytes raise anything
        raise TrainError(
            f"{path}: the saved state cannot be read ({one_line(error)}); delete it to start over"
        ) from error
    return Progress(run.step, run.tokens, run.running)


class _StoredRun(msgspec.Struct):
    """`run` of the saved state."""

    step: Annotated[int, msgspec.Meta(ge=0)]
    tokens: Annotated[int, msgspec.Meta(ge=0)]
    running: float
    averaged: Annotated[int, msgspec.Meta(ge=0)]
    options: dict[str, Any]


def _check_options(run: _StoredRun, options: RunOptions, path: Path) -> None:
    """Raise TrainError if an option changed that decides the curve.

    The number of steps may change as long as the learning rate has not begun to fall. Raises
    ValueError for more steps than were asked for.
    """
    saved, asked = run.options, asdict(options)
    free = set(_FREE_OPTIONS)
    if run.step <= (1 - options.decay) * min(saved["steps"], options.steps):
        free.add("steps")
    changed = sorted(
        name for name, value in asked.items() if name not in free and saved.get(name) != value
    )
    if changed:
        raise TrainError(
            f"{path}: the run was started with other options ({', '.join(changed)}); "
            "use the same options or another directory"
        )
    if run.step > options.steps:
        raise ValueError(f"it is at step {run.step} of {options.steps}")


@contextlib.contextmanager
def writing_to(directory: Path) -> Iterator[None]:
    """Turn a write that fails into one line; the files that were there stay."""
    try:
        yield
    except (OSError, RuntimeError, FormatError) as error:  # torch's zip writer: RuntimeError
        reason = _reason(error).splitlines()[0]
        raise TrainError(
            f"{directory}: cannot be written ({reason}); free some space and run this again, "
            "it continues from the last state"
        ) from error


def _reason(error: BaseException) -> str:
    """What the system said of a failure, or else what torch says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)
