"""Count errors and say how sure the counts are.

Edit distances are rapidfuzz's; corpus figures are functions of per-utterance counts, computed once. An empty reference is legal: every
word of its hypothesis is an insertion. Only a corpus without any reference word has no error rate.
Left out on purpose: alignments for reading (jiwer prints them) and a second normaliser (`rescore.text` has them all).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from rescore.errors import FormatError
from rescore.ids import each_once
from rescore.text import Normalizer, identity
from rescore.text import normalizer as named_normalizer
from rescore.types import ErrorCounts, NBest

__all__ = [
    "UNITS",
    "UNIT_NAMES",
    "Comparison",
    "Evaluation",
    "Unit",
    "bootstrap_ci",
    "bootstrap_sums",
    "count_errors",
    "edit_distances",
    "evaluate",
    "list_errors",
    "no_reference_words",
    "oracle",
    "probability_of_improvement",
    "reference",
    "reference_length",
    "units",
]

#: What an error rate counts. word: white-space tokens. char: characters, a run of white space between words being one (jiwer's `cer`).
#: char_nospace: characters without white space. mixed: every Han, kana, bopomofo and Hangul character, and every run of others between them
#: or white space; what papers on Mandarin call CER and on code-switching MER. Characters are code points.
Unit = Literal["word", "char", "char_nospace", "mixed"]
UNIT_NAMES: dict[Unit, str] = {
    "word": "words",
    "char": "characters",
    "char_nospace": "characters without spaces",
    "mixed": "words and CJK characters",
}
UNITS: tuple[Unit, ...] = get_args(Unit)
Interval: TypeAlias = tuple[float, float]
IntArray: TypeAlias = NDArray[np.int64]

_CHUNK = 1 << 21  # numbers held at once by the bootstrap: 16 MB


# Blocks of the scripts Han, Hiragana, Katakana, Bopomofo and Hangul, with the marks of kana and without the punctuation among them.
_CJK = (
    "\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00016fe2\U00016fe3\U00016ff0-\U00016ff6\U00020000-\U0003ffff"  # Han, rarer
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357\uff66-\uff9f\U0001aff0-\U0001b16f\U0001f200"  # kana
    "\u02ea\u02eb\u3105-\u312f\u31a0-\u31bf"  # bopomofo
    "\u1100-\u11ff\u302e\u302f\u3131-\u318e\u3200-\u321e\u3260-\u327e\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"  # Hangul
)
_MIXED = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def units(text: str, unit: Unit = "word") -> Sequence[str]:
    """Return what is counted in a text. Raises FormatError for a unit that is not one of UNITS.

    Exact checks: tests/wer/test_wer.py, against jiwer and the Unicode scripts.
    """
    if unit == "mixed":
        return _MIXED.findall(text)
    words = text.split()
    if unit == "word":
        return words
    if unit not in UNITS:
        raise FormatError(f"the unit {unit!r} is unknown; known: {', '.join(UNITS)}")
    return (" " if unit == "char" else "").join(words)


def reference_length(ref: str, unit: Unit = "word") -> int:
    """Return the number of words (or other units) of a reference: the denominator of an error rate."""
    return len(units(ref, unit))


def count_errors(ref: str, hyp: str, unit: Unit = "word") -> ErrorCounts:
    """Count substitutions, insertions and deletions of one hypothesis; `reference_words` counts units of the reference.

    Exact check: tests/wer/test_wer.py::test_equals_jiwer.
    """
    expected = units(ref, unit)
    tags = Counter(operation.tag for operation in Levenshtein.editops(expected, units(hyp, unit)))
    return ErrorCounts(tags["replace"], tags["insert"], tags["delete"], len(expected))


def edit_distances(refs: Sequence[str], hyps: Sequence[str], unit: Unit = "word") -> IntArray:
    """Return the (N,) int64 edit distances of N pairs; equal pairs are computed once.

    Raises FormatError if there are not as many references as hypotheses.
    """
    if len(refs) != len(hyps):
        raise FormatError(
            f"got {len(refs)} references for {len(hyps)} hypotheses; one each is expected"
        )
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, ref in enumerate(refs):
        rows[ref].append(row)
    distances = np.zeros(len(refs), dtype=np.int64)
    for ref, where in rows.items():
        distances[where] = _distances(ref, [hyps[row] for row in where], unit)
    return distances


def _distances(ref: str, hyps: Sequence[str], unit: Unit) -> IntArray:
    column = {hyp: number for number, hyp in enumerate(dict.fromkeys(hyps))}
    once: IntArray = cdist(
        [units(ref, unit)], [units(hyp, unit) for hyp in column], scorer=Levenshtein.distance
    )[0].astype(np.int64)
    return once[[column[hyp] for hyp in hyps]]


def reference(nbest: NBest) -> str:
    """Return the reference of a list. Raises FormatError naming the utterance if it has none."""
    if nbest.ref is None:
        raise FormatError(
            f'{nbest.place()}: the reference ("ref") is missing; errors can only be counted against one, give --refs'
        )
    return nbest.ref


def no_reference_words(places: Sequence[str]) -> FormatError:
    """Return the error for lists, named by where they are, whose references hold no words."""
    if not places:
        return FormatError("there are no lists: the input is empty")
    others = f", like those of the other {len(places) - 1} utterances" if len(places) > 1 else ""
    return FormatError(
        f"{places[0]}: the reference holds no words{others}: an error rate is not defined; give --refs with words"
    )


def list_errors(nbest: NBest, unit: Unit = "word", normalize: Normalizer = identity) -> IntArray:
    """Return the (hypotheses,) int64 error counts of one list. Raises FormatError if it has no reference."""
    return _distances(
        normalize(reference(nbest)), [normalize(hyp.text) for hyp in nbest.hyps], unit
    )


def oracle(nbest: NBest, unit: Unit = "word", normalize: Normalizer = identity) -> int:
    """Return the index of the hypothesis with the fewest errors, of equal ones the first. Raises FormatError without a reference."""
    return int(list_errors(nbest, unit, normalize).argmin())


def bootstrap_sums(
    counts: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> IntArray:
    """Resample utterances (or whole clusters of them) with replacement and return the column sums, (resamples, columns) int64.

    `counts` is (utterances, columns); `clusters` names the cluster of each utterance, such as its speaker. Utterances with equal
    counts are interchangeable, so their number is drawn at once from a multinomial: the same distribution as drawing utterances one by
    one, at a cost that follows the number of distinct rows. The result does not depend on the order of the utterances.
    Raises FormatError if there is nothing to resample.
    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP.
    """
    table = np.asarray(counts, dtype=np.int64)
    if not len(table) or resamples < 1:
        raise FormatError(
            f"a bootstrap needs utterances and resamples; got {len(table)} and {resamples}"
        )
    rows, times = np.unique(_by_cluster(table, clusters), axis=0, return_counts=True)
    units = int(times.sum())
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(rows))
    sizes = [min(step, resamples - done) for done in range(0, resamples, step)]
    drawn: list[IntArray] = [
        random.multinomial(units, times / units, size=size) @ rows for size in sizes
    ]
    return np.concatenate(drawn)


def _by_cluster(table: IntArray, clusters: Sequence[Hashable] | None) -> IntArray:
    if clusters is None:
        return table
    if len(clusters) != len(table):
        raise FormatError(
            f"got {len(clusters)} cluster names for {len(table)} utterances; one each is expected"
        )
    number: dict[Hashable, int] = {}
    index = [number.setdefault(cluster, len(number)) for cluster in clusters]
    sums = np.zeros((len(number), table.shape[1]), dtype=np.int64)
    np.add.at(sums, index, table)
    return sums


def bootstrap_ci(
    errors: ArrayLike,
    reference_words: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the 95 % percentile interval (low, high) of sum(errors) / sum(reference_words), as fractions.

    `errors` and `reference_words` are (utterances,) integers; `errors` may be a difference of two systems and then negative. Resamples
    that happen to hold no reference word have no error rate and are left out. Raises FormatError if no utterance has one.
    Exact check: tests/wer/test_wer.py::test_interval_of_a_binomial.
    """
    if not np.any(reference_words):
        raise FormatError("the references hold no words: an error rate is not defined")
    sums = bootstrap_sums(np.column_stack([errors, reference_words]), clusters, resamples, seed)
    sums = sums[sums[:, 1] > 0]
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def probability_of_improvement(
    errors_system: ArrayLike,
    errors_baseline: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the share of paired resamples in which the system makes fewer errors than the baseline; ties count half.

    Both see the same utterances in each resample, so the reference words cancel. 0.5 means no difference; two equal systems get 0.5.
    Source: Bisani and Ney 2004, section 4 (there ties count for the baseline).
    """
    sums = bootstrap_sums(
        np.column_stack([errors_system, errors_baseline]), clusters, resamples, seed
    )
    better, equal = sums[:, 0] < sums[:, 1], sums[:, 0] == sums[:, 1]
    return float(better.mean() + equal.mean() / 2)


@dataclass(frozen=True)
class Comparison:
    """A system against a baseline on the same utterances. Rates are fractions; a positive reduction means that the system is better.

    `oracle_gap_closed` is (baseline_wer - wer) / (baseline_wer - oracle_wer), None where the baseline is already at the oracle.
    `relative_reduction` is None where the baseline makes no error. `reduction_ci95` belongs to `absolute_reduction` (paired bootstrap).
    """

    baseline_wer: float
    baseline_ci95: Interval
    absolute_reduction: float
    relative_reduction: float | None
    reduction_ci95: Interval
    probability_better: float
    oracle_gap_closed: float | None


@dataclass(frozen=True)
class Evaluation:
    """Error rates of the first hypotheses of a set of lists, and of the best ones (oracle). Rates are fractions, not rounded.

    `errors.reference_words` counts what `unit` says. `ci95` is a bootstrap over `clusters` clusters
    (utterances unless a cluster was given). `tuned_on` counts utterances whose totals, as `rescore.fusion.fuse` recorded, come from weights tuned
    on them: unless it is 0, this is not a test result.
    """

    utterances: int
    wer: float
    ci95: Interval
    oracle_wer: float
    errors: ErrorCounts
    unit: Unit
    normalizer: str
    clusters: int
    seed: int
    tuned_on: int = 0
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return one flat JSON object: the fields of this record, then those of the comparison where there is one."""
        record = asdict(self)
        comparison = record.pop("comparison")
        record["ci95"] = list(self.ci95)
        if comparison is None:
            return record
        return record | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in comparison.items()
        }


