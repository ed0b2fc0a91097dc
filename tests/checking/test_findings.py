"""Every finding of the table, by an example."""

from __future__ import annotations

import re

import pytest
from checked_lists import BARE, LETTERS, ROOT, changed, clean, mapped, nbest, scored

from rescore.checking import check
from rescore.checking.findings import FINDINGS, findings
from rescore.scorers import Vocabulary
from rescore.text import identity
from rescore.types import Hypothesis, NBest

SECOND = "dev.jsonl:2: utterance u2"


#: code -> lists, vocabulary, how many, the first
EXAMPLES = {
    "score_missing": (
        changed(lm=[-1.0, -2.0, -3.0]),
        LETTERS,
        117,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    ),
    "score_zero": (changed(am=[-40.0, 0.0, -50.0]), LETTERS, 1, f"{SECOND}, hypothesis 2"),
    "score_positive": (
        *scored("lm", lambda words, i: 2.0 * words + i),
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    ),
    "score_upside_down": (*scored("lm", lambda words, i: -9.0 * words + 20 * i), 0, ""),
    "score_constant": (*scored("lm", lambda words, i: -1.0), 0, ""),
    "scores_misnamed": (
        *mapped(lambda hyp, i: Hypothesis(hyp.text, {}, {"text": hyp.text, "score": -1.0})),
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    ),
    "references_misnamed": (
        [NBest(one.id, one.hyps, None, {"reference": "x"}, one.where) for one in clean()],
        LETTERS,
        40,
        "dev.jsonl:1: utterance u1",
    ),
    "references_missing": (changed(ref=None), LETTERS, 1, SECOND),
    "references_style": (
        [NBest(one.id, one.hyps, one.ref.upper() + ".", {}, one.where) for one in clean()],
        LETTERS,
        0,
        "",
    ),
    "tokens_unknown": (
        *mapped(lambda hyp, i: Hypothesis(hyp.text + " 3 \u0436", hyp.scores)),
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    ),
    "texts_upper_case": (
        *mapped(lambda hyp, i: Hypothesis(hyp.text.upper(), hyp.scores), BARE),
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    ),
    "texts_tags": (
        changed(texts=["the old", "[noise] the old", "<unk> old"]),
        LETTERS,
        2,
        f"{SECOND}, hypothesis 2",
    ),
    "texts_replacement": (
        changed(texts=["the old", "the ol\ufffd", "old"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 2",
    ),
    "score_per_token": (*scored("logprob", lambda words, i: -0.2 - 0.1 * (i == 1)), 0, ""),
    "scores_none": (*mapped(lambda hyp, i: Hypothesis(hyp.text)), 0, ""),
    "references_none": (
        [NBest(one.id, one.hyps, None, {}, one.where) for one in clean()],
        LETTERS,
        0,
        "",
    ),
    "references_empty": (changed(ref=" "), LETTERS, 1, SECOND),
    "oracle_no_gain": (
        [NBest(one.id, (one.hyps[0], one.hyps[2]), one.ref, {}, one.where) for one in clean()],
        LETTERS,
        0,
        "",
    ),
    "lists_of_one": (
        [*clean(), nbest(41, "the old", am=[-30.0])],
        LETTERS,
        1,
        "dev.jsonl:41: utterance u41",
    ),
    "texts_empty": (changed(texts=["the old", "", "old"]), LETTERS, 1, f"{SECOND}, hypothesis 2"),
    "texts_duplicate": (
        changed(texts=["the old", "old", "  the\told "]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 3",
    ),
    "texts_alike": (
        changed(texts=["the old", "old", "The old!"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 3",
    ),
    "texts_rewritten": (
        changed(texts=["The old", "old", "the"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 1",
    ),
    "texts_unspaced": (
        changed(texts=["我们 the old", "old", "我 们"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 1",
    ),
    "tokens_unknown_few": (
        changed(texts=["the old", "old \u0436", "the"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 2",
    ),
    "tokens_many": (
        *mapped(lambda hyp, i: Hypothesis(" ".join(["brought"] * len(hyp.words)), hyp.scores)),
        0,
        "",
    ),
    "tokens_over_long": (
        changed(texts=["the old", "the " * 200, "the"]),
        LETTERS,
        1,
        f"{SECOND}, hypothesis 2",
    ),
}


def codes(lists, vocabulary=LETTERS, **options):
    return [finding.code for finding in findings(check(lists, vocabulary, **options))]


def test_there_is_nothing_to_say_about_clean_lists():
    assert codes(clean()) == []


@pytest.mark.parametrize("code", EXAMPLES)
def test_every_finding_has_an_example(code):
    lists, vocabulary, count, first = EXAMPLES[code]
    [finding] = [finding for finding in findings(check(lists, vocabulary)) if finding.code == code]
    assert (finding.level, finding.count, finding.first) == (FINDINGS[code][0], count, first)
    assert str(finding).startswith(f"{finding.level}: {code}: ")
    assert str(finding).endswith(f" (first: {first})" if first else finding.message)


def test_the_table_the_examples_and_the_page_name_the_same_findings():
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (warning|note) \| ", page, re.MULTILINE)
    assert rows == [(code, level) for code, (level, _) in FINDINGS.items()]
    assert list(EXAMPLES) == list(FINDINGS)


def test_warnings_come_first():
    levels = [
        finding.level
        for finding in findings(check(changed(texts=["", "The <unk>", "<unk>"], ref=None), LETTERS))
    ]
    assert levels == sorted(levels, key=["warning", "note"].index)
    assert set(levels) == {"warning", "note"}


@pytest.mark.parametrize(
    ("name", "value", "unsaid"),
    [
        ("rank", lambda words, i: -float(i), {"score_zero"}),
        ("total", lambda words, i: 5.0 * words - i, {"score_positive"}),
        ("confidence", lambda words, i: 0.9 - 0.1 * i, {"score_positive"}),
        ("avg_per_token", lambda words, i: -0.2 - 0.1 * (i == 1), {"score_per_token"}),
        ("ctc_prob", lambda words, i: 0.9 - 0.1 * i, {"score_positive"}),
    ],
)
def test_what_is_no_sum_of_log_probabilities_is_known_by_its_name(name, value, unsaid):
    assert unsaid & set(codes(*scored(name, value))) == set()
    assert unsaid <= set(codes(*scored("lm", value)))


def test_where_values_lie_around_0_a_0_is_a_value_like_others():
    assert "score_zero" not in codes(*scored("ratio", lambda words, i: [0.0, 1.0, -1.0][i]))


@pytest.mark.parametrize("name", ["log_prob", "logprobs", "am"])
def test_names_of_log_probabilities_are_looked_at(name):
    assert "score_positive" in codes(*scored(name, lambda words, i: 0.9 - 0.1 * i))


def test_a_score_that_begins_late_is_missing_from_the_first_hypothesis_on():
    [finding] = findings(
        check(
            [
                *clean(),
                nbest(41, "the old there", "the old house", am=[-30.0, -40.0], lm=[-3.0, -4.0]),
            ],
            LETTERS,
        )
    )
    assert (finding.code, finding.count, finding.first) == (
        "score_missing",
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    )
    assert 'score "lm" is missing on 120 of 122 hypotheses' in finding.message


def test_a_tokenizer_without_case_does_not_mind_capitals():
    class Lowering:
        bos_id, eos_id, unk_id = 2, 3, 1

        def encode(self, texts):
            return LETTERS.tokenizer.encode([text.lower() for text in texts])

    loud, _ = mapped(lambda hyp, i: Hypothesis(hyp.text.upper(), hyp.scores))
    assert "texts_upper_case" not in codes(loud, Vocabulary(Lowering(), identity, 128))
    assert "texts_upper_case" not in codes(loud, LETTERS)


def test_chinese_with_a_latin_abbreviation_is_not_in_capitals():
    assert "texts_upper_case" not in codes([nbest(1, "我 有 ID", "我 有", ref="我 有 ID")], BARE)
