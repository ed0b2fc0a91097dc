"""Prefix beam search: the most likely texts of an utterance, not the most likely paths.

A prefix is a sequence of labels. For every prefix in the beam the search keeps the probability of
all paths so far that spell it, apart by their last symbol: the blank, or the last label. A frame
keeps each prefix (a blank, or the last label again) or appends a label. A prefix that is reached
both ways is one prefix: its probabilities add up. So a search whose beam holds all prefixes and
that prunes no symbol sums over all paths; a narrower one gives lower bounds.

Many utterances go through the frames together, each in its own row; no result depends on the
others, to the last bit.

Shapes: B utterances, K prefixes of a beam, C candidate symbols of a frame, V symbols.
Source: Graves 2012, Supervised sequence labelling, section 7.5; Hannun et al. 2014,
arXiv:1408.2873, algorithm 1 (with a language model).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rescore.acoustic.prefix_tree import PrefixTree
from rescore.errors import ScoreError

__all__ = ["BeamOptions", "Prefix", "PrefixScores", "prefix_beam_search"]

#: Utterances that share the cost of NumPy's calls, a few microseconds each.
_ROWS = 16


@dataclass(frozen=True)
class BeamOptions:
    """How wide the search is.

    `beam`: prefixes kept after every frame. `min_log_prob`: a symbol whose log-probability at a
    frame is lower is not appended there. Raises ScoreError for a beam below 1.
    """

    beam: int = 100
    min_log_prob: float = -10.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ScoreError(f"beam is {self.beam}, expected at least 1")


class Prefix(NamedTuple):
    """A text of the final beam.

    `log_prob`: nats of the paths that the search followed, a lower bound of log P(labels | audio).
    `added`: what `PrefixScores` add to it.
    """

    labels: tuple[int, ...]
    log_prob: float
    added: float


class PrefixScores(Protocol):
    """What a search adds to the log-probability of a prefix, such as weighted n-gram scores.

    Prefixes are numbered; 0 to B - 1 are the empty ones of the utterances.
    """

    def gains(self, prefixes: np.ndarray, symbols: np.ndarray) -> np.ndarray | None:
        """Nats that every symbol adds to every prefix of its row; None where all add nothing.

        prefixes (B, K) int64, -1 where there is none; symbols (B, C) int64. Returns (B, K, C).
        """

    def append(self, parents: Sequence[int], symbols: Sequence[int]) -> None:
        """New prefixes, numbered onwards: parents, each with one more symbol."""

    def keep(self, prefixes: np.ndarray) -> None:
        """Drop all prefixes but these (n,), ascending; they become prefixes 0 to n - 1."""

    def ends(self, prefixes: np.ndarray) -> np.ndarray:
        """Nats that the end of the text adds to prefixes (n,); returns (n,)."""


class NewScores(Protocol):
    """Makes the `PrefixScores` of one batch of utterances."""

    def __call__(self, utterances: int) -> PrefixScores: ...


def prefix_beam_search(
    utterances: Sequence[np.ndarray],
    blank: int,
    options: BeamOptions | None = None,
    new_scores: NewScores | None = None,
    never: Sequence[int] = (),
) -> list[list[Prefix]]:
    """The final beam of every utterance, highest `log_prob + added` first (ties: the older).

    utterances: arrays (T_i, V) of log-probabilities, T_i >= 1, any float dtype. `new_scores` adds
    scores to prefixes; they steer the search. Symbols of `never` are not appended.
    Exact check: tests/acoustic/test_prefix_beam.py::test_a_wide_beam_is_the_exact_list.
    """
    options = options or BeamOptions()
    order = sorted(range(len(utterances)), key=lambda i: -len(utterances[i]))
    results: list[list[Prefix]] = [[] for _ in utterances]
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        batch = _Search([utterances[i] for i in rows], blank, options, new_scores, never)
        for row, prefixes in batch.run():
            results[rows[row]] = prefixes
    return results


@dataclass
class _Beams:
    """The prefixes of every utterance, all (B, K): a beam that is not full has -1 and -inf.

    Numbers in the tree, their parents' and last symbols; log-probabilities of the paths that end
    in a blank and in the last label; the scores added so far.
    """

    numbers: np.ndarray
    parents: np.ndarray
    last: np.ndarray
    blank: np.ndarray
    label: np.ndarray
    added: np.ndarray

    @classmethod
    def empty(cls, rows: int, beam: int) -> _Beams:
        none, impossible = np.full((rows, beam), -1), np.full((rows, beam), -np.inf)
        return cls(
            none,
            none.copy(),
            none.copy(),
            impossible,
            impossible.copy(),
            np.zeros((rows, beam)),
        )

    def first(self, rows: int) -> _Beams:
        """The first rows only."""
        return _Beams(
            self.numbers[:rows],
            self.parents[:rows],
            self.last[:rows],
            self.blank[:rows],
            self.label[:rows],
            self.added[:rows],
        )


class _Search:
    """One batch, longest utterance first."""

    def __init__(
        self,
        utterances: Sequence[np.ndarray],
        blank: int,
        options: BeamOptions,
        new_scores: NewScores | None,
        never: Sequence[int],
    ) -> None:
        self._utterances, self._blank, self._options = utterances, blank, options
        self._hidden = [blank, *never]
        rows, symbols = len(utterances), utterances[0].shape[1]
        self._scores = None if new_scores is None else new_scores(rows)
        self._tree = PrefixTree(rows, symbols)
        self._beams = _Beams.empty(rows, options.beam)
        self._beams.numbers[:, 0] = np.arange(rows)
        self._beams.blank[:, 0] = 0.0
        self._tree.slots[:rows] = 0

    def run(self) -> Iterator[tuple[int, list[Prefix]]]:
        """Yield (row, its prefixes) as utterances end."""
        lengths = np.array([len(utterance) for utterance in self._utterances])
        rows = len(lengths)
        for frame in range(lengths[0] + 1):
            still = int((lengths > frame).sum())
            for row in range(still, rows):
                yield row, self._final(row)
            if still < rows:
                rows, self._beams = still, self._beams.first(still)
            if rows:
                log_probs = [utterance[frame] for utterance in self._utterances[:rows]]
                self._advance(np.array(log_probs, dtype=np.float64))

    def _advance(self, log_probs: np.ndarray) -> None:
        """One frame, log_probs (B, V): keep and append, then select."""
        beams = self._beams
        total = np.logaddexp(beams.blank, beams.label)
        kept_blank = total + log_probs[:, self._blank, None]
        kept_label = self._kept_label(log_probs, total)
        symbols, values = self._candidates(log_probs)
        if not symbols.shape[1]:
            beams.blank, beams.label = kept_blank, kept_label
            return
        is_last = symbols[:, None, :] == beams.last[:, :, None]
        appended = np.where(is_last, beams.blank[:, :, None], total[:, :, None])
        appended += values[:, None, :]
        self._leave_out_kept(appended, is_last)
        gains = None if self._scores is None else self._scores.gains(beams.numbers, symbols)
        added = beams.added[:, :, None] if gains is None else beams.added[:, :, None] + gains
        ranks = np.concatenate(
            [
                np.logaddexp(kept_blank, kept_label) + beams.added,
                (appended + added).reshape(len(symbols), -1),
            ],
            axis=1,
        )
        rows, columns = np.nonzero(_best(ranks, self._options.beam))
        self._select(rows, columns, (kept_blank, kept_label, appended, symbols, added))

    def _kept_label(self, log_probs: np.ndarray, total: np.ndarray) -> np.ndarray:
        """(B, K) of the paths that end in the last label: it goes on, or came new to its parent.

        The second part is what a parent in the same beam appends: the two ways to reach a prefix
        are added up. After the same label, it takes a blank to come new.
        """
        beams = self._beams
        value = np.take_along_axis(log_probs, np.maximum(beams.last, 0), axis=1)
        places = np.where(beams.parents >= 0, self._tree.slots[beams.parents], -1)
        before = np.maximum(places, 0)
        is_repeat = np.take_along_axis(beams.last, before, axis=1) == beams.last
        source = np.where(
            is_repeat,
            np.take_along_axis(beams.blank, before, axis=1),
            np.take_along_axis(total, before, axis=1),
        )
        arrived = np.where(places >= 0, source, -np.inf)
        kept: np.ndarray = np.logaddexp(beams.label, arrived) + value
        return kept

    def _candidates(self, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The symbols that may be appended, (B, C), and their log-probabilities.

        -inf fills the rows that have fewer.
        """
        is_likely = log_probs >= self._options.min_log_prob
        is_likely[:, self._hidden] = False
        counts = is_likely.sum(axis=1)
        rows, likely = np.nonzero(is_likely)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        symbols = np.zeros((len(log_probs), counts.max()), dtype=np.int64)
        values = np.full(symbols.shape, -np.inf)
        symbols[rows, places] = likely
        values[rows, places] = log_probs[rows, likely]
        return symbols, values

    def _leave_out_kept(self, appended: np.ndarray, is_last: np.ndarray) -> None:
        """Set to -inf what would be a prefix of the beam: `_kept_label` has added it there."""
        beams = self._beams
        places = np.where(beams.parents >= 0, self._tree.slots[beams.parents], -1)
        rows, slots = np.nonzero(places >= 0)
        of_pair, candidates = np.nonzero(is_last[rows, slots])
        rows, slots = rows[of_pair], slots[of_pair]
        appended[rows, places[rows, slots], candidates] = -np.inf

    def _select(
        self, rows: np.ndarray, columns: np.ndarray, options: tuple[np.ndarray, ...]
    ) -> None:
        """Make the beams of what is selected: the kept prefixes first, then appended ones."""
        kept_blank, kept_label, appended, symbols, added = options
        old, beam = self._beams, self._options.beam
        counts = np.bincount(rows, minlength=len(symbols))
        slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        is_new = columns >= beam
        before = np.where(is_new, (columns - beam) // symbols.shape[1], columns)
        new = _Beams.empty(len(symbols), beam)

        at = rows[~is_new], slots[~is_new]
        kept = rows[~is_new], before[~is_new]
        new.numbers[at], new.parents[at] = old.numbers[kept], old.parents[kept]
        new.last[at], new.added[at] = old.last[kept], old.added[kept]
        new.blank[at], new.label[at] = kept_blank[kept], kept_label[kept]

        at = rows[is_new], slots[is_new]
        candidates = (columns[is_new] - beam) % symbols.shape[1]
        source = rows[is_new], before[is_new], candidates
        new.parents[at] = old.numbers[source[:2]]
        new.last[at] = symbols[rows[is_new], candidates]
        new.label[at] = appended[source]
        new.added[at] = np.broadcast_to(added, appended.shape)[source]
        new.numbers[at] = self._children(new.parents[at].tolist(), new.last[at].tolist())
        self._place(old.numbers, new)

    def _children(self, parents: list[int], symbols: list[int]) -> list[int]:
        """The numbers of parents with one more symbol each."""
        numbers, new = self._tree.children(parents, symbols)
        if self._scores is not None and new:
            self._scores.append([parents[k] for k in new], [symbols[k] for k in new])
        return numbers

    def _place(self, old_numbers: np.ndarray, new: _Beams) -> None:
        self._tree.slots[old_numbers[old_numbers >= 0]] = -1
        if self._tree.is_full:
            kept, renumbered = self._tree.keep(new.numbers)
            new.numbers, new.parents = renumbered[new.numbers], renumbered[new.parents]
            if self._scores is not None:
                self._scores.keep(kept)
        rows, places = np.nonzero(new.numbers >= 0)
        self._tree.slots[new.numbers[rows, places]] = places
        self._beams = new

    def _final(self, row: int) -> list[Prefix]:
        """The prefixes of an utterance that has ended, best first."""
        beams = self._beams
        slots = np.flatnonzero(beams.numbers[row] >= 0)
        numbers, added = beams.numbers[row, slots], beams.added[row, slots]
        values = np.logaddexp(beams.blank[row, slots], beams.label[row, slots])
        if self._scores is not None:
            added = added + self._scores.ends(numbers)
        return [
            Prefix(self._tree.labels(int(numbers[k])), float(values[k]), float(added[k]))
            for k in np.argsort(-(values + added), kind="stable")
            if np.isfinite(values[k] + added[k])
        ]


def _best(ranks: np.ndarray, count: int) -> np.ndarray:
    """Which columns of ranks (B, n), n > count, are each row's `count` highest, (B, n) bool.

    Ties go to the first; -inf is never among them.
    """
    least = np.partition(ranks, -count, axis=1)[:, -count, None]
    above = ranks > least
    ties = (ranks == least) & (least > -np.inf)
    room = count - above.sum(axis=1, keepdims=True)
    best: np.ndarray = above | (ties & (np.cumsum(ties, axis=1) <= room))
    return best
