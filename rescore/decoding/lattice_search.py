"""Rescore a lattice, and not a list, with a scorer of whole sentences.

A scorer that reads a sentence from both sides has no score for an arc. What is done here is a heuristic: paths are scored, each arc is given its share of
the scores of the paths through it, and what then looks best is scored too.

1. Prune by posterior, merge time variants: the scorer sees words alone.
2. Score the smallest list of paths that has every likely arc on one of them (path cover), the best path first.
3. Estimate the new score of every arc: a line through the recogniser's own `lm` and the number of words, and for what remains of each path the smallest
   corrections of its arcs that explain it (ridge regression on which arc is on which path). Where one path differs in one arc from another, the
   difference of their scores becomes that arc's.
4. Score the best few paths by these estimates, those that are new, and go back to 3. Where none is new, the search ends.

The result is the list of all scored paths. Nothing promises that the best path of the lattice is among them; docs/lattices.md says how often it was better
than the best of a list, and `recipes/lattice/compare.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from rescore.errors import FormatError, ScoreError
from rescore.formats.record import with_score
from rescore.lattice.cover import path_cover
from rescore.lattice.lattice import Lattice
from rescore.lattice.lists import reference_of
from rescore.lattice.merge import merge
from rescore.lattice.paths import Path, as_nbest, n_best, paths_of
from rescore.lattice.posteriors import FloatArray, arc_totals, prune
from rescore.lattice.symbols import text_of
from rescore.scorers import PlainScorer, adapt
from rescore.types import NBest, Score

__all__ = ["LatticeWeights", "RescoredLattice", "rescore_lattice", "rescored"]

#: The variance of what arcs cannot explain of a path, in units of the variance of an arc's correction.
_RIDGE = 1.0


@dataclass(frozen=True)
class LatticeWeights:
    """The total of a path: am_scale * am + lm_scale * lm + new_scale * (the scorer's score) + word_bonus * words.

    `posterior_scale` multiplies am_scale * am + lm_scale * lm + word_bonus * words where probabilities of arcs are needed, for pruning: 1 where totals
    are log-probabilities, 1 / (the language model's scale) where they are acoustic log-likelihoods with a scaled language model.
    """

    am_scale: float = 1.0
    lm_scale: float = 1.0
    new_scale: float = 1.0
    word_bonus: float = 0.0
    posterior_scale: float = 1.0


@dataclass(frozen=True)
class RescoredLattice:
    """`nbest`: all scored paths, best total first, with the scores `am`, `lm` and the new one. `evaluations`: what their scores cost.

    `cover` is the size of the path cover, `rounds` how many times new best paths were scored; `is_stable` is False where `max_rounds` ended it.
    `arcs` are those of the pruned and merged lattice.
    """

    nbest: NBest
    evaluations: int
    arcs: int
    cover: int
    rounds: int
    is_stable: bool


def rescore_lattice(
    lattice: Lattice,
    scorer: PlainScorer,
    weights: LatticeWeights,
    *,
    name: str | None = None,
    text: Callable[[Sequence[int]], str] | None = None,
    posterior: float = 1e-3,
    cover_posterior: float = 0.1,
    max_paths: int = 1000,
    max_rounds: int = 50,
    per_round: int = 5,
    lm_name: str = "lm",
    ref: str | None = None,
) -> RescoredLattice:
    """Search a lattice for the path with the best total, the scorer's score included. A heuristic: see the top of this module.

    Arcs less likely than `posterior` are left out of the search. The cover is of the arcs with at least `cover_posterior` (0: of all that are
    searched); of a cover larger than `max_paths` the best are scored. Each round, of at most `max_rounds`, scores those of the `per_round` best paths by
    the estimates that are new: more of them cost more evaluations and find more. `text` makes the text of a path from indices into `lattice.symbols`
    (default: `text_of`). Deterministic if the scorer is. Memory and time of an estimate are O(scored paths * arcs on them) and
    O(scored paths^2 * these arcs). Raises ScoreError if a score is not finite, or cannot be had; FormatError for numbers that make no sense.
    """
    if max_paths < 1 or max_rounds < 0 or per_round < 1:
        raise FormatError(
            f"{lattice.place()}: max_paths {max_paths}, max_rounds {max_rounds}, per_round {per_round}: expected at least 1, 0 and 1"
        )
    small = _prepared(lattice, weights, posterior)
    search = _Search(
        small,
        scorer,
        weights,
        name or scorer.name,
        text or partial(text_of, small.symbols),
        lm_name,
        ref,
    )
    tight = prune(
        small, weights.posterior_scale * search.totals, posterior=max(cover_posterior, posterior)
    )
    cover = path_cover(
        tight, arc_totals(tight, weights.am_scale, weights.lm_scale, weights.word_bonus)
    )[:max_paths]
    search.score([path.words for path in cover])
    rounds, is_stable = 0, not small.arcs
    while not is_stable and rounds < max_rounds:
        is_stable = not search.score(
            [path.words for path in n_best(small, search.estimates(), per_round)]
        )
        rounds += not is_stable
    return RescoredLattice(
        search.result(), search.evaluations, small.arcs, len(cover), rounds, is_stable
    )


def rescored(
    lattices: Iterable[Lattice],
    scorer: PlainScorer,
    weights: LatticeWeights,
    references: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[NBest]:
    """Yield the list of `rescore_lattice` for every lattice, with its reference; `settings` are its keywords. Raises as it does."""
    for lattice in lattices:
        yield rescore_lattice(
            lattice, scorer, weights, ref=reference_of(lattice, references), **settings
        ).nbest
    adapt(scorer).warn()


def _prepared(lattice: Lattice, weights: LatticeWeights, posterior: float) -> Lattice:
    """Pruned, and merged where that makes it smaller."""
    scales = (weights.am_scale, weights.lm_scale, weights.word_bonus)
    pruned = prune(
        lattice,
        arc_totals(lattice, *(weights.posterior_scale * scale for scale in scales)),
        posterior=posterior,
    )
    try:
        return merge(pruned, arc_totals(pruned, *scales), limit=4 * pruned.arcs + 1000)
    except FormatError:  # it would grow: paths of equal words are then scored once all the same
        return pruned


class _Search:
    """The paths scored so far, one for each text, and what they say about arcs."""

    def __init__(
        self,
        lattice: Lattice,
        scorer: PlainScorer,
        weights: LatticeWeights,
        name: str,
        text: Callable[[Sequence[int]], str],
        lm_name: str,
        ref: str | None,
    ) -> None:
        self.lattice, self.scorer, self.weights, self.name, self.text, self.lm_name, self.ref = (
            lattice,
            adapt(scorer),
            weights,
            name,
            text,
            lm_name,
            ref,
        )
        self.totals = arc_totals(lattice, weights.am_scale, weights.lm_scale, weights.word_bonus)
        self.paths: dict[str, Path] = {}
        self.made: list[Score] = []
        self.evaluations = 0

    def score(self, sequences: Sequence[tuple[int, ...]]) -> bool:
        """Score what is new among these word sequences, each by its best path; say whether anything was. The empty lattice has the empty text."""
        new: dict[str, Path] = {}
        for path in self._best_paths(sequences):
            own = self.text(path.words)
            if own not in self.paths and own not in new:
                new[own] = path
        if not new:
            return False
        nbest = self._list([*new.values()])
        # Random numbers are shared along a list's first hypothesis, so a stochastic score is compared beside it
        anchored = bool(self.made) and self.made[0].std_errors is not None
        if anchored:
            nbest = replace(
                nbest, hyps=(self._list([next(iter(self.paths.values()))]).hyps[0], *nbest.hyps)
            )
        (score,) = self.scorer.evaluate(self.scorer.prepare([nbest]))
        self.evaluations += score.evaluations
        self.made.append(_without_first(score) if anchored else score)
        self._check(self.made[-1])
        self.paths.update(new)
        return True

    def _best_paths(self, sequences: Sequence[tuple[int, ...]]) -> list[Path]:
        if not self.lattice.arcs:
            return [Path((), (), 0.0, 0.0, 0.0)]
        return [path for path in paths_of(self.lattice, self.totals, sequences) if path is not None]

    def _list(self, paths: Sequence[Path]) -> NBest:
        return as_nbest(self.lattice, paths, self.text, lm=self.lm_name, ref=self.ref)

    def _check(self, score: Score) -> None:
        wrong = next((value for value in score.values if not math.isfinite(value)), None)
        if wrong is not None:
            raise ScoreError(
                f'{self.lattice.place()}: score "{self.name}" of a path is {wrong}, expected a finite number'
            )

    def _values(self) -> FloatArray:
        """The new score of every path scored, (P,)."""
        return np.array([value for score in self.made for value in score.values])

    def estimates(self) -> FloatArray:
        """The total of every arc with its estimated share of the new score, (A,)."""
        used = np.unique(np.concatenate([path.arcs for path in self.paths.values()]))
        on = np.zeros((len(self.paths), len(used)))
        for row, path in enumerate(self.paths.values()):
            on[row, np.searchsorted(used, path.arcs)] = 1.0
        line = np.column_stack([self.lattice.lm, self.lattice.word > 0])
        values, known = self._values(), on @ line[used]
        slope = np.linalg.lstsq(known - known.mean(axis=0), values - values.mean(), rcond=1e-9)[0]
        rest = values - known @ slope
        shared = on @ on.T + _RIDGE * np.eye(len(on))
        corrections = np.zeros(self.lattice.arcs)
        corrections[used] = on.T @ np.linalg.solve(shared, rest - rest.mean())
        estimates: FloatArray = self.totals + self.weights.new_scale * (line @ slope + corrections)
        return estimates

    def result(self) -> NBest:
        """All scored paths, best first."""
        values = self._values()
        totals = (
            np.array([path.total for path in self.paths.values()]) + self.weights.new_scale * values
        )
        order = np.argsort(-totals, kind="stable").tolist()
        paths = list(self.paths.values())
        errors = [error for score in self.made for error in (score.std_errors or ())]
        score = replace(
            self.made[0],
            values=tuple(values[order].tolist()),
            evaluations=self.evaluations,
            std_errors=tuple(errors[i] for i in order) if errors else None,
            token_scores=None,
        )
        return with_score(self._list([paths[i] for i in order]), self.name, score)


def _without_first(score: Score) -> Score:
    return replace(
        score, values=score.values[1:], std_errors=score.std_errors and score.std_errors[1:]
    )
