"""What is worth saying about an inspection: the table FINDINGS, each rule a few lines.

Warnings are what `check --strict` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rescore.checking.counts import ScoreSummary, Tally
from rescore.checking.inspection import Inspection
from rescore.fusion.cost_watch import NEARLY_ALL, NOT_LOG_PROBS

__all__ = ["FINDINGS", "Finding", "findings", "percent"]

Level = Literal["warning", "note"]

#: A message and, where it is about hypotheses or lists, how many and which is the first.
Remark: TypeAlias = tuple[str, Tally | None]
Rule: TypeAlias = Callable[[Inspection], Iterator[Remark]]
ScoreRule: TypeAlias = Callable[[ScoreSummary, str], Remark | None]

_MANY_UNKNOWN = 0.01  # share of tokens
_MANY_TOKENS = 3.0  # per word; a vocabulary that fits English has 1.2 to 1.6 tokens per word
_ENOUGH_LISTS = 20
_ENOUGH_HYPOTHESES = 100
_SHOWN = 10  # unknown characters


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    It is true of `count` hypotheses or lists, the first of them at `first`; 0 and "" where it is
    about the whole input.
    """

    code: str
    level: Level
    message: str
    count: int = 0
    first: str = ""

    def __str__(self) -> str:
        place = f" (first: {self.first})" if self.first else ""
        return f"{self.level}: {self.code}: {self.message}{place}"


def findings(inspection: Inspection) -> list[Finding]:
    """Return what is worth saying, warnings first, in the order of FINDINGS."""
    results: list[Finding] = []
    for code, (level, rule) in FINDINGS.items():
        for message, tally in rule(inspection):
            count, first = (tally.count, tally.first) if tally else (0, "")
            results.append(Finding(code, level, message, count, first))
    return sorted(results, key=lambda finding: finding.level != "warning")


