"""The scores of lists as arrays, and what the records say of each score.

Shapes: U utterances, H hypotheses of all of them together, F named scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.arguments import nearest
from rescore.errors import FormatError, FusionError, ScoreError
from rescore.types import NBest

__all__ = [
    "RANK",
    "TOTAL",
    "WORD_BONUS",
    "ScoreTable",
    "recogniser_scores",
    "signature",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

RANK = "rank"  # minus the index of a hypothesis in its list; every list has it
TOTAL = "total"  # the score that `fuse` adds
WORD_BONUS = "word_bonus"  # the weight of the number of words; no score may have this name


@dataclass(frozen=True)
class ScoreTable:
    """Lists as arrays: utterance u has the hypotheses offsets[u] to offsets[u + 1].

    `offsets` is int64 (U + 1,), `features` float64 (H, F) with a column for each of `names`,
    `words` int64 (H,). Raises FusionError if they do not fit each other, an utterance has no
    hypothesis, or a feature is not finite.
    """

    offsets: IntArray
    features: FloatArray
    names: tuple[str, ...]
    words: IntArray

    def __post_init__(self) -> None:
        shape = (len(self.words), len(self.names))
        if self.features.shape != shape:
            raise FusionError(
                f"the features have shape {self.features.shape}, expected {shape}:"
                " a row for each hypothesis, a column for each name"
            )
        if len(set(self.names)) < len(self.names) or not self.names:
            raise FusionError(
                f"the score names are {', '.join(self.names) or 'missing'}, expected different ones"
            )
        if (
            self.offsets[0] != 0
            or self.offsets[-1] != len(self.words)
            or np.any(np.diff(self.offsets) < 1)
        ):
            raise FusionError("the offsets do not cut the hypotheses into lists of at least one")
        if not np.isfinite(self.features).all():
            raise FusionError("a feature is not finite")

    @classmethod
    def of(cls, lists: Iterable[NBest], names: Sequence[str]) -> ScoreTable:
        """Collect the named scores and the word counts of all hypotheses, one list at a time.

        `rank` is minus the index in the list where a hypothesis has no score of that name.
        Raises ScoreError with file, utterance, hypothesis and score for a value that is missing
        or not finite, FormatError if there are no lists.
        """
        sizes: list[int] = []
        features: list[FloatArray] = []
        words: list[int] = []
        for nbest in lists:
            rows = [_features(nbest, index, names) for index in range(len(nbest.hyps))]
            sizes.append(len(rows))
            features.append(np.array(rows))
            words.extend(len(hyp.words) for hyp in nbest.hyps)
        if not sizes:
            raise FormatError("there are no lists: the input is empty")
        return cls(
            offsets_of(sizes),
            np.concatenate(features),
            tuple(names),
            np.array(words, dtype=np.int64),
        )

    @classmethod
    def from_arrays(
        cls,
        features: Sequence[ArrayLike],
        words: Sequence[ArrayLike] | None = None,
        names: Sequence[str] | None = None,
    ) -> ScoreTable:
        """Build from a (hypotheses, F) array for each utterance.

        `words` holds a (hypotheses,) array of word counts for each utterance; without it all
        counts are 0. `names` default to score_0, score_1, ... Raises FusionError as the class
        does, and for lists with different numbers of scores.
        """
        tables = [np.asarray(table, dtype=np.float64) for table in features]
        if not tables or any(
            table.ndim != 2 or table.shape[1] != tables[0].shape[1] for table in tables
        ):
            raise FusionError(
                f"got arrays of shapes {sorted({table.shape for table in tables})}, expected"
                " (hypotheses, scores) for each utterance"
            )
        if words is None:
            counts = [np.zeros(len(table)) for table in tables]
        else:
            counts = [np.asarray(count) for count in words]
        if [len(count) for count in counts] != [len(table) for table in tables]:
            raise FusionError("the word counts do not have the lengths of the features")
        if names is None:
            names = [f"score_{k}" for k in range(tables[0].shape[1])]
        return cls(
            offsets_of([len(table) for table in tables]),
            np.concatenate(tables),
            tuple(names),
            np.concatenate(counts).astype(np.int64),
        )

    def take(self, utterances: ArrayLike) -> tuple[ScoreTable, IntArray]:
        """Return a table of these utterances, and the (H',) rows of this table that it holds."""
        chosen = np.asarray(utterances, dtype=np.int64)
        sizes = np.diff(self.offsets)[chosen]
        offsets = offsets_of(sizes)
        starts = self.offsets[chosen]
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        return ScoreTable(offsets, self.features[rows], self.names, self.words[rows]), rows


def offsets_of(sizes: Sequence[int] | IntArray) -> IntArray:
    """Return where lists of these sizes begin and end when they are put end to end."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _features(nbest: NBest, index: int, names: Sequence[str]) -> list[float]:
    """The named scores of one hypothesis."""
    scores = nbest.hyps[index].scores
    values = []
    for name in names:
        value = scores.get(name)
        if value is None and name == RANK:
            value = -float(index)
        if value is None:
            raise _missing(nbest, index, name)
        if not math.isfinite(value):
            raise ScoreError(
                f'{nbest.place(index)}: score "{name}" is {value}, expected a finite number;'
                " leave the hypothesis out, or make the score again"
            )
        values.append(float(value))
    return values


def _missing(nbest: NBest, index: int, name: str) -> ScoreError:
    """The error for a score that a hypothesis lacks, with what it has instead."""
    hyp = nbest.hyps[index]
    meant = nearest(name, hyp.scores)
    if meant is not None:
        advice = f'did you mean "{meant}"?'
    elif "score" in hyp.raw and not hyp.scores:
        advice = 'it has "score": named scores stand in "scores", an object'
    else:
        advice = "`dlmrescore score` adds the scores of models, a recogniser brings its own"
    names = ", ".join(hyp.scores) or "no score"
    return ScoreError(f'{nbest.place(index)}: score "{name}" is missing, it has {names}; {advice}')


def signature(nbest: NBest, name: str) -> str | None:
    """Return the signature of what made this score, None where the record does not say."""
    provenance = nbest.provenance.get(name)
    return None if provenance is None else provenance.signature


def recogniser_scores(lists: Iterable[NBest]) -> tuple[str, ...]:
    """Return the names of the scores that came with the lists.

    These are the scores that every hypothesis has and that this package did not make, as far as
    the records say, in the order of the first hypothesis; `rank` only where there is no other.
    """
    common: list[str] | None = None
    for nbest in lists:
        for hyp in nbest.hyps:
            candidates = list(hyp.scores) if common is None else common
            common = [
                name
                for name in candidates
                if name in hyp.scores and name not in nbest.provenance and name != RANK
            ]
    return tuple(common or (RANK,))
