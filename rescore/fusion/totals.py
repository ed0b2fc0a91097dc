"""The total score of a hypothesis, total = sum_k scale_k * score_k + word_bonus * words, and what it does to lists.

Reading order: `Fusion` (the weights, a small JSON file), `Ragged` (lists as arrays), `linear`, `totals`, `fuse`. Weights come from `rescore.fusion.tuning`.
Other ways from scores to totals have a name in `rescore.registry.FUSIONS`, which a weights file gives as its `kind`; tuning is for `linear`.
Shapes: U utterances, H hypotheses of all of them together, F named scores. `prior_scale` (method: minus the recogniser's internal LM) is the
scale of a score like any other, usually negative.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FormatError, FusionError, ScoreError
from rescore.formats.files import PathLike, atomic_writer, name_of, read_bytes
from rescore.formats.record import from_dict, to_dict
from rescore.formats.strict_json import decode
from rescore.fusion.decisions import posterior, word_confidences
from rescore.registry import DECISIONS, FUSIONS, lookup
from rescore.types import NBest, Provenance

__all__ = [
    "Combiner", "DevResult", "Fusion", "Ragged", "check_signatures", "digest", "fuse", "gather", "linear", "load", "recogniser_scores", "save", "signature",
    "totals", "winners",
]  # fmt: skip

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Span: TypeAlias = tuple[float | None, float | None]

#: A kind of fusion: (features (H, F), scales in the order of the columns, words (H,), word_bonus) of the H hypotheses of one list -> totals (H,).
Combiner: TypeAlias = Callable[[FloatArray, Sequence[float], IntArray, float], FloatArray]

RANK = "rank"
TOTAL = "total"
_POSTERIORS = ("posterior", "word_confidences")  # what a hypothesis has of `posteriors`
_TEMPERATURE = "temperature"  # of meta.scores.total where there are posteriors


@dataclass(frozen=True)
class DevResult:
    """What tuning saw on the development lists. Rates are fractions.

    `first_pass_wer` is that of the first hypotheses as they came, `wer` that of the tuned totals, `cross_validated_wer` that of folds tuned
    on the others (None if not asked for). `plateaus` gives for each free scale the open interval around it, the others fixed, on which the
    error count stays the same; None is an open end. `unit` and `normalizer` say what was counted, the rest how it was searched.
    """

    utterances: int
    reference_words: int
    first_pass_wer: float
    wer: float
    oracle_wer: float
    plateaus: Mapping[str, Span]
    cross_validated_wer: float | None = None
    folds: int = 0
    unit: str = "word"
    normalizer: str = "none"
    restarts: int = 0
    random_directions: int = 0
    seed: int = 0
    version: str = ""


@dataclass(frozen=True)
class Fusion:
    """Weights: an ordered `scales` (the first, the acoustic score as a rule, is 1 after tuning) and nats for every word.

    `signatures` holds what made each score on the tuning lists, where they said so: `fuse` refuses others. `tuned_on` holds a digest of each
    utterance id tuned on, separated by spaces, so that `overlap` can tell. `temperature` divides totals where probabilities are wanted; None says
    nothing. `kind` names the function that makes totals of them. Raises FusionError for weights that are not finite, or none, and a temperature that is
    not positive.
    """

    scales: Mapping[str, float]
    word_bonus: float = 0.0
    signatures: Mapping[str, str] = field(default_factory=dict)
    dev: DevResult | None = None
    tuned_on: str = ""
    temperature: float | None = None
    kind: str = "linear"

    def __post_init__(self) -> None:
        if not self.scales:
            raise FusionError("there are no scales; expected at least one named score")
        for name, value in {**self.scales, "word_bonus": self.word_bonus}.items():
            if not math.isfinite(value):
                raise FusionError(f'the weight of "{name}" is {value}, expected a finite number')
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise FusionError(
                f"the temperature is {self.temperature}, expected a positive number or null"
            )

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(self.tuned_on.split())

    def knows(self, utterance: str) -> bool:
        """Whether the weights were tuned on the utterance of this id."""
        return digest(utterance) in self._digests

    def overlap(self, ids: Iterable[str]) -> int:
        """Return how many of these utterance ids the weights were tuned on: their error rate says nothing about new data."""
        return sum(map(self.knows, ids))

    @cached_property
    def signature(self) -> str:
        """What made a total: a digest of the kind, the weights and the signatures of the scores."""
        return f"fusion:{digest(json.dumps([self.kind, list(self.scales.items()), self.word_bonus, sorted(self.signatures.items())]))}"


def digest(text: str) -> str:
    """Return 16 hexadecimal digits of a text (BLAKE2b, 64 bits): among 100,000 utterance ids two collide once in 4 billion files."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def save(fusion: Fusion, path: PathLike) -> None:
    """Write the weights as JSON; the file appears whole or not at all. Raises FormatError if it cannot be written."""
    with atomic_writer(path) as output:
        output.write(msgspec.json.format(msgspec.json.encode(fusion), indent=2) + b"\n")