def percent(part: float, whole: float) -> str:
    """Return a share in percent. A small share is not rounded to 0, nor a large one to 100."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < share < 100 else f"{share:.1f} %"


def _of_hypotheses(inspection: Inspection, tally: Tally) -> str:
    share = percent(tally.count, inspection.hypotheses)
    return f"{tally.count:,} of {inspection.hypotheses:,} hypotheses ({share})"


def _texts(name: str, message: str) -> Rule:
    """A rule that speaks as soon as one hypothesis is tallied under `name`."""

    def rule(inspection: Inspection) -> Iterator[Remark]:
        tally = inspection.tally(name)
        if tally.count:
            yield f"{_of_hypotheses(inspection, tally)} {message}", tally

    return rule


def _scores(score_rule: ScoreRule) -> Rule:
    """A rule that looks at every score."""

    def rule(inspection: Inspection) -> Iterator[Remark]:
        for name, score in inspection.scores.items():
            remark = score_rule(score, name)
            if remark is not None:
                message, tally = remark
                yield f'score "{name}" {message}', tally

    return rule


# ---------------------------------------------------------------------------------------- scores


def _missing(score: ScoreSummary, name: str) -> Remark | None:
    del name
    if not score.missing.count:
        return None
    total = score.missing.count + score.count
    message = (
        f"is missing on {score.missing.count:,} of {total:,} hypotheses: score them, or score the"
        " whole file again"
    )
    return message, score.missing


def _zero(score: ScoreSummary, name: str) -> Remark | None:
    if name == "rank" or not score.zero.count:
        return None
    if score.negative <= NEARLY_ALL * (score.count - score.zero.count):
        return None
    share = percent(score.zero.count, score.count)
    message = (
        f"is 0 on {share} of the hypotheses and negative on others: 0 is the highest possible"
        " log-probability; did something fail to score them?"
    )
    return message, score.zero


def _positive(score: ScoreSummary, name: str) -> Remark | None:
    if NOT_LOG_PROBS.search(name) or score.positive.count <= score.count / 2:
        return None
    share = percent(score.positive.count, score.count)
    message = (
        f"is positive on {share} of the hypotheses: scores are log-probabilities, higher is better;"
        " negate it if it is a cost"
    )
    return message, score.positive


def _upside_down(score: ScoreSummary, name: str) -> Remark | None:
    del name
    if score.varied < _ENOUGH_LISTS or score.first_lowest <= NEARLY_ALL * score.varied:
        return None
    share = percent(score.first_lowest, score.varied)
    message = (
        f"is lowest on the first hypothesis in {share} of the lists: higher is better here; negate"
        " it if it is a cost"
    )
    return message, None


def _constant(score: ScoreSummary, name: str) -> Remark | None:
    del name
    if score.varied or not score.lists:
        return None
    message = (
        "is the same for all hypotheses of every list"
        f" ({score.low:.6g} to {score.high:.6g} over the lists): it cannot change their order"
    )
    return message, None


def _per_token(score: ScoreSummary, name: str) -> Remark | None:
    correlation = score.length_correlation
    if NOT_LOG_PROBS.search(name) or score.count < _ENOUGH_HYPOTHESES or not score.varied:
        return None
    if correlation is None or correlation < -0.15 or score.negative <= score.count / 2:
        return None
    message = (
        "does not fall with the length of the text (correlation with the number of words"
        f" {correlation:.2f}): scores are sums over tokens; if it is a mean, multiply it by the"
        " number of tokens or name it ..._per_token"
    )
    return message, None


# ------------------------------------------------------------------------------------ references


def _incomplete_references(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("no_reference")
    if tally.count and inspection.references:
        message = (
            f"{tally.count:,} of {inspection.utterances:,} lists have no reference: tune and eval"
            " will stop there"
        )
        yield message, tally


def _misnamed_references(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("misnamed_reference")
    if tally.count:
        message = (
            f'{tally.count:,} of {inspection.utterances:,} lists have no reference ("ref") but a'
            " field that other tools call so: rename it, or read it with --from mapped-jsonl"
        )
        yield message, tally


def _no_references(inspection: Inspection) -> Iterator[Remark]:
    if not inspection.references:
        message = "no list has a reference: tune and eval need them (--refs), score and fuse do not"
        yield message, None


def _empty_references(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("empty_reference")
    if tally.count:
        message = (
            f"{tally.count:,} of {inspection.utterances:,} references have no words: every word"
            " recognised there is an insertion"
        )
        yield message, tally


def _style(inspection: Inspection) -> Iterator[Remark]:
    written, normalized = inspection.as_written.wer, inspection.normalized.wer
    if not written or normalized is None:
        return
    if normalized < 0.8 * written and written - normalized > 0.01:
        message = (
            "references and hypotheses are written in different styles: error rate"
            f" {100 * written:.1f} % as they are, {100 * normalized:.1f} % with --normalizer"
            " librispeech; use a normaliser with tune and eval"
        )
        yield message, None


def _no_gain(inspection: Inspection) -> Iterator[Remark]:
    written, normalized = inspection.as_written, inspection.normalized
    if written.first and written.first == written.oracle and normalized.first == normalized.oracle:
        yield "no list holds a hypothesis better than its first: rescoring cannot help", None


# ------------------------------------------------------------------------------ lists and tokens


def _one_hypothesis(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("one_hypothesis")
    if tally.count:
        message = (
            f"{tally.count:,} of {inspection.utterances:,} lists have one hypothesis: rescoring"
            " cannot change them"
        )
        yield message, tally


def _no_scores(inspection: Inspection) -> Iterator[Remark]:
    if inspection.hypotheses and not inspection.scores:
        yield "there are no scores: the order of the lists is the score `rank`", None


def _unknown(inspection: Inspection, many: bool) -> Iterator[Remark]:
    tally = inspection.tally("unknown")
    is_many = inspection.unknown_tokens > _MANY_UNKNOWN * inspection.tokens
    if not tally.count or is_many != many:
        return
    share = percent(inspection.unknown_tokens, inspection.tokens)
    characters = [char for char, _ in inspection.ranked_unknown_characters[:_SHOWN]]
    examples = f"; unknown characters: {' '.join(characters)}" if characters else ""
    message = (
        f"{share} of the tokens, in {_of_hypotheses(inspection, tally)}, are not in the model's"
        f" vocabulary{examples}"
    )
    yield message, tally


def _upper_case(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("upper")
    if tally.count > inspection.hypotheses / 2:
        message = (
            f"{_of_hypotheses(inspection, tally)} reach the model in upper case, which it has"
            " rarely seen: use --normalizer librispeech with score"
        )
        yield message, tally


def _rewritten(inspection: Inspection) -> Iterator[Remark]:
    tally = inspection.tally("rewritten")
    if tally.count:
        message = (
            f"{_of_hypotheses(inspection, tally)} are changed by the normaliser"
            f" {inspection.normalizer} before the model reads them; the output keeps their texts"
        )
        yield message, tally


def _many_tokens(inspection: Inspection) -> Iterator[Remark]:
    if inspection.tokens > _MANY_TOKENS * inspection.words:
        per_word = inspection.tokens / max(1, inspection.words)
        yield f"{per_word:.1f} tokens per word: this vocabulary does not fit these texts", None


#: code -> level and rule. docs/checking.md explains each; tests/checking/test_findings.py shows it.
FINDINGS: Mapping[str, tuple[Level, Rule]] = {
    "score_missing": ("warning", _scores(_missing)),
    "score_zero": ("warning", _scores(_zero)),
    "score_positive": ("warning", _scores(_positive)),
    "score_upside_down": ("warning", _scores(_upside_down)),
    "score_constant": ("warning", _scores(_constant)),
    "scores_misnamed": (
        "warning",
        _texts(
            "misnamed_scores",
            'have a field "score" and no "scores": named scores stand in "scores", an object, as in'
            ' {"scores": {"am": -213.4}}; the field is kept and not read',
        ),
    ),
    "references_misnamed": ("warning", _misnamed_references),
    "references_missing": ("warning", _incomplete_references),
    "references_style": ("warning", _style),
    "tokens_unknown": ("warning", lambda inspection: _unknown(inspection, many=True)),
    "texts_upper_case": ("warning", _upper_case),
    "texts_tags": (
        "warning",
        _texts(
            "tag",
            "contain tags or word pieces (<unk>, [noise], \u2581, @@, ##), not words: the model"
            " scores them as text",
        ),
    ),
    "texts_replacement": (
        "warning",
        _texts(
            "replacement",
            "contain U+FFFD, the replacement character: an earlier step broke the encoding",
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
        _texts("duplicate", "repeat an earlier hypothesis of their list: each is scored again"),
    ),
    "texts_alike": (
        "note",
        _texts(
            "alike",
            "differ from another hypothesis of their list only in what the normaliser removes:"
            " equal scores",
        ),
    ),
    "texts_rewritten": ("note", _rewritten),
    "texts_unspaced": (
        "note",
        _texts(
            "unspaced",
            "contain CJK characters without spaces: count errors with --unit mixed; a word bonus"
            " will not help",
        ),
    ),
    "tokens_unknown_few": ("note", lambda inspection: _unknown(inspection, many=False)),
    "tokens_many": ("note", _many_tokens),
    "tokens_over_long": (
        "note",
        _texts(
            "over_long",
            "are longer than the window: they are scored in half-overlapping windows, at about"
            " twice the cost",
        ),
    ),
}
