"""What is worth saying about a report: the table FINDINGS, each rule a few lines. Warnings are what `check --strict` refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rescore.checking.inspection import Report, ScoreSummary, Tally

__all__ = ["FINDINGS", "Finding", "findings", "percent"]

Level = Literal["warning", "note"]

#: A message and, where it is about hypotheses or lists, how many and which is the first.
Said: TypeAlias = Iterator[tuple[str, Tally | None]]

_MANY_UNKNOWN = 0.01  # share of tokens
_MANY_TOKENS = 3.0  # a word; English words have 1.2 to 1.6 tokens of a vocabulary that fits them
_ENOUGH_LISTS = 20
_ENOUGH_HYPOTHESES = 100
_NEARLY_ALL = 0.9
_SHOWN = 10  # unknown characters

#: Names of scores that are no sums of log-probabilities: positions, totals, means, probabilities, lengths.
_NO_LOG_PROB = re.compile(
    r"^rank$|^total$|_per_token$|conf|posterior|count|word|length|duration|bonus|^(?!.*log).*prob"
)


@dataclass(frozen=True)
class Finding:
    """One thing to know: `count` hypotheses or lists, the first of them at `first`; 0 and "" where it is about the whole input."""

    code: str
    level: Level
    message: str
    count: int = 0
    first: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.code}: {self.message}" + (
            f" (first: {self.first})" if self.first else ""
        )


def findings(report: Report) -> list[Finding]:
    """Return what is worth saying, warnings first, in the order of FINDINGS."""
    found = [
        Finding(code, level, message, tally.count if tally else 0, tally.first if tally else "")
        for code, (level, rule) in FINDINGS.items()
        for message, tally in rule(report)
    ]
    return sorted(found, key=lambda one: one.level != "warning")


def percent(part: float, whole: float) -> str:
    """A share in percent: no rounding to 0 or 100 of what is not."""
    share = 100 * part / whole if whole else 0.0
    return "< 0.1 %" if 0 < share < 0.1 else "> 99.9 %" if 99.9 < share < 100 else f"{share:.1f} %"


def _of_hypotheses(report: Report, tally: Tally) -> str:
    return f"{tally.count:,} of {report.hypotheses:,} hypotheses ({percent(tally.count, report.hypotheses)})"


def _texts(name: str, message: str) -> Callable[[Report], Said]:
    """A rule that speaks as soon as one hypothesis is counted under `name`."""

    def rule(report: Report) -> Said:
        tally = report.tally(name)
        if tally.count:
            yield f"{_of_hypotheses(report, tally)} {message}", tally

    return rule


def _scores(
    message: Callable[[ScoreSummary, str], tuple[str, Tally | None] | None],
) -> Callable[[Report], Said]:
    """A rule that looks at every score."""

    def rule(report: Report) -> Said:
        for name, score in report.scores.items():
            said = message(score, name)
            if said is not None:
                yield f'score "{name}" {said[0]}', said[1]

    return rule


def _missing(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    if not score.missing.count:
        return None
    return (
        f"is missing on {score.missing.count:,} of {score.missing.count + score.count:,} hypotheses: score them, or the whole file again",
        score.missing,
    )


def _zero(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    if (
        name == "rank"
        or not score.zero.count
        or score.negative <= _NEARLY_ALL * (score.count - score.zero.count)
    ):
        return None
    share = percent(score.zero.count, score.count)
    return (
        f"is 0 on {share} of the hypotheses and negative on others: 0 is the best log-probability there is; did something fail to score them?",
        score.zero,
    )


def _positive(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    if _NO_LOG_PROB.search(name) or score.positive.count <= score.count / 2:
        return None
    share = percent(score.positive.count, score.count)
    return (
        f"is positive on {share} of the hypotheses: scores are log-probabilities, higher is better; negate it if it is a cost",
        score.positive,
    )


def _upside_down(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    if score.varied < _ENOUGH_LISTS or score.first_lowest <= _NEARLY_ALL * score.varied:
        return None
    share = percent(score.first_lowest, score.varied)
    return (
        f"is lowest on the first hypothesis in {share} of the lists: higher is better here; negate it if it is a cost",
        None,
    )


def _constant(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    if score.varied or not score.lists:
        return None
    return (
        f"is the same for all hypotheses of every list ({score.low:.6g} to {score.high:.6g} over the lists): it cannot change their order",
        None,
    )


def _per_token(score: ScoreSummary, name: str) -> tuple[str, Tally | None] | None:
    correlation = score.length_correlation
    if (
        _NO_LOG_PROB.search(name)
        or score.count < _ENOUGH_HYPOTHESES
        or correlation is None
        or correlation < -0.15
        or not score.varied
    ):
        return None
    if score.negative <= score.count / 2:
        return None
    return (
        f"does not fall with the length of the text (correlation with its words {correlation:.2f}): "
        "scores are sums over tokens; if it is a mean, multiply it or name it ..._per_token"
    ), None


def _incomplete_references(report: Report) -> Said:
    tally = report.tally("no_reference")
    if tally.count and report.references:
        yield (
            f"{tally.count:,} of {report.utterances:,} lists have no reference: tune and eval stop there",
            tally,
        )


def _no_references(report: Report) -> Said:
    if not report.references:
        yield (
            "no list has a reference: tune and eval need them (--refs), score and fuse do not",
            None,
        )


def _empty_references(report: Report) -> Said:
    tally = report.tally("empty_reference")
    if tally.count:
        yield (
            f"{tally.count:,} of {report.utterances:,} references hold no words: all that is recognised there is an insertion",
            tally,
        )


def _style(report: Report) -> Said:
    written, normalized = report.as_written.wer, report.normalized.wer
    if (
        written
        and normalized is not None
        and normalized < 0.8 * written
        and written - normalized > 0.01
    ):
        rates = f"error rate {100 * written:.1f} % as they are, {100 * normalized:.1f} % with --normalizer librispeech"
        yield (
            f"references and hypotheses are written differently: {rates}; give tune and eval a normaliser",
            None,
        )


def _no_gain(report: Report) -> Said:
    if (
        report.as_written.first
        and report.as_written.first == report.as_written.oracle
        and report.normalized.first == report.normalized.oracle
    ):
        yield "no list holds a hypothesis better than its first: rescoring cannot help", None


def _one_hypothesis(report: Report) -> Said:
    tally = report.tally("one_hypothesis")
    if tally.count:
        yield (
            f"{tally.count:,} of {report.utterances:,} lists have one hypothesis: rescoring cannot change them",
            tally,
        )


def _no_scores(report: Report) -> Said:
    if report.hypotheses and not report.scores:
        yield "there are no scores: the order of the lists is the score `rank`", None


def _unknown(report: Report, many: bool) -> Said:
    tally = report.tally("unknown")
    if tally.count and (report.unknown_tokens > _MANY_UNKNOWN * report.tokens) == many:
        shown = " ".join(char for char, _ in report.unknown_characters.most_common(_SHOWN))
        share = percent(report.unknown_tokens, report.tokens)
        what = f"; characters it does not know: {shown}" if shown else ""
        yield (
            f"{share} of the tokens, in {_of_hypotheses(report, tally)}, are unknown to the model's vocabulary{what}",
            tally,
        )


def _upper_case(report: Report) -> Said:
    tally = report.tally("upper")
    if tally.count > report.hypotheses / 2:
        yield (
            f"{_of_hypotheses(report, tally)} reach the model in capitals, which it has seldom seen: give score --normalizer librispeech",
            tally,
        )


def _rewritten(report: Report) -> Said:
    tally = report.tally("rewritten")
    if tally.count:
        how = f"are seen by the model through its normaliser {report.normalizer}"
        yield (
            f"{_of_hypotheses(report, tally)} {how}; the texts in the output stay as they are",
            tally,
        )


def _many_tokens(report: Report) -> Said:
    if report.tokens > _MANY_TOKENS * report.words:
        yield (
            f"{report.tokens / max(1, report.words):.1f} tokens a word: this vocabulary was not made for these texts",
            None,
        )


#: code -> level and rule. docs/checking.md explains each; tests/checking/test_check.py shows each.
FINDINGS: Mapping[str, tuple[Level, Callable[[Report], Said]]] = {
    "score_missing": ("warning", _scores(_missing)),
    "score_zero": ("warning", _scores(_zero)),
    "score_positive": ("warning", _scores(_positive)),
    "score_upside_down": ("warning", _scores(_upside_down)),
    "score_constant": ("warning", _scores(_constant)),
    "references_missing": ("warning", _incomplete_references),
    "references_style": ("warning", _style),
    "tokens_unknown": ("warning", lambda report: _unknown(report, many=True)),
    "texts_upper_case": ("warning", _upper_case),
    "texts_tags": (
        "warning",
        _texts(
            "tag",
            "hold tags or pieces (<unk>, [noise], \u2581, @@, ##), no words: the model scores them as text",
        ),
    ),
    "texts_replacement": (
        "warning",
        _texts(
            "replacement", "hold U+FFFD, the replacement character: an encoding was broken earlier"
        ),
    ),
    "score_per_token": ("note", _scores(_per_token)),
    "scores_none": ("note", _no_scores),
    "references_none": ("note", _no_references),
    "references_empty": ("note", _empty_references),
    "oracle_no_gain": ("note", _no_gain),
    "lists_of_one": ("note", _one_hypothesis),
    "texts_empty": (
        "note",
        _texts("empty", "are empty: the model scores the end of the sentence alone"),
    ),
    "texts_duplicate": (
        "note",
        _texts("duplicate", "stand in their list before: each is scored again"),
    ),
    "texts_alike": (
        "note",
        _texts(
            "alike",
            "differ from another of their list only in what the normaliser removes: equal scores",
        ),
    ),
    "texts_rewritten": ("note", _rewritten),
    "texts_unspaced": (
        "note",
        _texts(
            "unspaced",
            "hold CJK characters without spaces: count errors with --unit mixed, and expect no use of a word bonus",
        ),
    ),
    "tokens_unknown_few": ("note", lambda report: _unknown(report, many=False)),
    "tokens_many": ("note", _many_tokens),
    "tokens_over_long": (
        "note",
        _texts(
            "over_long",
            "are longer than the window: they are scored in windows that overlap by half, at about twice the cost",
        ),
    ),
}
