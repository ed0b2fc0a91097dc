"""The lists of several systems for the same utterances, joined by text: `dlmrescore pool`.

Scores keep apart under the names of their systems: `a.am`, `b.am`. A hypothesis that a system did
not propose has no score of that system, for there is none. What all hypotheses have is

    pool(h) = log sum_s w_s p_s(h),    p_s(h) = 0 where system s did not propose h,

the log-probability of h under the mixture of the systems, w_s their weights (equal by default, they
sum to 1). p_s comes from the `posterior` that `fuse --posterior` wrote; for lists without it, from
their order: each place is e times less likely than the one before. A score that all systems made
with the same signature (one language model) keeps its own name.

With `pool` as the one score, `fuse --decision mbr` is N-best combination by expected errors, and
`fuse --consensus` votes word by word.
Sources: Stolcke et al. 2000, "The SRI March 2000 Hub-5 conversational speech transcription system"
(N-best ROVER); Xu, Povey, Mangu and Zhu 2011, "Minimum Bayes Risk decoding and system combination
based on a recursion for edit distance", Computer Speech and Language 25.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rescore.errors import FormatError, FusionError
from rescore.formats.record import HYPOTHESIS_FIELDS
from rescore.fusion.decisions import posterior
from rescore.fusion.table import signature
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest, Provenance

__all__ = ["POOL", "pool"]

#: The score that every pooled hypothesis has.
POOL = "pool"


@dataclass
class _Entry:
    """A text of the pool: its probability under the mixture, and what each system says of it."""

    text: str
    probability: float
    by_system: dict[str, Hypothesis]


def pool(
    systems: Mapping[str, Iterable[NBest]],
    weights: Sequence[float] | None = None,
    *,
    keep_incomplete: bool = False,
) -> Iterator[NBest]:
    """Yield the joined list of every utterance, in the order of the first system, likeliest first.

    Texts are equal if their words are. Every hypothesis says in `systems` who proposed it. The
    lists of all systems but the first are held in memory. An utterance that a system lacks is an
    error; with `keep_incomplete` it is pooled from the others, whose weights then sum to 1.
    Raises FusionError for fewer than two systems or weights that do not fit, FormatError for
    utterances or references that differ.
    Exact check: tests/fusion/test_pooling.py::test_the_pool_is_the_log_of_the_mixture.
    """
    names = list(systems)
    shares = _shares(names, weights)
    first, *others = names
    held = {name: {n.id: n for n in each_once(systems[name], "pooled")} for name in others}
    seen = set()
    for nbest in each_once(systems[first], "pooled"):
        seen.add(nbest.id)
        lists = {first: nbest}
        lists.update({name: by_id[nbest.id] for name, by_id in held.items() if nbest.id in by_id})
        if len(lists) < len(names) and not keep_incomplete:
            [absent, *_] = [name for name in names if name not in lists]
            raise _incomplete(nbest, absent)
        yield _pooled(lists, shares)
    for name in others:
        for nbest in held[name].values():
            if nbest.id in seen:
                continue
            if not keep_incomplete:
                raise _incomplete(nbest, first)
            seen.add(nbest.id)
            yield _pooled({n: held[n][nbest.id] for n in others if nbest.id in held[n]}, shares)


def _shares(names: Sequence[str], weights: Sequence[float] | None) -> dict[str, float]:
    """The weight of every system; they sum to 1."""
    if len(names) < 2:
        raise FusionError(f"there is one system, {', '.join(names)}; pool joins two or more")
    values = [1.0] * len(names) if weights is None else list(weights)
    if len(values) != len(names) or not all(0 < value < math.inf for value in values):
        raise FusionError(
            f"the weights are {', '.join(map(str, values))}, expected a positive number for each of"
            f" {', '.join(names)}"
        )
    return {name: value / sum(values) for name, value in zip(names, values, strict=True)}


def _incomplete(nbest: NBest, absent: str) -> FormatError:
    return FormatError(
        f"{nbest.place()}: system {absent} has no list of this utterance; give the same utterances,"
        " or pool what there is (--missing keep)"
    )


def _pooled(lists: Mapping[str, NBest], shares: Mapping[str, float]) -> NBest:
    """The joined list of one utterance."""
    whole = sum(shares[name] for name in lists)
    entries: dict[str, _Entry] = {}
    for name, nbest in lists.items():
        probabilities = _probabilities(nbest) * (shares[name] / whole)
        for hyp, probability in zip(nbest.hyps, probabilities.tolist(), strict=True):
            entry = entries.setdefault(" ".join(hyp.words), _Entry(hyp.text, 0.0, {}))
            entry.probability += probability
            entry.by_system.setdefault(name, hyp)
    shared = _shared_scores(lists)
    ranked = sorted(entries.values(), key=lambda entry: -entry.probability)
    base = next(iter(lists.values()))
    raw = {key: value for key, value in base.raw.items() if key not in ("hyps", "meta")}
    return NBest(
        base.id,
        tuple(_hypothesis(entry, shared) for entry in ranked),
        _reference(lists),
        raw,
        base.where,
        provenance=_provenance(lists, shared, shares),
    )


def _probabilities(nbest: NBest) -> np.ndarray:
    """p_s of each hypothesis of one system's list, (H,); copies of a text have their own."""
    values = [hyp.raw.get("posterior") for hyp in nbest.hyps]
    given = [float(value) for value in values if isinstance(value, int | float)]
    if len(given) < len(values) or not all(0 <= value < math.inf for value in given):
        return posterior(-np.arange(len(nbest.hyps), dtype=np.float64))
    total = sum(given)
    if not total:
        raise FormatError(f"{nbest.place()}: all posteriors are 0; run fuse --posterior again")
    return np.array(given) / total


