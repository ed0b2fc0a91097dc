"""The total score of a hypothesis, and what it does to lists.

    total = sum_k scale_k * score_k + word_bonus * words

`prior_scale` (minus the recogniser's internal LM) is the scale of a score like any other, usually
negative. Other ways from scores to totals have a name in `rescore.registry.FUSIONS`, which a
weights file gives as its `kind`; tuning is for `linear`. Reading order: `linear`, `totals`,
`winners`, `fuse`. Shapes: U utterances, H hypotheses of all of them together, F named scores.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FusionError
from rescore.formats.record import from_dict, to_dict
from rescore.fusion.cost_watch import CostWatch
from rescore.fusion.decisions import posterior, word_confidences
from rescore.fusion.probabilities import POSTERIOR, WORD_CONFIDENCES
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

logger = logging.getLogger("rescore")

_POSTERIORS = (POSTERIOR, WORD_CONFIDENCES)
_TEMPERATURE = "temperature"  # field of meta.scores.total where there are posteriors


def linear(
    features: FloatArray, scales: Sequence[float], words: IntArray, word_bonus: float
) -> FloatArray:
    """Return sum_k scale_k * score_k + word_bonus * words, (H,).

    Added up name after name, elementwise: so equal rows have equal totals, and a list alone has
    the totals that it has among others.
    Exact check: tests/fusion/test_totals.py::test_a_list_alone_has_the_totals_it_has_among_others.
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
    """Return the total of every hypothesis, (H,), in nats times the first scale.

    `scales` has a value for each of `table.names`. `combine` gets all rows at once: a combiner that
    compares the hypotheses of a list needs tables of one list.
    Raises FusionError if the scales do not fit the names, or a total is missing or overflows.
    """
    if isinstance(scales, Mapping):
        weights = [scales.get(name, math.nan) for name in table.names]
    else:
        weights = list(scales)
    if not len(weights) == len(scales) == len(table.names) or not np.isfinite(weights).all():
        raise FusionError(
            f"the scales {scales} do not fit the scores {', '.join(table.names)},"
            " expected one finite number for each"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        total = combine(table.features, weights, table.words, word_bonus)
    if np.shape(total) != table.words.shape:
        raise FusionError(
            f"the fusion returned totals of shape {np.shape(total)},"
            f" expected {table.words.shape}: one for each hypothesis"
        )
    if not np.isfinite(total).all():
        raise FusionError(
            "a total is not finite, or too large for a float; the scores or scales are unusable"
        )
    return total


def winners(values: FloatArray, offsets: IntArray) -> IntArray:
    """Return the row of the highest value of each list, (U,) into (H,); ties go to the earliest."""
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
    command: str | None = None,
) -> Iterator[NBest]:
    """Yield every list reordered: the chosen hypothesis first, the others by descending total.

    Ties stay in their order. Every hypothesis gets `scores.total` (an older one is replaced), the
    record `meta.scores.total` with the signature of the weights, whether they were tuned on this
    utterance, and where the recogniser's first hypothesis is now. Everything else stays, in `raw`
    too; the input is not changed. `decision` is a name from the registry. `temperature` divides the
    totals where probabilities are needed: by default the tuned one, or 1. `posteriors` adds
    `posterior` to every hypothesis (they sum to 1), `word_confidences` to the winner and
    `temperature` to `meta.scores.total`. Without it, those of an earlier call are left out, because
    they belong to the older total. `command` is the one that made the total, kept there too.

    Raises ScoreError for a missing score, FusionError if a score was made by another model or
    setting than the one tuned with, RescoreError for an unknown decision or kind of fusion.
    Exact check:
    tests/fusion/test_fuse.py::test_fuse_puts_the_winner_first_and_keeps_everything_else.
    """
    choose = lookup(DECISIONS, decision, "decision")
    combine = lookup(FUSIONS, fusion.kind, "fusion")
    divisor = temperature if temperature is not None else fusion.temperature or 1.0
    watch = CostWatch(list(fusion.scales))
    for nbest in lists:
        table = ScoreTable.of([nbest], list(fusion.scales))
        watch.add(table)
        check_signatures(nbest, fusion)
        try:
            total = totals(table, fusion.scales, fusion.word_bonus, combine)
        except FusionError as error:
            raise FusionError(f"{nbest.place()}: {error}") from error
        chosen = choose([hyp.text for hyp in nbest.hyps], total, divisor)
        entry: dict[str, Any] = {} if command is None else {"command": command}
        if posteriors:
            entry[_TEMPERATURE] = divisor
        yield _reordered(nbest, fusion, total, chosen, entry)
    for warning in watch.warnings():
        logger.warning("%s", warning)


def _reordered(
    nbest: NBest, fusion: Fusion, total: FloatArray, chosen: int, entry: Mapping[str, Any]
) -> NBest:
    """The list with its totals; with probabilities too where `entry` has a temperature.

    `entry` is added to what the record says of the total.
    """
    raws = _raw_hypotheses(nbest, total, chosen, entry.get(_TEMPERATURE))
    descending = [int(i) for i in np.argsort(-total, kind="stable")]
    order = [chosen, *(i for i in descending if i != chosen)]
    hyps = []
    for i in order:
        scores = {**nbest.hyps[i].scores, TOTAL: float(total[i])}
        hyps.append(replace(nbest.hyps[i], scores=scores, raw=raws[i]))
    provenance = {**nbest.provenance, TOTAL: _total_provenance(nbest, fusion, entry, order)}
    fused = replace(nbest, hyps=tuple(hyps), provenance=provenance)
    return from_dict(to_dict(fused), nbest.where)


def _total_provenance(
    nbest: NBest, fusion: Fusion, further: Mapping[str, Any], order: Sequence[int]
) -> Provenance:
    """What made the totals of the list, and where its first hypothesis went."""
    entry = {
        "signature": fusion.signature,
        "kind": "total",
        "evaluations": 0,
        "tuned_on": fusion.knows(nbest.id),
        "first_pass": order.index(nbest.first_pass or 0),
        **further,
    }
    return Provenance(entry)


def _raw_hypotheses(
    nbest: NBest, total: FloatArray, chosen: int, temperature: float | None
) -> list[dict[str, Any]]:
    """The JSON objects of the hypotheses, with the probabilities that the temperature gives.

    Without a temperature, the probabilities of an earlier `fuse` are removed. Fields of the same
    names that another tool wrote stay.
    """
    earlier_total = nbest.provenance.get(TOTAL)
    had_posteriors = earlier_total is not None and earlier_total.get(_TEMPERATURE) is not None
    raws = [dict(hyp.raw) for hyp in nbest.hyps]
    if temperature is not None or had_posteriors:
        for raw in raws:
            for name in _POSTERIORS:
                raw.pop(name, None)
    if temperature is not None:
        probabilities = posterior(total, temperature)
        for raw, probability in zip(raws, probabilities.tolist(), strict=True):
            raw[POSTERIOR] = probability
        confidences = word_confidences([hyp.text for hyp in nbest.hyps], probabilities, chosen)
        raws[chosen][WORD_CONFIDENCES] = confidences.tolist()
    return raws