@dataclass(frozen=True)
class _Row:
    """What evaluation keeps of one utterance."""

    place: str
    ref: str
    errors: ErrorCounts
    oracle: int
    cluster: Hashable
    tuned_on: bool


def evaluate(
    lists: Iterable[NBest],
    baseline: Iterable[NBest] | None = None,
    *,
    unit: Unit = "word",
    normalizer: str = "none",
    cluster: Callable[[NBest], str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the first hypothesis of every list, and compare it with the first hypotheses of `baseline`, matched by id.

    `normalizer` names an entry of the registry, applied to references and hypotheses alike. `cluster` maps a list to the unit of
    resampling, for example its speaker. Both inputs are read once, one list at a time.
    Raises FormatError for a missing reference, a repeated id, ids or references that differ from the baseline's, and references without words.
    """
    normalize = named_normalizer(normalizer)
    rows = _rows(lists, unit, normalize, cluster)
    errors = sum((row.errors for row in rows.values()), ErrorCounts())
    if not errors.reference_words:
        raise no_reference_words([row.place for row in rows.values()])
    counted, words = (
        _column(row.errors.errors for row in rows.values()),
        _column(row.errors.reference_words for row in rows.values()),
    )
    clusters = [row.cluster for row in rows.values()]
    oracle_wer = sum(row.oracle for row in rows.values()) / errors.reference_words
    comparison = None
    if baseline is not None:
        baseline_errors = _baseline_errors(rows, baseline, unit, normalize)
        comparison = _compare(
            counted, baseline_errors, words, clusters, oracle_wer=oracle_wer, seed=seed
        )
    interval = bootstrap_ci(counted, words, clusters, seed=seed)
    tuned_on = sum(row.tuned_on for row in rows.values())
    return Evaluation(
        len(rows),
        errors.wer,
        interval,
        oracle_wer,
        errors,
        unit,
        normalizer,
        len(set(clusters)),
        seed,
        tuned_on,
        comparison,
    )


def _column(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _rows(
    lists: Iterable[NBest],
    unit: Unit,
    normalize: Normalizer,
    cluster: Callable[[NBest], str] | None,
) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for nbest in each_once(lists, "counted"):
        ref = normalize(reference(nbest))
        errors = count_errors(ref, normalize(nbest.hyps[0].text), unit)
        fewest = int(list_errors(nbest, unit, normalize).min())
        rows[nbest.id] = _Row(
            nbest.place(),
            ref,
            errors,
            fewest,
            nbest.id if cluster is None else cluster(nbest),
            _is_tuned_on(nbest),
        )
    return rows


def _is_tuned_on(nbest: NBest) -> bool:
    return "total" in nbest.provenance and nbest.provenance["total"].is_tuned_on


def _baseline_errors(
    rows: dict[str, _Row], baseline: Iterable[NBest], unit: Unit, normalize: Normalizer
) -> IntArray:
    """Return the baseline's errors in the order of `rows`, counted against the same references."""
    errors: dict[str, int] = {}
    for nbest in each_once(baseline, "counted"):
        row = rows.get(nbest.id)
        if row is None:
            raise FormatError(
                f"{nbest.place()}: it is in the baseline and not among the evaluated lists; both need the same utterances"
            )
        if nbest.ref is not None and normalize(nbest.ref) != row.ref:
            raise FormatError(
                f"{nbest.place()}: the baseline's reference differs from the evaluated list's; both need the same references"
            )
        errors[nbest.id] = count_errors(row.ref, normalize(nbest.hyps[0].text), unit).errors
    for missing in rows.keys() - errors.keys():
        raise FormatError(
            f"utterance {missing}: it is missing from the baseline; both need the same utterances"
        )
    return _column(errors[name] for name in rows)


def _compare(
    errors: IntArray,
    baseline: IntArray,
    words: IntArray,
    clusters: Sequence[Hashable],
    *,
    oracle_wer: float,
    seed: int,
) -> Comparison:
    total = int(words.sum())
    wer, baseline_wer = int(errors.sum()) / total, int(baseline.sum()) / total
    reduction, gap = baseline_wer - wer, baseline_wer - oracle_wer
    return Comparison(
        baseline_wer=baseline_wer,
        baseline_ci95=bootstrap_ci(baseline, words, clusters, seed=seed),
        absolute_reduction=reduction,
        relative_reduction=reduction / baseline_wer if baseline_wer else None,
        reduction_ci95=bootstrap_ci(baseline - errors, words, clusters, seed=seed),
        probability_better=probability_of_improvement(errors, baseline, clusters, seed=seed),
        oracle_gap_closed=reduction / gap if gap > 0 else None,
    )