def _shared_scores(lists: Mapping[str, NBest]) -> frozenset[str]:
    """The scores that every hypothesis of all systems has, made alike as far as they say."""
    all_names = [set(hyp.scores) for nbest in lists.values() for hyp in nbest.hyps]
    common = set.intersection(*all_names)
    made = {name: {signature(nbest, name) for nbest in lists.values()} for name in common}
    return frozenset(
        name for name, signatures in made.items() if len(signatures) == 1 and None not in signatures
    )


def _hypothesis(entry: _Entry, shared: frozenset[str]) -> Hypothesis:
    scores: dict[str, float] = {}
    for system, hyp in entry.by_system.items():
        for name, value in hyp.scores.items():
            scores.setdefault(name if name in shared else f"{system}.{name}", value)
    # A probability that underflows has no logarithm: the smallest one that has stands for it.
    tiny = float(np.finfo(np.float64).tiny)
    scores[POOL] = math.log(max(entry.probability, tiny))
    first = next(iter(entry.by_system.values()))
    dropped = HYPOTHESIS_FIELDS | {"posterior", "word_confidences"}
    raw = {key: value for key, value in first.raw.items() if key not in dropped}
    return Hypothesis(entry.text, scores, {**raw, "systems": list(entry.by_system)})


def _reference(lists: Mapping[str, NBest]) -> str | None:
    references = {n.ref for n in lists.values() if n.ref is not None}
    if len(references) > 1:
        [first, *_] = lists.values()
        raise FormatError(
            f"{first.place()}: the systems have different references; give the lists of one set, or"
            " take the references out of all but one"
        )
    return next(iter(references), None)


def _provenance(
    lists: Mapping[str, NBest], shared: frozenset[str], shares: Mapping[str, float]
) -> dict[str, Provenance]:
    """What made each score, under its new name."""
    made: dict[str, Provenance] = {}
    for system, nbest in lists.items():
        for name, provenance in nbest.provenance.items():
            made.setdefault(name if name in shared else f"{system}.{name}", provenance)
    weights = ",".join(f"{name}:{share:.6g}" for name, share in shares.items())
    entry = {"signature": f"pool|{weights}|version=1", "kind": "log_prob", "evaluations": 0}
    return {**made, POOL: Provenance(entry)}