def load(path: PathLike) -> Fusion:
    """Read what `save` wrote, or weights written by hand ({"scales": {"am": 1, "mdlm": 0.4}} is enough).

    Raises FormatError naming the file for anything else: broken JSON, a wrong type, a weight that is not finite, a field nobody knows.
    """
    where = name_of(path)
    record = decode(read_bytes(path), where)
    _refuse_unknown_fields(record, where)
    try:
        return msgspec.convert(record, Fusion)
    except (msgspec.ValidationError, FusionError) as error:
        raise FormatError(
            f"{where}: not weights as `dlmrescore tune` writes them: {error}"
        ) from error


def _refuse_unknown_fields(record: object, where: str) -> None:
    """A misspelt `word_bonus` must not mean 0."""
    known = [one.name for one in fields(Fusion)]
    for name in record if isinstance(record, dict) else ():
        if name not in known:
            raise FormatError(
                f'{where}: the field "{name}" is unknown; expected some of {", ".join(known)}'
            )


@dataclass(frozen=True)
class Ragged:
    """Lists as arrays: utterance u has the hypotheses offsets[u] to offsets[u + 1].

    `offsets` is int64 (U + 1,), `features` float64 (H, F) with a column for each of `names`, `words` int64 (H,).
    Raises FusionError if they do not fit each other, an utterance has no hypothesis, or a feature is not finite.
    """

    offsets: IntArray
    features: FloatArray
    names: tuple[str, ...]
    words: IntArray

    def __post_init__(self) -> None:
        shape = (len(self.words), len(self.names))
        if self.features.shape != shape:
            raise FusionError(
                f"the features have shape {self.features.shape}, expected {shape}: a row a hypothesis, a column a name"
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
    def from_arrays(
        cls,
        features: Sequence[ArrayLike],
        words: Sequence[ArrayLike] | None = None,
        names: Sequence[str] | None = None,
    ) -> Ragged:
        """Build from one (hypotheses, F) array an utterance and, for a word bonus, one (hypotheses,) array of word counts.

        Names default to score_0, score_1, ... Raises FusionError as the class does, and for lists of different numbers of scores.
        """
        tables = [np.asarray(table, dtype=np.float64) for table in features]
        if not tables or any(
            table.ndim != 2 or table.shape[1] != tables[0].shape[1] for table in tables
        ):
            raise FusionError(
                f"got arrays of shapes {sorted({table.shape for table in tables})}, expected (hypotheses, scores) of every utterance"
            )
        counts = (
            [np.zeros(len(table)) for table in tables]
            if words is None
            else [np.asarray(count) for count in words]
        )
        if [len(count) for count in counts] != [len(table) for table in tables]:
            raise FusionError("the word counts do not have the lengths of the features")
        named = (
            tuple(names)
            if names is not None
            else tuple(f"score_{k}" for k in range(tables[0].shape[1]))
        )
        return cls(
            _offsets([len(table) for table in tables]),
            np.concatenate(tables),
            named,
            np.concatenate(counts).astype(np.int64),
        )

    def take(self, utterances: ArrayLike) -> tuple[Ragged, IntArray]:
        """Return these utterances, and the (H',) indices of their hypotheses in this record."""
        chosen = np.asarray(utterances, dtype=np.int64)
        sizes = np.diff(self.offsets)[chosen]
        offsets = _offsets(sizes)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], sizes)
        return Ragged(offsets, self.features[rows], self.names, self.words[rows]), rows


