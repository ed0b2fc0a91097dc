"""Lattices to N-best lists: the best paths, a sample of paths, or paths that cover every arc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rescore.errors import FormatError
from rescore.lattice.cover import path_cover
from rescore.lattice.lattice import Lattice
from rescore.lattice.paths import Path, as_nbest, n_best, sample
from rescore.lattice.posteriors import FloatArray, arc_totals, prune
from rescore.types import NBest

__all__ = ["METHODS", "Choice", "Method", "nbest_of", "nbests_of", "reference_of"]

Method = Literal["nbest", "sample", "cover"]
METHODS: tuple[Method, ...] = get_args(Method)

_COUNT = 100


@dataclass(frozen=True)
class Choice:
    """Which paths of a lattice become hypotheses.

    `method`: the `count` best word sequences; those of `count` paths drawn from
    P ~ exp(sample_scale * total); or the words of the fewest paths that cover every arc, the best
    `count` of them. `count` is 100 by default, and all of a cover.
    total = am_scale * am + lm_scale * lm + word_bonus * words.
    Arcs less likely than `posterior` (by posterior_scale * total) are pruned first. `lm_name` is
    the name of the n-gram score in the list; None leaves it out.
    """

    method: Method = "nbest"
    count: int | None = None
    am_scale: float = 1.0
    lm_scale: float = 1.0
    word_bonus: float = 0.0
    sample_scale: float = 0.5
    seed: int = 0
    posterior: float = 0.0
    posterior_scale: float = 1.0
    lm_name: str | None = "lm"

    def totals(self, lattice: Lattice) -> FloatArray:
        """The totals of the arcs, (A,) float64 nats."""
        return arc_totals(lattice, self.am_scale, self.lm_scale, self.word_bonus)


def nbest_of(lattice: Lattice, choice: Choice, ref: str | None = None) -> NBest:
    """Return the list of a lattice, best total first.

    A lattice without a path becomes one empty hypothesis. Raises FormatError for a count below 1, a
    posterior outside 0..1, or a scale that is not positive.
    """
    if choice.posterior:
        lattice = prune(
            lattice, choice.posterior_scale * choice.totals(lattice), posterior=choice.posterior
        )
    nbest = as_nbest(lattice, _paths(lattice, choice), ref=ref, lm=choice.lm_name or "lm")
    if choice.lm_name is not None:
        return nbest
    return replace(
        nbest, hyps=tuple(replace(hyp, scores={"am": hyp.scores["am"]}) for hyp in nbest.hyps)
    )


def nbests_of(
    lattices: Iterable[Lattice], choice: Choice, references: Mapping[str, str] | None = None
) -> Iterator[NBest]:
    """Yield the list of every lattice, with its reference where `references` are given.

    Raises FormatError for a lattice without a reference among them.
    """
    for lattice in lattices:
        yield nbest_of(lattice, choice, reference_of(lattice, references))


def reference_of(lattice: Lattice, references: Mapping[str, str] | None) -> str | None:
    """Return the lattice's reference; None if there are no references at all.

    Raises FormatError if only this lattice has none.
    """
    if references is not None and lattice.id not in references:
        raise FormatError(
            f"{lattice.place()}: the manifest has no such id; give the manifest of this very set"
        )
    return None if references is None else references[lattice.id]


def _paths(lattice: Lattice, choice: Choice) -> list[Path]:
    if choice.method == "nbest":
        return n_best(lattice, choice.totals(lattice), choice.count or _COUNT)
    if choice.method == "sample":
        return sample(
            lattice,
            choice.totals(lattice),
            choice.count or _COUNT,
            scale=choice.sample_scale,
            seed=choice.seed,
        )
    return path_cover(lattice, choice.totals(lattice))[: choice.count]
