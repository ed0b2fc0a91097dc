"""An inspection as text for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rescore.checking.counts import ErrorRates, ScoreSummary
from rescore.checking.findings import findings, percent
from rescore.checking.inspection import Inspection
from rescore.scorers.options import FOLDS
from rescore.wer import UNIT_NAMES

__all__ = ["summary_json", "summary_lines"]

_LABEL = 13  # width of the first column
_KINDS = {"digit": "digits", "punctuation": "punctuation"}
_CASES = {
    "lower": "lower case",
    "mixed": "mixed case",
    "upper": "upper case",
    "none": "without case",
}


def summary_lines(inspection: Inspection, model: str, draws: int = 8) -> Iterator[str]:
    """Yield the lines of the summary: the figures, then the findings.

    `model` is shown as the model's name; `draws` are those of the NELBO whose cost is shown.
    """
    window = inspection.vocabulary.window
    rows = [
        ("model", f"{model}; normaliser {inspection.normalizer}, window {window}"),
        *_lists(inspection),
        *_tokens(inspection, draws),
        *_errors(inspection),
    ]
    for label, text in rows:
        yield f"{label:{_LABEL}} {text}"
    yield from _aligned(_score_rows(inspection))
    for finding in findings(inspection):
        yield str(finding)


def _lists(inspection: Inspection) -> Iterator[tuple[str, str]]:
    low, middle, high = _size_quantiles(inspection)
    utterances, hypotheses = inspection.utterances, inspection.hypotheses
    text = (
        f"{utterances:,} utterances, {hypotheses:,} hypotheses; in a list {low:,} to {high:,},"
        f" median {middle:,}"
    )
    yield "lists", text
    text = (
        f"{_ratio(inspection.words, hypotheses)} words a hypothesis,"
        f" {inspection.longest_words:,} at most"
    )
    yield "texts", text
    cases = [
        f"{name} {percent(inspection.cases[case], hypotheses)}" for case, name in _CASES.items()
    ]
    yield "", ", ".join(cases)
    kinds = [
        f"with {name} {percent(inspection.tally(kind).count, hypotheses)}"
        for kind, name in _KINDS.items()
    ]
    yield "", ", ".join(kinds)


def _tokens(inspection: Inspection, draws: int) -> Iterator[tuple[str, str]]:
    text = (
        f"{inspection.tokens:,}; {_ratio(inspection.tokens, inspection.words)} a word,"
        f" in a hypothesis {inspection.longest_tokens:,} at most"
    )
    yield "tokens", text
    text = (
        f"unknown {percent(inspection.unknown_tokens, inspection.tokens)}; without the normaliser"
        f" {percent(inspection.raw_unknown_tokens, inspection.raw_tokens)}"
        f" and {_ratio(inspection.raw_tokens, inspection.words)} a word"
    )
    yield "", text
    cost = _evaluations(inspection, draws)
    text = (
        f"ar, usdm pll {cost['one_pass']:,}; {FOLDS} folds {cost['folds']:,};"
        f" nelbo of {draws} draws {cost['nelbo']:,}; pll, chain {cost['pll']:,}"
    )
    yield "evaluations", text


def _errors(inspection: Inspection) -> Iterator[tuple[str, str]]:
    written, normalized = inspection.as_written, inspection.normalized
    if written.reference_length:
        units = f"{written.reference_length:,} {UNIT_NAMES[inspection.unit]}"
        yield "errors", f"{_percents(written)} of {units}"
    if normalized != written and normalized.reference_length:
        yield "", f"with --normalizer librispeech {_percents(normalized)}"


def _percents(rates: ErrorRates) -> str:
    first, oracle = 100 * (rates.wer or 0), 100 * (rates.oracle_wer or 0)
    return f"first hypotheses {first:.2f} %, oracle {oracle:.2f} %"


def _score_rows(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    if inspection.scores:
        yield "score", "values", "lowest", "median", "highest", "r(words)", "first is best"
    for name, score in inspection.scores.items():
        correlation = score.length_correlation
        yield (
            name,
            f"{score.count:,}",
            f"{score.low:.6g}",
            f"{score.median:.6g}",
            f"{score.high:.6g}",
            "" if correlation is None else f"{correlation:.2f}",
            percent(score.first_highest, score.varied),
        )


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The rows of a table, with all columns but the first flush right."""
    table = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for name, *values in table:
        cells = [f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True)]
        yield f"{name:{max(_LABEL, widths[0])}} " + "  ".join(cells)


def _size_quantiles(inspection: Inspection) -> tuple[int, int, int]:
    """The smallest, the (lower) median and the largest number of hypotheses in a list."""
    smaller_or_equal = 0
    for size in sorted(inspection.sizes):
        smaller_or_equal += inspection.sizes[size]
        if 2 * smaller_or_equal >= inspection.utterances:
            return min(inspection.sizes), size, max(inspection.sizes)
    return 0, 0, 0


def _ratio(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.2f}"


def _evaluations(inspection: Inspection, draws: int) -> dict[str, int]:
    """Network evaluations by kind of estimator.

    One per sequence, per draw or per token, the end of the sentence included; one per fold, fewer
    for a text with fewer tokens.
    """
    return {
        "one_pass": inspection.sequences,
        "folds": FOLDS * inspection.sequences,
        "nelbo": draws * inspection.sequences,
        "pll": inspection.tokens + inspection.hypotheses,
    }


def summary_json(inspection: Inspection, model: str, draws: int = 8) -> dict[str, Any]:
    """Return the inspection as a JSON object: counts, rates as fractions, findings as objects."""
    low, middle, high = _size_quantiles(inspection)
    return {
        "model": model,
        "normalizer": inspection.normalizer,
        "window": inspection.vocabulary.window,
        "unit": inspection.unit,
        "utterances": inspection.utterances,
        "hypotheses": inspection.hypotheses,
        "hypotheses_per_list": {"min": low, "median": middle, "max": high},
        "words": inspection.words,
        "longest_words": inspection.longest_words,
        "case": {case: inspection.cases[case] for case in _CASES},
        "tallies": {name: asdict(tally) for name, tally in sorted(inspection.tallies.items())},
        "tokens": inspection.tokens,
        "longest_tokens": inspection.longest_tokens,
        "unknown_tokens": inspection.unknown_tokens,
        "unknown_characters": dict(inspection.ranked_unknown_characters),
        "without_normalizer": {
            "tokens": inspection.raw_tokens,
            "unknown_tokens": inspection.raw_unknown_tokens,
        },
        "sequences": inspection.sequences,
        "evaluations": _evaluations(inspection, draws),
        "references": inspection.references,
        "errors": {
            "as_written": _rates(inspection.as_written),
            "librispeech": _rates(inspection.normalized),
        },
        "scores": {name: _score(score) for name, score in inspection.scores.items()},
        "findings": [asdict(finding) for finding in findings(inspection)],
    }


def _rates(rates: ErrorRates) -> dict[str, Any]:
    return {**asdict(rates), "wer": rates.wer, "oracle_wer": rates.oracle_wer}


def _score(score: ScoreSummary) -> dict[str, Any]:
    return {
        "count": score.count,
        "lists": score.lists,
        "varied": score.varied,
        "first_highest": score.first_highest,
        "first_lowest": score.first_lowest,
        "min": score.low,
        "median": score.median,
        "max": score.high,
        "length_correlation": score.length_correlation,
        "positive": asdict(score.positive),
        "zero": asdict(score.zero),
        "missing": asdict(score.missing),
    }
