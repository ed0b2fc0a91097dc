"""`dlmrescore posteriors`: utterances through a recogniser, into one file of posteriors.

Two files stand beside the output until it is complete. OUTPUT.rows takes the rows as they are
made, chunk after chunk; OUTPUT.journal says whose rows stand where. Rows are on disk before the
journal names them, so a run that was killed resumes after its last chunk. In the end the output is
assembled from the rows, in the order of ids: the same bytes, however often the run was killed.
Memory: the audio and rows of two chunks, and one small entry an utterance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

import msgspec
import numpy as np

from rescore.acoustic.loading import EncoderOptions, load_task
from rescore.acoustic.posterior_file import Extent, PosteriorHeader, assemble
from rescore.acoustic.posteriors import Recognised
from rescore.acoustic.utterance import Utterance
from rescore.acoustic.windows import Windows
from rescore.errors import AudioError, FormatError
from rescore.formats.files import PathLike
from rescore.pipeline.engine import Engine, Evaluator, InProcess, ItemTraits
from rescore.pipeline.journal import Journal
from rescore.pipeline.ray_cluster import import_ray
from rescore.pipeline.ray_pool import RayPool

if TYPE_CHECKING:
    from rescore.acoustic.recognition import PosteriorTask

__all__ = ["MakeEvaluator", "Recognition", "posterior_pool", "recognise"]

#: How `recognise` makes the evaluator of its chunks.
MakeEvaluator: TypeAlias = "Callable[[PosteriorTask], Evaluator[Utterance, Recognised]]"

#: Seconds of audio in a chunk: what a kill costs at most twice.
_CHUNK = 300

#: How many messages about skipped utterances are kept.
_MESSAGES = 5


@dataclass
class Recognition:
    """What a run has done so far; `advance` is called after every utterance.

    `computed_seconds` of audio were evaluated by this process, the others of `seconds` by one that
    was killed. `messages` say of the first skipped utterances what was wrong.
    """

    utterances: int = 0
    seconds: float = 0.0
    computed_seconds: float = 0.0
    skipped: int = 0
    messages: list[str] = field(default_factory=list)
    advance: Callable[[float], object] = field(default=lambda seconds: None)

    def add(self, result: Recognised) -> None:
        """Count one utterance."""
        self.seconds += result.seconds
        self.utterances += not result.problem
        if result.problem:
            self.skipped += 1
            self.messages = [*self.messages, result.problem][:_MESSAGES]
        self.advance(result.seconds)


def recognise(
    utterances: Iterable[Utterance],
    task: PosteriorTask,
    output: PathLike,
    *,
    dtype: str = "float32",
    on_error: Literal["stop", "skip"] = "stop",
    evaluator: MakeEvaluator = InProcess,
    progress: Recognition | None = None,
) -> Recognition:
    """Write the posteriors of all utterances to `output`; resumes what was killed.

    Raises AudioError for audio that cannot be used unless `on_error` is "skip"; FormatError for
    the journal of another run, files that cannot be written, or if every utterance was skipped.
    """
    progress = progress or Recognition()
    header = _header(task, dtype)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal[Recognised](f"{os.fspath(output)}.journal"))
        journal.begin(_Codec(), {"signature": task.signature, "dtype": dtype})
        rows = stack.enter_context(_opened_rows(f"{os.fspath(output)}.rows", journal))
        chunk_evaluator = evaluator(task)
        stack.callback(chunk_evaluator.close)
        traits = ItemTraits[Utterance, Recognised](
            id_of=lambda utterance: utterance.id,
            content=_content,
            look_up=lambda items: _Storing(items, rows, dtype, progress),
            check=lambda _item, result: _refuse_problem(result, on_error),
            done=lambda _item, result: progress.add(result),
        )
        engine = Engine(task, chunk_evaluator, traits, chunk_evaluations=_CHUNK, journal=journal)
        extents = []
        for utterance, result in engine.run(map(_anywhere, utterances)):
            _refuse_problem(result, on_error)  # one that an earlier run skipped
            if not result.problem:
                extents.append(Extent(utterance.id, result.start, result.frames))
        if progress.skipped and not extents:
            raise FormatError(
                f"{os.fspath(output)}: nothing to write, all {progress.skipped} utterances were "
                f"skipped; the first: {progress.messages[0]}"
            )
        assemble(header, extents, rows, output)
        journal.discard()
        Path(rows.name).unlink()
    return progress


def posterior_pool(
    options: EncoderOptions, windows: Windows, workers: int, address: str | None = None
) -> MakeEvaluator:
    """The `evaluator` of `recognise` that evaluates in Ray actors, as `ray_pool` of `score` does.

    Raises RescoreError if Ray is not installed.
    """
    import_ray()
    if os.path.exists(options.model):  # a worker may have another working directory
        options = replace(options, model=os.path.abspath(options.model))
    options = replace(options, device=options.device.partition(":")[0])

    def start(task: PosteriorTask) -> RayPool[Utterance, Recognised]:
        build = partial(load_task, options, windows)
        return RayPool(task, build, workers=workers, device=options.device, address=address)

    return start


def _header(task: PosteriorTask, dtype: str) -> PosteriorHeader:
    encoder = task.encoder
    frame_shift = encoder.frame_samples / encoder.sampling_rate
    return PosteriorHeader(encoder.symbols, frame_shift, dtype, task.signature)


def _content(utterance: Utterance) -> list[str]:
    """What the posteriors of an utterance depend on; audio that changed is heard again."""
    stretch = (utterance.start, utterance.duration, utterance.channel)
    try:
        status = os.stat(utterance.path)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return [utterance.id, str(utterance.path), repr(stretch)]
    version = f"{status.st_size} {status.st_mtime_ns}"
    return [utterance.id, str(utterance.path), repr(stretch), version]


def _anywhere(utterance: Utterance) -> Utterance:
    """The same with a path that holds in other working directories, too."""
    return replace(utterance, path=utterance.path.absolute())


def _refuse_problem(result: Recognised, on_error: str) -> None:
    if result.problem and on_error == "stop":
        raise AudioError(f"{result.problem} (--on-error skip goes on without it)")


@contextmanager
def _opened_rows(path: str, journal: Journal[Recognised]) -> Iterator[BinaryIO]:
    """The file of rows, positioned at its end; emptied if the journal has no chunk yet."""
    if len(journal) and not os.path.exists(path):
        raise FormatError(
            f"{path}: is missing, but {journal.path} names rows in it; restore the file, or delete "
            "the journal and start over"
        )
    is_new = not len(journal)
    with open(path, "w+b" if is_new else "r+b") as file:
        try:
            yield file
        finally:
            if not len(journal):
                os.unlink(path)


class _Storing:
    """`Missing` of the engine: every utterance of a chunk is evaluated, and its rows go to disk."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        rows: BinaryIO,
        dtype: str,
        progress: Recognition,
    ) -> None:
        self.missing = list(utterances)
        self._rows, self._progress = rows, progress
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def complete(self, evaluated: Sequence[Recognised]) -> list[Recognised]:
        """Append the rows of the chunk to the file, and sync it."""
        try:
            stored = [self._stored(result) for result in evaluated]
            self._rows.flush()
            os.fsync(self._rows.fileno())
        except OSError as error:
            raise FormatError(
                f"{self._rows.name}: cannot be written: {error.strerror}; mend that and run the "
                "same command again"
            ) from error
        return stored

    def keep(self, results: Sequence[Recognised]) -> None:
        """Nothing more is stored."""

    def _stored(self, result: Recognised) -> Recognised:
        self._progress.computed_seconds += result.seconds
        if result.rows is None:
            return result
        start = self._rows.seek(0, os.SEEK_END)
        self._rows.write(np.ascontiguousarray(result.rows, self._dtype).tobytes())
        return replace(result, rows=None, start=start)


class _Entry(msgspec.Struct, omit_defaults=True):
    """A `Recognised` in the journal."""

    seconds: float = 0.0
    frames: int = 0
    start: int = 0
    problem: str = ""


class _Codec:
    """`Recognised` without rows as JSON."""

    def encode(self, result: Recognised) -> bytes:
        """See Codec."""
        entry = _Entry(result.seconds, result.frames, result.start, result.problem)
        return msgspec.json.encode(entry)

    def decode(self, data: bytes) -> Recognised:
        """See Codec."""
        entry = msgspec.json.decode(data, type=_Entry)
        return Recognised(entry.seconds, entry.frames, None, entry.start, entry.problem)
