"""The frozen records that travel through the package, one utterance at a time.

Scores are natural logs (nats), summed over tokens, higher is better, finite. Costs (`nelbo`) are
lower is better and never stored as scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

__all__ = [
    "ErrorCounts",
    "Estimate",
    "Hypothesis",
    "NBest",
    "Provenance",
    "Score",
    "ScoreKind",
    "TokenScores",
]

ScoreKind = Literal["log_prob", "pll", "neg_nelbo"]

#: What each scored token of a hypothesis adds to its score, in order: (piece as the model's
#: vocabulary writes it, nats).
TokenScores = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Hypothesis:
    """One recognised word sequence with its named scores.

    `scores` maps a name to nats (summed, higher is better). `raw` is the JSON object as it was
    read: fields this package does not know are kept there.
    """

    text: str
    scores: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """The whitespace tokens of the text."""
        return tuple(self.text.split())


@dataclass(frozen=True)
class Provenance:
    """What made one named score of a list, as far as the record says.

    `entry` is the JSON value as it was read, further fields included (such as `tuned_on`, which
    `fuse` adds to the total). The typed fields are a view of it; None where it does not say.
    """

    entry: Any

    @property
    def signature(self) -> str | None:
        """Two scores may be compared iff their signatures are equal."""
        signature = self.get("signature")
        return signature if isinstance(signature, str) else None

    @property
    def evaluations(self) -> int | None:
        """Network evaluations (NFE) spent on the list."""
        evaluations = self.get("evaluations")
        return evaluations if isinstance(evaluations, int) else None

    @property
    def is_tuned_on(self) -> bool:
        """Whether a total comes from weights that were tuned on this very utterance."""
        return self.get("tuned_on") is True

    @property
    def first_pass(self) -> int | None:
        """Where `fuse` put the recogniser's first hypothesis, counted from 0."""
        index = self.get("first_pass")
        return (
            index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None
        )

    def get(self, name: str) -> Any:
        """One field of the entry, None where there is none."""
        return self.entry.get(name) if isinstance(self.entry, Mapping) else None


@dataclass(frozen=True)
class NBest:
    """One utterance: its hypotheses, best first as the recogniser ordered them, and its reference.

    `ref` is None where no reference is known. `provenance` says what made each score that this
    package added. `raw` is the JSON object as it was read; `where` says where it came from
    ("dev.jsonl:12"), and `numbers` which hypotheses of a longer list these are (None: all), for
    error messages.
    """

    id: str
    hyps: tuple[Hypothesis, ...]
    ref: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    numbers: tuple[int, ...] | None = None
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    def place(self, hypothesis: int | None = None) -> str:
        """Name this utterance (and a hypothesis, counted from 1 for people) for a message."""
        at = f"{self.where}: utterance {self.id}" if self.where else f"utterance {self.id}"
        if hypothesis is None:
            return at
        number = hypothesis if self.numbers is None else self.numbers[hypothesis]
        return f"{at}, hypothesis {number + 1}"

    @property
    def first_pass(self) -> int | None:
        """The index of the recogniser's first hypothesis in a list that `fuse` reordered.

        None for a list that was not reordered: its first hypothesis is the first pass.
        """
        total = self.provenance.get("total")
        index = None if total is None else total.first_pass
        return index if index is not None and index < len(self.hyps) else None

    def only(self, numbers: Sequence[int]) -> NBest:
        """The list with these hypotheses only; messages go on naming them by their numbers here."""
        known = range(len(self.hyps)) if self.numbers is None else self.numbers
        return replace(
            self,
            hyps=tuple(self.hyps[number] for number in numbers),
            numbers=tuple(known[number] for number in numbers),
        )


@dataclass(frozen=True)
class Score:
    """One named score of every hypothesis of one list.

    `values` are nats, higher is better. `std_errors` are the standard errors of a stochastic score
    (NaN where one draw leaves it unknown); None for a deterministic one. `signature` identifies
    model and settings: two scores may be compared iff their signatures are equal. `evaluations`
    counts network evaluations (NFE), summed over the list. `token_scores`, where they were asked
    for, sum to the value of each hypothesis but for rounding.
    """

    values: tuple[float, ...]
    signature: str
    kind: ScoreKind
    evaluations: int
    std_errors: tuple[float, ...] | None = None
    token_scores: tuple[TokenScores, ...] | None = None


@dataclass(frozen=True)
class Estimate:
    """What an estimator returns for one sequence.

    `value` is in nats, summed over the scored tokens: a cost (>= 0) from `nelbo`, a score (<= 0)
    from `pll` and `chain`. `std_error` is its standard error: 0 for exact values, NaN where one
    draw leaves it unknown. `evaluations` counts network evaluations (NFE). `draws` keeps the
    per-draw values, whose mean is `value`: the standard error of a *difference* of two hypotheses
    needs them.
    """

    value: float
    std_error: float
    evaluations: int
    draws: tuple[float, ...] = ()


@dataclass(frozen=True)
class ErrorCounts:
    """Word (or character) errors of one or many hypotheses against their references; additive."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    reference_words: int = 0

    @property
    def errors(self) -> int:
        """Substitutions + insertions + deletions."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def wer(self) -> float:
        """Errors per reference word, a fraction (may exceed 1).

        Raises ZeroDivisionError without reference words: callers check first.
        """
        return self.errors / self.reference_words

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.reference_words + other.reference_words,
        )
