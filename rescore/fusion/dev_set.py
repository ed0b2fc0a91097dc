"""Development lists, each read and aligned once: what `tune`, `sweep` and `run` work on.

Shapes: U utterances, H hypotheses of all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FusionError
from rescore.fusion.table import ScoreTable, offsets_of, signature
from rescore.text import normalizer as named_normalizer
from rescore.types import Hypothesis, NBest
from rescore.wer.case_watch import CaseWatch
from rescore.wer.counts import (
    Unit,
    list_errors,
    no_reference_words,
    reference,
    reference_length,
)

__all__ = ["DevSet", "dev_set"]

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class DevSet:
    """Development lists with their error counts, for tuning any of their scores.

    `lists` are the lists without the fields that tuning does not read. `offsets` is int64 (U + 1,):
    list u has the hypotheses offsets[u] to offsets[u + 1]. `errors` holds the errors of every
    hypothesis, int64 (H,), `reference_lengths` the units of every reference, int64 (U,), both
    counted in `unit` after `normalizer`.
    """

    lists: tuple[NBest, ...]
    offsets: IntArray
    errors: IntArray
    reference_lengths: IntArray
    unit: Unit
    normalizer: str

    @classmethod
    def of(cls, lists: Iterable[NBest], *, unit: Unit = "word", normalizer: str = "none") -> DevSet:
        """Read and align lists with references. `unit` and `normalizer` are those of `evaluate`.

        Raises FormatError for a missing reference, no lists, or references without any word.
        Exact check: tests/fusion/test_dev_set.py::test_a_dev_set_counts_what_evaluate_counts.
        """
        normalize = named_normalizer(normalizer)
        kept: list[NBest] = []
        errors: list[IntArray] = []
        lengths: list[int] = []
        watch = CaseWatch()
        for nbest in lists:
            errors.append(list_errors(nbest, unit, normalize))
            ref = normalize(reference(nbest))
            lengths.append(reference_length(ref, unit))
            watch.add(ref, normalize(nbest.hyps[0].text))
            kept.append(_without_other_fields(nbest))
        if not any(lengths):
            raise no_reference_words([nbest.place() for nbest in kept])
        watch.warn()
        return cls(
            tuple(kept),
            offsets_of([len(nbest.hyps) for nbest in kept]),
            np.concatenate(errors),
            np.array(lengths, dtype=np.int64),
            unit,
            normalizer,
        )

    @property
    def reference_words(self) -> int:
        """The words (or other units) of all references."""
        return int(self.reference_lengths.sum())

    @property
    def first_pass_wer(self) -> float:
        """The error rate of the first hypotheses, a fraction."""
        return int(self.errors[self.offsets[:-1]].sum()) / self.reference_words

    @property
    def oracle_wer(self) -> float:
        """The error rate of the hypotheses with the fewest errors, a fraction."""
        fewest = np.minimum.reduceat(self.errors, self.offsets[:-1])
        return int(fewest.sum()) / self.reference_words

    def table(self, names: Sequence[str]) -> ScoreTable:
        """Return the named scores as arrays.

        Raises ScoreError for a score that is missing or not finite.
        """
        return ScoreTable.of(self.lists, names)

    def signatures(self, names: Sequence[str]) -> dict[str, str]:
        """Return what made each score, as far as the lists say.

        Raises FusionError for a score that was made in two ways.
        """
        expected = {name: signature(self.lists[0], name) for name in names}
        for nbest in self.lists:
            for name in names:
                actual = signature(nbest, name)
                if actual != expected[name]:
                    raise FusionError(
                        f'{nbest.place()}: score "{name}" was made by "{actual or "unknown"}",'
                        f' earlier ones by "{expected[name] or "unknown"}"; score all lists alike'
                    )
        return {name: value for name, value in expected.items() if value is not None}


def _without_other_fields(nbest: NBest) -> NBest:
    """The list without what else its record holds, such as tokens and times, which may be large."""
    return replace(
        nbest, raw={}, hyps=tuple(replace(hyp, raw=_misnamed(hyp)) for hyp in nbest.hyps)
    )


def _misnamed(hyp: Hypothesis) -> dict[str, Any]:
    """The field "score" of a hypothesis without scores: an error says that it is misspelt."""
    return {"score": hyp.raw["score"]} if "score" in hyp.raw and not hyp.scores else {}


def dev_set(
    lists: Iterable[NBest] | DevSet, unit: Unit | None = None, normalizer: str | None = None
) -> DevSet:
    """Return the DevSet of these lists; a DevSet is returned as it is.

    None stands for the unit "word" and the normaliser "none", or for those of the DevSet. Raises
    FusionError if a DevSet counts otherwise, and FormatError as `DevSet.of` does.
    """
    if not isinstance(lists, DevSet):
        return DevSet.of(lists, unit=unit or "word", normalizer=normalizer or "none")
    for name, own, asked in (
        ("unit", lists.unit, unit),
        ("normalizer", lists.normalizer, normalizer),
    ):
        if asked not in (None, own):
            raise FusionError(
                f'the DevSet counts errors with {name} "{own}", not "{asked}";'
                " make another with DevSet.of"
            )
    return lists
