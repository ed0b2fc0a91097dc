"""Search a lattice, not a list, for the best total with a scorer of whole sentences.

A scorer that reads a sentence from both sides has no score for an arc. The search is a heuristic:
it scores paths, gives each arc its share of the scores of the paths through it, and scores what
then looks best.

1. Prune by posterior and merge time variants: the scorer sees words alone.
2. Score the smallest list of paths that covers every likely arc (path cover), best path first.
3. Estimate the new score of every arc: a linear fit on the recogniser's own `lm` and the number of
   words, and for the rest of each path's score the smallest corrections of its arcs that explain it
   (ridge regression on which arc lies on which path). Where two paths differ in one arc, the
   difference of their scores becomes that arc's.
4. Score the best few paths by these estimates that are new, and go back to 3. The search ends where
   none is new.

The result is the list of all scored paths. Nothing guarantees that the best path of the lattice is
among them; docs/lattices.md reports how often it beat the best of a list, and
`recipes/lattice/compare.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rescore.errors import FormatError, ScoreError
from rescore.formats.record import with_score
from rescore.interfaces import PlainScorer
from rescore.lattice.cover import path_cover
from rescore.lattice.lattice import Lattice
from rescore.lattice.lists import reference_of
from rescore.lattice.merge import merge
from rescore.lattice.paths import Path, as_nbest, n_best, paths_of
from rescore.lattice.posteriors import FloatArray, arc_totals, prune
from rescore.lattice.symbols import text_of
from rescore.scorers import adapt
from rescore.types import NBest, Score

__all__ = [
    "LatticeWeights",
    "RescoredLattice",
    "SearchOptions",
    "rescore_lattice",
    "rescore_lattices",
]

#: The variance of what arcs cannot explain of a path, over the variance of an arc's correction.
_RIDGE = 1.0


@dataclass(frozen=True)
class LatticeWeights:
    """total = am_scale * am + lm_scale * lm + new_scale * (scorer's score) + word_bonus * words.

    `posterior_scale` multiplies the total without the new score where arcs need probabilities, for
    pruning: 1 where totals are log-probabilities, 1 / (the language model's scale) where they are
    acoustic log-likelihoods with a scaled language model.
    """

    am_scale: float = 1.0
    lm_scale: float = 1.0
    new_scale: float = 1.0
    word_bonus: float = 0.0
    posterior_scale: float = 1.0

    def arc_totals(self, lattice: Lattice) -> FloatArray:
        """The totals of the arcs without the new score, (A,) float64 nats."""
        return arc_totals(lattice, self.am_scale, self.lm_scale, self.word_bonus)


@dataclass(frozen=True)
class SearchOptions:
    """How far the search goes.

    Arcs less likely than `posterior` are left out. The cover takes the arcs with at least
    `cover_posterior` (0: all that are searched); of a cover larger than `max_paths` the best paths
    are scored. Each of at most `max_rounds` rounds scores those of the `per_round` best paths by
    the estimates that are new: more of them cost more evaluations and find more. `lm_name` is the
    name of the n-gram score in the list. Raises FormatError for impossible numbers.
    """

    posterior: float = 1e-3
    cover_posterior: float = 0.1
    max_paths: int = 1000
    max_rounds: int = 50
    per_round: int = 5
    lm_name: str = "lm"

    def __post_init__(self) -> None:
        if self.max_paths < 1 or self.max_rounds < 0 or self.per_round < 1:
            raise FormatError(
                f"max_paths {self.max_paths}, max_rounds {self.max_rounds}, "
                f"per_round {self.per_round}: expected at least 1, 0 and 1"
            )


@dataclass(frozen=True)
class RescoredLattice:
    """`nbest`: all scored paths, best total first, with the scores `am`, `lm` and the new one.

    `evaluations` (NFE) is what their scores cost. `cover` is the size of the path cover, `rounds`
    how often new best paths were scored; `is_stable` is False where `max_rounds` ended the search.
    `arcs` counts those of the pruned and merged lattice.
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
    options: SearchOptions | None = None,
    *,
    name: str | None = None,
    text: Callable[[Sequence[int]], str] | None = None,
    ref: str | None = None,
) -> RescoredLattice:
    """Search a lattice for the path with the best total, the scorer's score included.

    A heuristic: see the top of this module. `name` is the name of the new score (default: the
    scorer's). `text` makes the text of a path from indices into `lattice.symbols` (default:
    `text_of`). Deterministic if the scorer is. Time and memory of an estimate are O(scored paths *
    arcs on them) and O(scored paths^2 * these arcs). Raises ScoreError if a score is not finite.
    """
    options = options or SearchOptions()
    small = _prune_and_merge(lattice, weights, options.posterior)
    text = text or partial(text_of, small.symbols)
    paths = _ScoredPaths(small, scorer, weights, name or scorer.name, text, options.lm_name, ref)
    cover = _cover(small, weights, options)
    paths.score([path.words for path in cover])
    rounds, is_stable = 0, small.arcs == 0
    while not is_stable and rounds < options.max_rounds:
        best = n_best(small, paths.estimate_arcs(), options.per_round)
        is_stable = not paths.score([path.words for path in best])
        if not is_stable:
            rounds += 1
    return RescoredLattice(
        nbest=paths.as_nbest(),
        evaluations=paths.evaluations,
        arcs=small.arcs,
        cover=len(cover),
        rounds=rounds,
        is_stable=is_stable,
    )


def rescore_lattices(
    lattices: Iterable[Lattice],
    scorer: PlainScorer,
    weights: LatticeWeights,
    options: SearchOptions | None = None,
    *,
    name: str | None = None,
    references: Mapping[str, str] | None = None,
) -> Iterator[NBest]:
    """Yield the list of `rescore_lattice` for every lattice, with its reference."""
    adapted = adapt(scorer)
    for lattice in lattices:
        ref = reference_of(lattice, references)
        yield rescore_lattice(lattice, adapted, weights, options, name=name, ref=ref).nbest
    adapted.warn()


def _prune_and_merge(lattice: Lattice, weights: LatticeWeights, posterior: float) -> Lattice:
    """Prune, and merge where that makes the lattice smaller."""
    scale = weights.posterior_scale
    scaled = arc_totals(
        lattice, scale * weights.am_scale, scale * weights.lm_scale, scale * weights.word_bonus
    )
    pruned = prune(lattice, scaled, posterior=posterior)
    try:
        return merge(pruned, weights.arc_totals(pruned), limit=4 * pruned.arcs + 1000)
    except FormatError:  # it would grow; paths of equal words are scored once all the same
        return pruned


def _cover(lattice: Lattice, weights: LatticeWeights, options: SearchOptions) -> list[Path]:
    """The paths that cover every likely arc, best first, at most `max_paths`."""
    likely = prune(
        lattice,
        weights.posterior_scale * weights.arc_totals(lattice),
        posterior=max(options.cover_posterior, options.posterior),
    )
    return path_cover(likely, weights.arc_totals(likely))[: options.max_paths]


class _ScoredPaths:
    """The paths scored so far, one for each text, and what their scores say about arcs."""

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
        self._lattice, self._weights, self._text = lattice, weights, text
        self._scorer = adapt(scorer)
        self._name, self._lm_name, self._ref = name, lm_name, ref
        self._totals = weights.arc_totals(lattice)
        self._paths: dict[str, Path] = {}  # by text, in the order of `_scores`
        self._scores: list[Score] = []
        self.evaluations = 0

    def score(self, sequences: Sequence[tuple[int, ...]]) -> bool:
        """Score the new texts among these word sequences; returns whether there were any.

        A text is scored by its best path. A lattice without arcs has the empty text.
        """
        new: dict[str, Path] = {}
        for path in self._best_paths(sequences):
            text = self._text(path.words)
            if text not in self._paths:
                new.setdefault(text, path)
        if not new:
            return False
        score = self._evaluate(list(new.values()))
        self._refuse_non_finite(score)
        self._scores.append(score)
        self._paths.update(new)
        return True

    def _best_paths(self, sequences: Sequence[tuple[int, ...]]) -> list[Path]:
        if not self._lattice.arcs:
            return [Path((), (), 0.0, 0.0, 0.0)]
        paths = paths_of(self._lattice, self._totals, sequences)
        return [path for path in paths if path is not None]

    def _evaluate(self, paths: Sequence[Path]) -> Score:
        """Score new paths.

        A score whose scope is the list is aligned to its first hypothesis, so scores are comparable
        only beside the first path of all: it heads every list, and its score is dropped.
        """
        nbest = self._list(paths)
        is_anchored = bool(self._scores) and self._scorer.scope == "list"
        if is_anchored:
            first = next(iter(self._paths.values()))
            nbest = replace(nbest, hyps=(self._list([first]).hyps[0], *nbest.hyps))
        (score,) = self._scorer.evaluate(self._scorer.prepare([nbest]))
        self.evaluations += score.evaluations
        return _without_first(score) if is_anchored else score

    def _list(self, paths: Sequence[Path]) -> NBest:
        return as_nbest(self._lattice, paths, self._text, lm=self._lm_name, ref=self._ref)

    def _refuse_non_finite(self, score: Score) -> None:
        for value in score.values:
            if not math.isfinite(value):
                raise ScoreError(
                    f'{self._lattice.place()}: score "{self._name}" of a path is {value}, '
                    "expected a finite number"
                )

    def _values(self) -> FloatArray:
        """The new score of every path, (P,)."""
        return np.array([value for score in self._scores for value in score.values])

    def _std_errors(self) -> list[float] | None:
        """The standard error of every path, NaN where it is unknown; None for an exact scorer."""
        if all(score.std_errors is None for score in self._scores):
            return None
        errors: list[float] = []
        for score in self._scores:
            errors.extend(score.std_errors or [math.nan] * len(score.values))
        return errors

    def estimate_arcs(self) -> FloatArray:
        """The total of every arc with its estimated share of the new score, (A,)."""
        used = np.unique(np.concatenate([path.arcs for path in self._paths.values()]))
        is_on_path = np.zeros((len(self._paths), len(used)))
        for row, path in enumerate(self._paths.values()):
            is_on_path[row, np.searchsorted(used, path.arcs)] = 1.0
        features = np.column_stack([self._lattice.lm, self._lattice.word > 0])  # of each arc
        values, path_features = self._values(), is_on_path @ features[used]
        centred = path_features - path_features.mean(axis=0)
        slope = np.linalg.lstsq(centred, values - values.mean(), rcond=1e-9)[0]
        residuals = values - path_features @ slope
        covariance = is_on_path @ is_on_path.T + _RIDGE * np.eye(len(is_on_path))
        corrections = np.zeros(self._lattice.arcs)
        corrections[used] = is_on_path.T @ np.linalg.solve(covariance, residuals - residuals.mean())
        shares: FloatArray = features @ slope + corrections
        return self._totals + self._weights.new_scale * shares

    def as_nbest(self) -> NBest:
        """All scored paths, best total first."""
        paths, values, errors = list(self._paths.values()), self._values(), self._std_errors()
        totals = np.array([path.total for path in paths]) + self._weights.new_scale * values
        order = np.argsort(-totals, kind="stable").tolist()
        score = replace(
            self._scores[0],
            values=tuple(values[order].tolist()),
            evaluations=self.evaluations,
            std_errors=None if errors is None else tuple(errors[i] for i in order),
            token_scores=None,
        )
        return with_score(self._list([paths[i] for i in order]), self._name, score)


def _without_first(score: Score) -> Score:
    errors = None if score.std_errors is None else score.std_errors[1:]
    return replace(score, values=score.values[1:], std_errors=errors)
