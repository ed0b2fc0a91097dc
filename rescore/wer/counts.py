"""Count the errors of hypotheses against references.

Edit distances are rapidfuzz's. An empty reference is legal: every word of its hypothesis is an
insertion. Only a corpus without any reference word has no error rate. Left out on purpose:
normalisers (`rescore.text` has them all).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from rescore.arguments import close_to
from rescore.errors import FormatError
from rescore.text import Normalizer, identity
from rescore.types import ErrorCounts, NBest

__all__ = [
    "UNITS",
    "UNIT_NAMES",
    "Unit",
    "count_errors",
    "edit_distances",
    "list_errors",
    "misnamed_reference",
    "no_reference_words",
    "oracle",
    "reference",
    "reference_length",
    "units",
]

#: What an error rate counts. Characters are Unicode code points.
#: word: what stands between white space.
#: char: characters; a run of white space between words is one character (jiwer's `cer`).
#: char_nospace: characters without white space.
#: mixed: every Han, kana, bopomofo and Hangul character, and every run of other characters between
#: them or white space. Papers on Mandarin call this rate CER, papers on code-switching MER.
Unit = Literal["word", "char", "char_nospace", "mixed"]
UNIT_NAMES: dict[Unit, str] = {
    "word": "words",
    "char": "characters",
    "char_nospace": "characters without spaces",
    "mixed": "words and CJK characters",
}
UNITS: tuple[Unit, ...] = get_args(Unit)
IntArray: TypeAlias = NDArray[np.int64]

# The blocks of the scripts Han, Hiragana, Katakana, Bopomofo and Hangul, with the marks of kana
# and without the punctuation among them.
_HAN = (
    "\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00016fe2\U00016fe3\U00016ff0-\U00016ff6\U00020000-\U0003ffff"  # rarer
)
_KANA = (
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357"
    "\uff66-\uff9f\U0001aff0-\U0001b16f\U0001f200"
)
_BOPOMOFO = "\u02ea\u02eb\u3105-\u312f\u31a0-\u31bf"
_HANGUL = (
    "\u1100-\u11ff\u302e\u302f\u3131-\u318e\u3200-\u321e\u3260-\u327e"
    "\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"
)
_CJK = _HAN + _KANA + _BOPOMOFO + _HANGUL
_MIXED = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def units(text: str, unit: Unit = "word") -> Sequence[str]:
    """Return what is counted in a text. Raises FormatError for a unit that is not one of UNITS.

    Exact check:
    tests/wer/test_units.py::test_mixed_units_equal_jiwer_on_texts_cut_by_the_unicode_scripts.
    """
    if unit == "mixed":
        return _MIXED.findall(text)
    words = text.split()
    if unit == "word":
        return words
    if unit not in UNITS:
        known = f"{', '.join(UNITS)}{close_to(unit, UNITS)}"
        raise FormatError(f"the unit {unit!r} is unknown; known: {known}")
    return (" " if unit == "char" else "").join(words)


def reference_length(ref: str, unit: Unit = "word") -> int:
    """Return the number of words (or other units) of a reference: the denominator of its rate."""
    return len(units(ref, unit))


def count_errors(ref: str, hyp: str, unit: Unit = "word") -> ErrorCounts:
    """Count the substitutions, insertions and deletions of one hypothesis.

    `reference_words` counts the units of the reference, whatever the unit.
    Exact check: tests/wer/test_counts.py::test_counts_equal_jiwer.
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
            f"got {len(refs)} references for {len(hyps)} hypotheses, expected one for each"
        )
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, ref in enumerate(refs):
        rows[ref].append(row)
    distances = np.zeros(len(refs), dtype=np.int64)
    for ref, rows_of_ref in rows.items():
        distances[rows_of_ref] = _distances(ref, [hyps[row] for row in rows_of_ref], unit)
    return distances


def _distances(ref: str, hyps: Sequence[str], unit: Unit) -> IntArray:
    """The edit distance of each hypothesis to one reference; equal hypotheses are aligned once."""
    column = {hyp: number for number, hyp in enumerate(dict.fromkeys(hyps))}
    distances: IntArray = cdist(
        [units(ref, unit)], [units(hyp, unit) for hyp in column], scorer=Levenshtein.distance
    )[0].astype(np.int64)
    return distances[[column[hyp] for hyp in hyps]]


#: What other tools call a reference.
_REFERENCE_NAMES = ("reference", "ref_text", "transcript", "target", "truth")


def misnamed_reference(nbest: NBest) -> str | None:
    """The field that seems to hold the reference of a list without one, None if there is none."""
    names = (name for name in _REFERENCE_NAMES if isinstance(nbest.raw.get(name), str))
    return next(names, None) if nbest.ref is None else None


def reference(nbest: NBest) -> str:
    """Return the reference of a list. Raises FormatError with its place if it has none."""
    if nbest.ref is None:
        other = misnamed_reference(nbest)
        if other is not None:
            advice = f'rename "{other}", or read it with --from mapped-jsonl'
        else:
            advice = "errors can only be counted against one, give --refs"
        raise FormatError(f'{nbest.place()}: the reference ("ref") is missing; {advice}')
    return nbest.ref


def no_reference_words(places: Sequence[str]) -> FormatError:
    """Return the error for lists whose references hold no words; `places` says where they are."""
    if not places:
        return FormatError("there are no lists: the input is empty")
    others = f", like those of the other {len(places) - 1} utterances" if len(places) > 1 else ""
    return FormatError(
        f"{places[0]}: the reference holds no words{others}: an error rate is not defined;"
        " give --refs with words"
    )


def list_errors(nbest: NBest, unit: Unit = "word", normalize: Normalizer = identity) -> IntArray:
    """Return the (hypotheses,) int64 error counts of one list.

    Raises FormatError if it has no reference.
    """
    ref = normalize(reference(nbest))
    return _distances(ref, [normalize(hyp.text) for hyp in nbest.hyps], unit)


def oracle(nbest: NBest, unit: Unit = "word", normalize: Normalizer = identity) -> int:
    """Return the index of the hypothesis with the fewest errors; ties go to the first.

    Raises FormatError if the list has no reference.
    """
    return int(list_errors(nbest, unit, normalize).argmin())
