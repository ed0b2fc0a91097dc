"""A report for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rescore.checking.findings import findings, percent
from rescore.checking.inspection import Rates, Report, ScoreSummary
from rescore.wer import UNIT_NAMES

__all__ = ["summary", "to_json"]

_LABEL = 13
_CASES = {
    "lower": "lower case",
    "mixed": "mixed case",
    "upper": "upper case",
    "none": "without case",
}


def summary(report: Report, model: str, draws: int = 8) -> Iterator[str]:
    """Yield the lines of a report: what was counted, then the findings. `model` names the model, `draws` prices a NELBO."""
    rows = [
        ("model", f"{model}; normaliser {report.normalizer}, window {report.vocabulary.window}"),
        *_lists(report),
        *_tokens(report, draws),
        *_errors(report),
    ]
    yield from (f"{label:{_LABEL}} {text}" for label, text in rows)
    yield from _aligned(_score_rows(report))
    yield from map(str, findings(report))


def _lists(report: Report) -> Iterator[tuple[str, str]]:
    low, middle, high = _size_quantiles(report)
    yield (
        "lists",
        f"{report.utterances:,} utterances, {report.hypotheses:,} hypotheses; in a list {low:,} to {high:,}, median {middle:,}",
    )
    yield (
        "texts",
        f"{_ratio(report.words, report.hypotheses)} words a hypothesis, {report.longest_words:,} at most",
    )
    yield (
        "",
        ", ".join(
            f"{name} {percent(report.cases[case], report.hypotheses)}"
            for case, name in _CASES.items()
        ),
    )
    yield (
        "",
        ", ".join(
            f"with {name} {percent(report.tally(kind).count, report.hypotheses)}"
            for kind, name in _KINDS.items()
        ),
    )


_KINDS = {"digit": "digits", "punctuation": "punctuation"}


def _tokens(report: Report, draws: int) -> Iterator[tuple[str, str]]:
    yield (
        "tokens",
        f"{report.tokens:,}; {_ratio(report.tokens, report.words)} a word, in a hypothesis {report.longest_tokens:,} at most",
    )
    raw = f"without the normaliser {percent(report.raw_unknown_tokens, report.raw_tokens)} and {_ratio(report.raw_tokens, report.words)} a word"
    yield "", f"unknown {percent(report.unknown_tokens, report.tokens)}; {raw}"
    cost = _evaluations(report, draws)
    yield (
        "evaluations",
        f"ar, usdm pll {cost['one_pass']:,}; nelbo of {draws} draws {cost['nelbo']:,}; pll, chain {cost['pll']:,}",
    )


def _errors(report: Report) -> Iterator[tuple[str, str]]:
    if report.as_written.reference_length:
        yield (
            "errors",
            f"{_percents(report.as_written)} of {report.as_written.reference_length:,} {UNIT_NAMES[report.unit]}",
        )
    if report.normalized != report.as_written and report.normalized.reference_length:
        yield "", f"with --normalizer librispeech {_percents(report.normalized)}"


def _percents(rates: Rates) -> str:
    return f"first hypotheses {100 * (rates.wer or 0):.2f} %, oracle {100 * (rates.oracle_wer or 0):.2f} %"


def _score_rows(report: Report) -> Iterator[tuple[str, ...]]:
    if report.scores:
        yield "score", "values", "lowest", "median", "highest", "r(words)", "first is best"
    for name, score in report.scores.items():
        correlation = score.length_correlation
        shown = "" if correlation is None else f"{correlation:.2f}"
        yield (
            name,
            f"{score.count:,}",
            f"{score.low:.6g}",
            f"{score.median:.6g}",
            f"{score.high:.6g}",
            shown,
            percent(score.first_highest, score.varied),
        )


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *values in table:
        yield f"{name:{max(_LABEL, widths[0])}} " + "  ".join(
            f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True)
        )


def _size_quantiles(report: Report) -> tuple[int, int, int]:
    """The smallest, the (lower) median and the largest number of hypotheses in a list."""
    passed = 0
    for size in sorted(report.sizes):
        passed += report.sizes[size]
        if 2 * passed >= report.utterances:
            return min(report.sizes), size, max(report.sizes)
    return 0, 0, 0


def _ratio(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.2f}"


def _evaluations(report: Report, draws: int) -> dict[str, int]:
    """Network evaluations of the estimators: one a sequence, one a draw, or one a token with the end of the sentence."""
    return {
        "one_pass": report.sequences,
        "nelbo": draws * report.sequences,
        "pll": report.tokens + report.hypotheses,
    }


def to_json(report: Report, model: str, draws: int = 8) -> dict[str, Any]:
    """Return the report as one JSON object: counts as they are, rates as fractions, findings as objects."""
    low, middle, high = _size_quantiles(report)
    return {
        "model": model,
        "normalizer": report.normalizer,
        "window": report.vocabulary.window,
        "unit": report.unit,
        "utterances": report.utterances,
        "hypotheses": report.hypotheses,
        "hypotheses_per_list": {"min": low, "median": middle, "max": high},
        "words": report.words,
        "longest_words": report.longest_words,
        "case": {case: report.cases[case] for case in _CASES},
        "tallies": {name: asdict(tally) for name, tally in sorted(report.tallies.items())},
        "tokens": report.tokens,
        "longest_tokens": report.longest_tokens,
        "unknown_tokens": report.unknown_tokens,
        "unknown_characters": dict(report.unknown_characters.most_common()),
        "without_normalizer": {
            "tokens": report.raw_tokens,
            "unknown_tokens": report.raw_unknown_tokens,
        },
        "sequences": report.sequences,
        "evaluations": _evaluations(report, draws),
        "references": report.references,
        "errors": {
            "as_written": _rates(report.as_written),
            "librispeech": _rates(report.normalized),
        },
        "scores": {name: _score(score) for name, score in report.scores.items()},
        "findings": [asdict(finding) for finding in findings(report)],
    }


def _rates(rates: Rates) -> dict[str, Any]:
    return {**asdict(rates), "wer": rates.wer, "oracle_wer": rates.oracle_wer}


def _score(score: ScoreSummary) -> dict[str, Any]:
    counts = ("count", "lists", "varied", "first_highest", "first_lowest")
    return {
        **{name: getattr(score, name) for name in counts},
        "min": score.low,
        "median": score.median,
        "max": score.high,
        "length_correlation": score.length_correlation,
        **{
            name: asdict(tally)
            for name, tally in (
                ("positive", score.positive),
                ("zero", score.zero),
                ("missing", score.missing),
            )
        },
    }
