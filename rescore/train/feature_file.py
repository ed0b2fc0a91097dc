"""The features of many utterances in one file, made once; a run that was stopped resumes.

`features.bin` holds float16 rows of bins, one version of an utterance after the other. While it is
being made, `frames.bin` (int64) says how many rows each version has, written after them. What both
hold whole is kept; the rest is cut off and made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rescore.acoustic.utterance import Utterance
from rescore.formats.bounded import check_regular
from rescore.formats.files import make_folder, read_bytes, replace_file
from rescore.progress import progress_bar

__all__ = ["continue_from", "forget_progress", "offsets_of", "write_features"]

_U = TypeVar("_U")

_STARTED, _COUNTS = "started.json", "frames.bin"


def continue_from(
    directory: Path, settings: dict[str, Any], parts: dict[str, Sequence[Utterance]]
) -> None:
    """Make folders for the parts; drop features of an earlier run that had other settings.

    `started.json` has a digest of the settings and of all utterances.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for part in parts.values():
        for utterance in part:
            digest.update(json.dumps(asdict(utterance), default=str).encode())
    record = (json.dumps({"digest": digest.hexdigest()}) + "\n").encode()
    started = directory / _STARTED
    same = started.exists() and read_bytes(started) == record
    for name in parts:
        make_folder(directory / name)
        if not same:
            (directory / name / _COUNTS).unlink(missing_ok=True)
    replace_file(started, record)


def forget_progress(directory: Path, parts: Iterable[str]) -> None:
    """Delete what only a run that is not finished needs."""
    (directory / _STARTED).unlink(missing_ok=True)
    for name in parts:
        (directory / name / _COUNTS).unlink(missing_ok=True)


def write_features(
    directory: Path,
    utterances: Sequence[_U],
    features_of: Callable[[_U], Sequence[np.ndarray]],
    shape: tuple[int, int],
) -> list[int]:
    """Write the features of utterances, `shape` (versions, bins); returns the frames of every row.

    `features_of` gives (frames, bins) of each version; it is not asked for utterances that an
    earlier run finished.
    Exact check: tests/train/test_train_ctc.py::test_features_resume_to_the_same_bytes.
    """
    data, counts = directory / "features.bin", directory / _COUNTS
    for path in (data, counts):
        path.touch()
        check_regular(path)
    frames = _finished(data, counts, shape)
    with data.open("r+b") as features, counts.open("r+b") as lengths:
        features.seek(features.truncate(2 * int(frames.sum()) * shape[1]))
        lengths.seek(lengths.truncate(8 * frames.size))
        rows: list[int] = frames.ravel().tolist()
        for utterance in progress_bar(
            utterances[len(frames) :],
            total=len(utterances),
            initial=len(frames),
            description=f"features of {directory.name}",
            unit="utterances",
            mininterval=5,
        ):
            versions = features_of(utterance)
            rows += map(len, versions)
            for version in versions:
                features.write(version.astype(np.float16).tobytes())
            features.flush()
            lengths.write(np.array([len(version) for version in versions]).tobytes())
            lengths.flush()
    return rows


def offsets_of(lengths: Sequence[int]) -> np.ndarray:
    """Where rows of these lengths begin and end, one after the other: (rows + 1,) int64."""
    return np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))])


def _finished(data: Path, counts: Path, shape: tuple[int, int]) -> np.ndarray:
    """(utterances, versions) frames of the utterances that both files hold whole."""
    versions, bins = shape
    stored = np.fromfile(counts, np.int64)
    frames = stored[: len(stored) // versions * versions].reshape(-1, versions)
    bytes_so_far = 2 * bins * np.cumsum(frames.sum(axis=1))
    return frames[bytes_so_far <= data.stat().st_size]
