"""Connectionist temporal classification (CTC): what posteriors say of a text.

A path has one symbol a frame; it spells the text that is left once repetitions are merged and
blanks removed (`collapse`). log P(text | audio) sums over all paths that spell the text.

Shapes: T >= 1 frames, V symbols, S labels of a text. `log_probs` is (T, V), natural log, of any
float dtype; everything is computed in float64, text by text, so that no value depends on others.

Source: Graves et al. 2006, Connectionist temporal classification, ICML, eqs. 2, 3 and 6 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import torch

from rescore.batching import Budget, length_batches

__all__ = ["collapse", "frames_needed", "interleaved", "text_log_probs"]

#: Cells (frames x states) of one call: 128 MB of float64. A text that alone needs more goes
#: frame by frame, in memory for one frame.
_CELLS = 1 << 24


def collapse(path: Sequence[int], blank: int) -> list[int]:
    """The labels that a path spells: repetitions merged, then blanks removed."""
    return [symbol for symbol, _ in groupby(path) if symbol != blank]


def frames_needed(labels: Sequence[int]) -> int:
    """The length of the shortest path that spells labels: equal neighbours need a blank between."""
    repeats = sum(first == second for first, second in pairwise(labels))
    return len(labels) + repeats


def text_log_probs(log_probs: np.ndarray, texts: Sequence[Sequence[int]], blank: int) -> np.ndarray:
    """log P(text | audio) of texts given as labels, (texts,) float64 nats.

    -inf where no path spells the text: too many labels for the frames, or labels of probability 0.
    The empty text is all blanks.
    Source: `torch.nn.functional.ctc_loss`, its sign changed.
    Exact check: tests/acoustic/test_ctc.py::test_log_probs_sum_over_all_paths.
    """
    values = np.full(len(texts), -np.inf)
    possible = [i for i, labels in enumerate(texts) if frames_needed(labels) <= len(log_probs)]
    if not possible:
        return values
    used = np.unique([blank, *(label for i in possible for label in texts[i])])
    columns = np.asarray(log_probs)[:, used].astype(np.float64)
    blank_column = int(np.searchsorted(used, blank))
    labels_of = {i: np.searchsorted(used, np.asarray(texts[i], np.int64)) for i in possible}
    lengths = [2 * len(texts[i]) + 1 for i in possible]
    for batch in length_batches(lengths, Budget(tokens=max(1, _CELLS // len(columns)))):
        rows = [possible[k] for k in batch]
        labels = [labels_of[i] for i in rows]
        if len(columns) * max(lengths[k] for k in batch) > _CELLS:
            values[rows] = [_frame_by_frame(columns, text, blank_column) for text in labels]
        else:
            values[rows] = _ctc_loss(columns, labels, blank_column)
    return values


def _ctc_loss(columns: np.ndarray, texts: Sequence[np.ndarray], blank: int) -> np.ndarray:
    """Values of texts that share the posteriors `columns` (T, symbols), which are not copied."""
    frames, count = len(columns), len(texts)
    losses = torch.nn.functional.ctc_loss(
        torch.from_numpy(columns)[:, None].expand(-1, count, -1),
        torch.from_numpy(np.concatenate(texts)),
        torch.full((count,), frames),
        torch.tensor([len(text) for text in texts]),
        blank=blank,
        reduction="none",
    )
    return -losses.numpy()


def _frame_by_frame(columns: np.ndarray, labels: np.ndarray, blank: int) -> float:
    """The value of one text by the forward recursion, with one frame in memory.

    Exact check: tests/acoustic/test_ctc.py::test_long_texts_agree_with_ctc_loss.
    """
    states, may_skip = interleaved(labels, blank)
    forward = np.full(len(states) + 2, -np.inf)  # two states before the first, never entered
    forward[1] = 0.0  # where all paths are before the first frame
    for frame, row in enumerate(columns):
        # States that can be reached, and from which the end can.
        first = max(0, len(states) - 2 * (len(columns) - frame))
        end = min(len(states), 2 * frame + 2)
        arrived = np.logaddexp(forward[first + 2 : end + 2], forward[first + 1 : end + 1])
        skipped = np.where(may_skip[first:end], forward[first:end], -np.inf)
        forward[first + 2 : end + 2] = np.logaddexp(arrived, skipped) + row[states[first:end]]
        forward[1] = -np.inf
    return float(np.logaddexp.reduce(forward[2:][-2:]))


def interleaved(labels: Sequence[int] | np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The states that a path of a text goes through: labels with blanks before, between and after.

    Returns the symbol of each state, (2 S + 1,) int64, and whether the state may be entered from
    the one two before it: a label that differs from the label before, and the first label, with
    which a path may begin.
    """
    states = np.full(2 * len(labels) + 1, blank, dtype=np.int64)
    states[1::2] = labels
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[1:2] = True
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    return states, may_skip
