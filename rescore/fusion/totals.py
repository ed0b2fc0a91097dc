"""The total score of a hypothesis, and what it does to lists.

    total = sum_k scale_k * score_k + word_bonus * words

`prior_scale` (minus the recogniser's internal LM) is the scale of a score like any other, usually
negative. Other ways from scores to totals have a name in `rescore.registry.FUSIONS`, which a
weights file gives as its `kind`; tuning is for `linear`. Reading order: `linear`, `totals`,
`winners`, `fuse`. Shapes: U utterances, H hypotheses of all of them together, F named scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FusionError
from rescore.formats.record import from_dict, to_dict
from rescore.fusion.decisions import posterior, word_confidences
from rescore.fusion.table import TOTAL, ScoreTable
from rescore.fusion.weights import Fusion, check_signatures
from rescore.registry import DECISIONS, FUSIONS, lookup
from rescore.types import NBest, Provenance

__all__ = ["Combiner", "fuse", "linear", "totals", "winners"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

#: A kind of fusion: (features (H, F), scales in the order of the columns, words (H,), word_bonus)
#: of the H hypotheses of one list -> totals (H,).
Combiner: TypeAlias = Callable[[FloatArray, Sequence[float], IntArray, float], FloatArray]

_POSTERIORS = ("posterior", "word_confidences")  # fields that `posteriors` adds to a hypothesis
_TEMPERATURE = "temperature"  # field of meta.scores.total where there are posteriors


def linear(
    features: FloatArray, scales: Sequence[float], words: IntArray, word_bonus: float
) -> FloatArray:
    """Return sum_k scale_k * score_k + word_bonus * words, (H,).

    Added up name after name, elementwise: equal rows have equal totals, and a list alone has the totals it has among others.
    """
    total = scales[0] * features[:, 0]
    for k in range(1, len(scales)):
        total = total + scales[k] * features[:, k]
    return np.asarray(total + word_bonus * words)


def totals(
    table: ScoreTable,
    scales: Mapping[str, float] | Sequence[float],
    word_bonus: float = 0.0,
    combine: Combiner = linear,
) -> FloatArray:
    """Return the total of every hypothesis, (H,), in nats times the first scale. `scales` has a value for each of `table.names`.

    `combine` sees all rows at once; one that compares hypotheses has to be given one list at a time.
    Raises FusionError if the scales do not fit the names, or a total is missing or overflows.
    """
    weights = (
        [scales.get(name, math.nan) for name in table.names]
        if isinstance(scales, Mapping)
        else list(scales)
    )
    if (
        len(weights) != len(table.names)
        or len(scales) != len(table.names)
        or not np.isfinite(weights).all()
    ):
        raise FusionError(
            f"the scales {scales} do not fit the scores {', '.join(table.names)}, expected one finite number for each"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        total = combine(table.features, weights, table.words, word_bonus)
    if np.shape(total) != table.words.shape:
        raise FusionError(
            f"the fusion made totals of shape {np.shape(total)}, expected {table.words.shape}: one for each hypothesis"
        )
    if not np.isfinite(total).all():
        raise FusionError(
            "a total is not finite, or too large for a float; the scores or scales are unusable"
        )
    return total


def winners(values: FloatArray, offsets: IntArray) -> IntArray:
    """Return the index of the highest value of each utterance, (U,) into (H,); of equal ones the earliest."""
    highest = np.repeat(np.maximum.reduceat(values, offsets[:-1]), np.diff(offsets))
    hits = np.flatnonzero(values == highest)
    return hits[np.searchsorted(hits, offsets[:-1])]


def fuse(
    lists: Iterable[NBest],
    fusion: Fusion,
    decision: str = "map",
    temperature: float | None = None,
    *,
    posteriors: bool = False,
) -> Iterator[NBest]:
    """Yield every list whole, reordered: the chosen hypothesis first, the others by descending total, equal ones as they were.

    Every hypothesis gets `scores.total` (an older one is replaced), the record `meta.scores.total` with the signature of the weights and whether
    they were tuned on this utterance; all else stays, in `raw` too, and the input is not changed. `decision` is a name from the registry;
    `temperature` divides the totals where probabilities are needed: by default the tuned one, or 1.
    `posteriors` adds `posterior` to every hypothesis (they sum to 1), `word_confidences` to the winner and `temperature` to `meta.scores.total`;
    without it, those of an earlier call, which belong to the older total, are left out.
    Raises ScoreError for a missing score, FusionError if a score was made by another model or setting than the one tuned with, RescoreError for
    an unknown decision or kind of fusion.
    """
    choose, combine = (
        lookup(DECISIONS, decision, "decision"),
        lookup(FUSIONS, fusion.kind, "fusion"),
    )
    divisor = temperature if temperature is not None else fusion.temperature or 1.0
    written = divisor if posteriors else None
    for nbest in lists:
        check_signatures(nbest, fusion)
        table = ScoreTable.of([nbest], list(fusion.scales))
        try:
            total = totals(table, fusion.scales, fusion.word_bonus, combine)
        except FusionError as error:
            raise FusionError(f"{nbest.place()}: {error}") from error
        chosen = choose([hyp.text for hyp in nbest.hyps], total, divisor)
        raws = _with_posteriors(nbest, total, written, chosen)
        order = [chosen, *(i for i in np.argsort(-total, kind="stable") if i != chosen)]
        hyps = tuple(
            replace(
                nbest.hyps[i], scores={**nbest.hyps[i].scores, TOTAL: float(total[i])}, raw=raws[i]
            )
            for i in order
        )
        yield from_dict(
            to_dict(replace(nbest, hyps=hyps, provenance=_with_total(nbest, fusion, written))),
            nbest.where,
        )


def _with_total(nbest: NBest, fusion: Fusion, temperature: float | None) -> dict[str, Provenance]:
    """What made the scores of the list, the total included."""
    made = {
        "signature": fusion.signature,
        "kind": "total",
        "evaluations": 0,
        "tuned_on": fusion.knows(nbest.id),
    }
    made = made if temperature is None else {**made, _TEMPERATURE: temperature}
    return {**nbest.provenance, TOTAL: Provenance(made)}


def _with_posteriors(
    nbest: NBest, total: FloatArray, temperature: float | None, chosen: int
) -> list[dict[str, Any]]:
    """The raw hypotheses with their probabilities, the chosen one with the confidences of its words too.

    None: without those that an earlier `fuse` gave them; fields of these names from elsewhere stay.
    """
    total_before = nbest.provenance.get(TOTAL)
    had_posteriors = total_before is not None and total_before.get(_TEMPERATURE) is not None
    replaced = _POSTERIORS if temperature is not None or had_posteriors else ()
    raws = [
        {key: value for key, value in hyp.raw.items() if key not in replaced} for hyp in nbest.hyps
    ]
    if temperature is not None:
        probabilities = posterior(total, temperature)
        for raw, probability in zip(raws, probabilities.tolist(), strict=True):
            raw["posterior"] = probability
        raws[chosen]["word_confidences"] = word_confidences(
            [hyp.text for hyp in nbest.hyps], probabilities, chosen
        ).tolist()
    return raws
