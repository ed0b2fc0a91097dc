"""Weights: what `tune` finds, `fuse` applies, and a small JSON file holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TypeAlias

import msgspec

from rescore.errors import FormatError, FusionError
from rescore.formats.files import PathLike, atomic_writer, name_of, read_bytes
from rescore.formats.strict_json import decode
from rescore.fusion.table import WORD_BONUS, signature
from rescore.types import NBest

__all__ = ["DevResult", "Fusion", "Span", "check_signatures", "digest", "load", "save"]

#: An open interval of a weight; None is an open end.
Span: TypeAlias = tuple[float | None, float | None]

#: The largest weight: float64 keeps 16 digits, so beside a larger one nothing else counts.
_LARGEST = 1e15


@dataclass(frozen=True)
class DevResult:
    """The error rates that tuning saw on the development lists, as fractions.

    `first_pass_wer` is that of the first hypotheses as they came, `wer` that of the tuned totals,
    `cross_validated_wer` that of folds with weights tuned on the others (None: not asked for).
    `plateaus` gives for each free weight the open interval around it, the others fixed, on which
    the error count stays the same. `unit` and `normalizer` say what was counted; `restarts`,
    `random_directions` and `seed` how the weights were searched.
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
    """Weights: a scale for each named score, and a word bonus in nats per word.

    `scales` is ordered; the first, usually the acoustic score's, is 1 after tuning. `signatures`
    holds what made each score on the tuning lists, where the lists said so: `fuse` refuses others.
    `tuned_on` holds a digest of each utterance id tuned on, separated by spaces. `temperature`
    divides totals where probabilities are wanted; None: not known. `kind` names an entry of
    `rescore.registry.FUSIONS`, the function that makes totals of scores and weights.
    Raises FusionError if there are no scales, a weight is not finite or above 1e15, or the
    temperature is not positive.
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
        for name, value in {**self.scales, WORD_BONUS: self.word_bonus}.items():
            if not abs(value) <= _LARGEST:
                raise FusionError(
                    f'the weight of "{name}" is {value}, expected a finite number of at most '
                    f"{_LARGEST:g}: a larger one swallows every other score"
                )
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise FusionError(
                f"the temperature is {self.temperature}, expected a positive number or null"
            )

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(self.tuned_on.split())

    def knows(self, utterance: str) -> bool:
        """Whether the weights were tuned on the utterance with this id."""
        return digest(utterance) in self._digests

    def overlap(self, ids: Iterable[str]) -> int:
        """Return how many of these utterances the weights were tuned on.

        The error rate of such utterances says nothing about new data.
        """
        return sum(self.knows(id) for id in ids)

    @cached_property
    def signature(self) -> str:
        """What made a total: a digest of the kind, the weights and the signatures of the scores."""
        weights = [self.kind, list(self.scales.items()), self.word_bonus]
        return f"fusion:{digest(json.dumps([*weights, sorted(self.signatures.items())]))}"


def digest(text: str) -> str:
    """Return 16 hexadecimal digits (BLAKE2b, 64 bits) of a text.

    Among 100,000 utterance ids two collide once in 4 billion files.
    """
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def save(fusion: Fusion, path: PathLike) -> None:
    """Write the weights as JSON; the file appears whole or not at all.

    Raises FormatError if it cannot be written.
    """
    with atomic_writer(path) as output:
        output.write(msgspec.json.format(msgspec.json.encode(fusion), indent=2) + b"\n")


def load(path: PathLike) -> Fusion:
    """Read what `save` wrote, or weights written by hand: {"scales": {"am": 1, "mdlm": 0.4}}.

    Raises FormatError with the name of the file for broken JSON, a wrong type, a weight that is
    not finite, or an unknown field.
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
    """Raise FormatError for an unknown field: a misspelt `word_bonus` must not mean 0."""
    known = [known_field.name for known_field in fields(Fusion)]
    for name in record if isinstance(record, dict) else ():
        if name not in known:
            raise FormatError(
                f'{where}: the field "{name}" is unknown; expected some of {", ".join(known)}'
            )


def check_signatures(nbest: NBest, fusion: Fusion) -> None:
    """Raise FusionError for a score that was not made as the one the weights were tuned with.

    Tuned weights check every score that they weigh. Weights written by hand check only the scores
    for which they hold a signature.
    """
    names = list(fusion.signatures)
    if fusion.dev is not None:
        names = [*fusion.scales, *(name for name in names if name not in fusion.scales)]
    for name in names:
        actual, expected = signature(nbest, name), fusion.signatures.get(name)
        if actual != expected:
            origin = f'was made by "{actual}"' if actual else "does not say what made it"
            tuned = f'with "{expected}"' if expected else "with one that does not say what made it"
            raise FusionError(
                f'{nbest.place()}: score "{name}" {origin}, the weights were tuned {tuned};'
                " score both sets of lists alike, or tune again"
            )
