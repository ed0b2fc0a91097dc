"""The best path: of all texts (greedy), or of one text (Viterbi alignment); where its labels lie.

Shapes: T >= 1 frames, V symbols, S labels. `log_probs` is (T, V), natural log, any float dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.ctc import frames_needed, interleaved
from rescore.errors import ScoreError

__all__ = ["LabelledPath", "align", "greedy_path"]

#: Cells (frames x states) of the largest alignment: 1 GB of steps.
_CELLS = 1 << 30


@dataclass(frozen=True)
class LabelledPath:
    """A path and the spans of its labels.

    `symbols` (T,) int64, the symbol of every frame. `labels` (S,) int64, what it spells; label i
    has the frames `first[i]` to `end[i] - 1`, and its highest posterior, the probability
    `confidence[i]`, at frame `peak[i]` (ties: the earliest). `log_prob`: nats of the whole path.
    """

    symbols: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    end: np.ndarray
    peak: np.ndarray
    confidence: np.ndarray
    log_prob: float


def greedy_path(log_probs: np.ndarray, blank: int) -> LabelledPath:
    """The most likely path: the most likely symbol of every frame (ties: the lowest).

    Its text is the greedy transcript, not always the most likely text.
    Exact check: tests/acoustic/test_ctc_paths.py::test_greedy_is_the_best_of_all_paths.
    """
    return _labelled(np.asarray(log_probs).argmax(axis=1), log_probs, blank)


def align(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> LabelledPath:
    """The most likely path that spells labels (Viterbi; ties: the latest step to the next label).

    Raises ScoreError if no path spells them, or if audio and text together are too long.
    Exact check: tests/acoustic/test_ctc_paths.py::test_alignment_is_the_best_path_of_the_text.
    """
    frames = len(log_probs)
    if frames_needed(labels) > frames:
        raise ScoreError(
            f"{len(labels)} labels need {frames_needed(labels)} frames, got {frames}; CTC cannot "
            "emit this text here"
        )
    states, may_skip = interleaved(labels, blank)
    if frames * len(states) > _CELLS:
        raise ScoreError(
            f"{len(labels)} labels and {frames} frames are too long to align at once; cut the audio"
        )
    best, steps = _best_states(np.asarray(log_probs), states, may_skip)
    if best == -np.inf:
        raise ScoreError("the labels have probability 0; CTC cannot emit this text here")
    return _labelled(states[steps], log_probs, blank)


def _best_states(
    log_probs: np.ndarray, states: np.ndarray, may_skip: np.ndarray
) -> tuple[float, np.ndarray]:
    """Value and states, (T,), of the best sequence of states."""
    best = np.full(len(states) + 2, -np.inf)  # two states before the first, never entered
    best[1] = 0.0  # before the first frame
    came_from = np.zeros((len(log_probs), len(states)), dtype=np.int8)  # how many states before
    for frame, row in enumerate(log_probs):
        options = np.stack([best[2:], best[1:-1], np.where(may_skip, best[:-2], -np.inf)])
        came_from[frame] = options.argmax(axis=0)
        best[2:] = options.max(axis=0) + row[states]
        best[1] = -np.inf
    state = len(states) - 1
    if len(states) > 1 and best[-2] > best[-1]:
        state -= 1
    value, path = float(best[state + 2]), np.empty(len(log_probs), dtype=np.int64)
    for frame in range(len(log_probs) - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    return value, path


def _labelled(symbols: np.ndarray, log_probs: np.ndarray, blank: int) -> LabelledPath:
    """The spans of a path's labels: its runs of equal symbols that are not blank."""
    values = log_probs[np.arange(len(symbols)), symbols].astype(np.float64)
    starts = np.flatnonzero(np.diff(symbols, prepend=-1))
    ends = np.append(starts[1:], len(symbols))
    is_label = symbols[starts] != blank
    first, end = starts[is_label], ends[is_label]
    peak = np.array(
        [start + values[start:stop].argmax() for start, stop in zip(first, end, strict=True)],
        dtype=np.int64,
    )
    return LabelledPath(
        symbols, symbols[first], first, end, peak, np.exp(values[peak]), float(values.sum())
    )