def _offsets(sizes: Sequence[int] | IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def gather(lists: Iterable[NBest], names: Sequence[str]) -> Ragged:
    """Collect the named scores and the word counts of all hypotheses, reading one list at a time.

    The name `rank` stands for minus the index in the list where a hypothesis carries no score of that name.
    Raises ScoreError naming file, utterance, hypothesis and score for a value that is missing or not finite.
    """
    sizes: list[int] = []
    features: list[FloatArray] = []
    words: list[int] = []
    for nbest in lists:
        sizes.append(len(nbest.hyps))
        features.append(
            np.array([[_feature(nbest, i, name) for name in names] for i in range(len(nbest.hyps))])
        )
        words.extend(len(hyp.words) for hyp in nbest.hyps)
    if not sizes:
        raise FormatError("there are no lists: the input is empty")
    return Ragged(
        _offsets(sizes), np.concatenate(features), tuple(names), np.array(words, dtype=np.int64)
    )


def _feature(nbest: NBest, index: int, name: str) -> float:
    value = nbest.hyps[index].scores.get(name)
    if value is None and name == RANK:
        return -float(index)
    if value is None:
        raise ScoreError(
            f'{nbest.place(index)}: score "{name}" is missing; run `dlmrescore score` on this file again'
        )
    if not math.isfinite(value):
        raise ScoreError(
            f'{nbest.place(index)}: score "{name}" is {value}, expected a finite number; run `dlmrescore score` on this file again'
        )
    return float(value)


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
    ragged: Ragged,
    scales: Mapping[str, float] | Sequence[float],
    word_bonus: float = 0.0,
    combine: Combiner = linear,
) -> FloatArray:
    """Return the total of every hypothesis, (H,), in nats times the first scale. `scales` has a value for each of `ragged.names`.

    `combine` sees all rows at once; one that compares hypotheses has to be given one list at a time.
    Raises FusionError if the scales do not fit the names, or a total is missing or overflows.
    """
    weights = (
        [scales.get(name, math.nan) for name in ragged.names]
        if isinstance(scales, Mapping)
        else list(scales)
    )
    if (
        len(weights) != len(ragged.names)
        or len(scales) != len(ragged.names)
        or not np.isfinite(weights).all()
    ):
        raise FusionError(
            f"the scales {scales} do not fit the scores {', '.join(ragged.names)}, expected one finite number for each"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        total = combine(ragged.features, weights, ragged.words, word_bonus)
    if np.shape(total) != ragged.words.shape:
        raise FusionError(
            f"the fusion made totals of shape {np.shape(total)}, expected {ragged.words.shape}: one for each hypothesis"
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


def signature(nbest: NBest, name: str) -> str | None:
    """Return what made this score, `meta.scores[name].signature` of the record, None where the record does not say."""
    provenance = nbest.provenance.get(name)
    return None if provenance is None else provenance.signature


def recogniser_scores(lists: Iterable[NBest]) -> tuple[str, ...]:
    """Return the names of the scores that came with the lists: those that every hypothesis has and no record says we made; without any, `rank`.

    In the order of the first hypothesis. Where there are others, `rank` is left out.
    """
    common: dict[str, None] | None = None
    for nbest in lists:
        made = nbest.provenance
        for hyp in nbest.hyps:
            common = dict.fromkeys(
                name
                for name in (hyp.scores if common is None else common)
                if name in hyp.scores and name not in made and name != RANK
            )
    return tuple(common or (RANK,))


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
        ragged = gather([nbest], list(fusion.scales))
        try:
            total = totals(ragged, fusion.scales, fusion.word_bonus, combine)
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


def check_signatures(nbest: NBest, fusion: Fusion) -> None:
    """Raise FusionError naming the score that was not made as the one the weights were tuned with.

    Weights written by hand say nothing of the scores they name no signature for.
    """
    names = (
        fusion.signatures
        if fusion.dev is None
        else {**dict.fromkeys(fusion.scales), **fusion.signatures}
    )
    for name in names:
        found, expected = signature(nbest, name), fusion.signatures.get(name)
        if found != expected:
            made = f'was made by "{found}"' if found else "does not say what made it"
            tuned = f'with "{expected}"' if expected else "with one that does not say what made it"
            raise FusionError(
                f'{nbest.place()}: score "{name}" {made}, the weights were tuned {tuned}; score alike, or tune again'
            )
