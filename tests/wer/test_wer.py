"""Error counts against jiwer (3.0, 4.0) and kaldialign (0.9, 0.12), intervals against a closed form and kaldialign's own bootstrap."""

import json
import sys
import unicodedata
from itertools import product

import jiwer
import kaldialign
import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rescore.errors import FormatError, RescoreError
from rescore.types import ErrorCounts, Hypothesis, NBest
from rescore.wer import (
    UNITS,
    bootstrap_ci,
    count_errors,
    edit_distances,
    evaluate,
    list_errors,
    oracle,
    probability_of_improvement,
    reference_length,
    significance,
    units,
)
from rescore.wer import counts as wer_counts
from rescore.wer.significance import bootstrap_sums

# reference, hypothesis, (substitutions, insertions, deletions), reference words; counted by hand
HAND = [
    ("the cat sat", "the cat sat", (0, 0, 0), 3),
    ("the cat sat", "a cat sat", (1, 0, 0), 3),
    ("the cat sat", "the cat", (0, 0, 1), 3),
    ("the cat sat", "the big cat sat down", (0, 2, 0), 3),
    ("the cat sat", "", (0, 0, 3), 3),
    ("", "uh oh", (0, 2, 0), 0),
    ("", "", (0, 0, 0), 0),
    ("a", "b", (1, 0, 0), 1),
    ("日本 語", "日本 人", (1, 0, 0), 2),
    ("  spaced\t out \n", "spaced out", (0, 0, 0), 2),
]

sentences = st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "语"]), max_size=7).map(" ".join)


def nbest(name, ref, *texts, **raw):
    return NBest(name, tuple(Hypothesis(text) for text in texts), ref, raw, f"dev.jsonl:{name}")


def split(counts):
    return counts.substitutions, counts.insertions, counts.deletions


def dynamic_programming(ref, hyp):
    """Levenshtein's recursion as the textbook has it."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        previous, row = row, [i]
        for j, h in enumerate(hyp, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (r != h)))
    return row[-1]


@pytest.mark.parametrize(("ref", "hyp", "expected", "words"), HAND)
def test_counts_by_hand(ref, hyp, expected, words):
    counts = count_errors(ref, hyp)
    assert (split(counts), counts.reference_words) == (expected, words)
    assert reference_length(ref) == words


@given(st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_equals_jiwer(pairs):
    """References with words: jiwer 3 refuses others, jiwer 4 calls their insertions a rate."""
    refs, hyps = [ref for ref, _ in pairs], [hyp for _, hyp in pairs]
    words = sum((count_errors(ref, hyp) for ref, hyp in pairs), ErrorCounts())
    chars = sum((count_errors(ref, hyp, "char") for ref, hyp in pairs), ErrorCounts())
    by_word, by_char = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
    assert split(words) == (by_word.substitutions, by_word.insertions, by_word.deletions)
    assert split(chars) == (by_char.substitutions, by_char.insertions, by_char.deletions)
    assert (words.wer, chars.wer) == (by_word.wer, by_char.cer)


@given(sentences, sentences, st.sampled_from(["word", "char"]))
@settings(max_examples=150, deadline=None)
def test_totals_equal_kaldialign_and_the_recursion(ref, hyp, unit):
    r, h = (ref.split(), hyp.split()) if unit == "word" else (list(ref), list(hyp))
    total = count_errors(ref, hyp, unit).errors
    assert total == kaldialign.edit_distance(r, h)["total"] == dynamic_programming(r, h)
    assert edit_distances([ref], [hyp], unit).tolist() == [total]


def test_a_space_is_a_character_and_runs_of_them_are_one():
    assert split(count_errors("a b", "ab", "char")) == (0, 0, 1)
    assert count_errors(" a \t b ", "a b", "char") == ErrorCounts(0, 0, 0, 3)


# --- units -------------------------------------------------------------------------------------------------------------------------------

# text, its mixed units by hand
MIXED = [
    ("我 想 book 一 张ticket", ["我", "想", "book", "一", "张", "ticket"]),
    ("今天的meeting在3点", ["今", "天", "的", "meeting", "在", "3", "点"]),
    ("  the\tcat ", ["the", "cat"]),
    ("コーヒーを two つ", ["コ", "ー", "ヒ", "ー", "を", "two", "つ"]),
    ("서울 station에서", ["서", "울", "station", "에", "서"]),
    ("𠮷野家 ㄅㄆ 々", ["𠮷", "野", "家", "ㄅ", "ㄆ", "々"]),
    ("don't, 好。", ["don't,", "好", "。"]),
    ("привет नमस्ते ไทย", ["привет", "नमस्ते", "ไทย"]),
    ("", []),
]

#: Scripts as the Unicode database has them, in a library of its own; the marks of kana belong to hiragana and katakana alike.
CJK_SCRIPTS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\u3099-\u309c\u30fc\uff70\uff9e\uff9f]"
)
code_switched = st.text(st.sampled_from("我们ひカ한가ㄅ ab'é。3"), max_size=9)


@pytest.mark.parametrize(("text", "expected"), MIXED)
def test_mixed_units_by_hand(text, expected):
    assert units(text, "mixed") == expected


def test_every_character_of_the_cjk_scripts_stands_alone_and_no_other():
    """All code points that both Unicode databases know; a character stands alone if and only if it is cut out of a word."""
    wrong = [
        f"U+{code:04X}"
        for code, char in ((code, chr(code)) for code in range(sys.maxunicode + 1))
        if unicodedata.category(char) not in ("Cn", "Cs")
        and regex.match(r"\P{Cn}", char)
        and not char.isspace()
        and (units(f"x{char}x", "mixed") == ["x", char, "x"]) != bool(CJK_SCRIPTS.match(char))
    ]
    assert wrong == []


@given(code_switched, code_switched)
@settings(max_examples=200, deadline=None)
def test_mixed_units_equal_jiwer_on_texts_cut_by_the_unicode_scripts(ref, hyp):
    cut = [
        " ".join(CJK_SCRIPTS.sub(lambda found: f" {found[0]} ", text).split())
        for text in (ref, hyp)
    ]
    counts = count_errors(ref, hyp, "mixed")
    assert counts == count_errors(*cut, "word")
    if cut[0]:
        theirs = jiwer.process_words(*cut)
        assert split(counts) == (theirs.substitutions, theirs.insertions, theirs.deletions)
        assert counts.wer == theirs.wer


@given(code_switched, code_switched)
@settings(max_examples=200, deadline=None)
def test_characters_without_spaces_equal_jiwer_on_texts_without_spaces(ref, hyp):
    joined = ["".join(text.split()) for text in (ref, hyp)]
    counts = count_errors(ref, hyp, "char_nospace")
    assert counts.errors == dynamic_programming(*map(list, joined))
    if joined[0]:
        theirs = jiwer.process_characters(*joined)
        assert (counts.wer, counts.reference_words) == (theirs.cer, len(joined[0]))


def test_the_four_units_differ_in_what_a_space_is():
    lengths = {unit: reference_length("我 想 a b\tcd", unit) for unit in UNITS}
    assert lengths == {"word": 5, "char": 10, "char_nospace": 6, "mixed": 5}
    spaced, joined = (
        "中 文 ok",
        "中文 ok",
    )  # spaces between Chinese characters are the recogniser's habit, no error
    assert [count_errors(spaced, joined, unit).errors for unit in UNITS] == [2, 1, 0, 0]


def test_an_unknown_unit_is_refused():
    with pytest.raises(
        FormatError, match="unit 'letter' is unknown; known: word, char, char_nospace, mixed"
    ):
        evaluate([nbest("1", "a", "a")], unit="letter")


def test_edit_distances_in_order_and_each_pair_once(monkeypatch):
    refs = [ref for ref, *_ in HAND for _ in range(3)]
    hyps = [hyp for _, hyp, *_ in HAND for _ in range(3)]
    seen = []
    monkeypatch.setattr(
        wer_counts,
        "cdist",
        lambda r, h, scorer, cdist=wer_counts.cdist: (
            seen.extend(product(map(tuple, r), map(tuple, h))) or cdist(r, h, scorer=scorer)
        ),
    )
    distances = edit_distances(refs, hyps)
    assert distances.dtype == np.int64
    assert distances.tolist() == [sum(counts) for *_, counts, _ in HAND for _ in range(3)]
    assert len(seen) == len(set(seen)) == len({(ref, hyp) for ref, hyp, *_ in HAND})


def test_edit_distances_wants_pairs():
    with pytest.raises(FormatError, match="got 2 references for 1 hypotheses"):
        edit_distances(["a", "b"], ["a"])
    assert edit_distances([], []).tolist() == []


def test_oracle_takes_the_first_of_equals():
    lists = nbest("1", "a b c", "a", "a b", "b c", "x y z", "x a b c y")
    assert list_errors(lists).tolist() == [2, 1, 1, 3, 2]
    assert oracle(lists) == 1


def test_list_errors_normalises_both_sides():
    assert list_errors(nbest("1", "A B", "a  b", "a c"), normalize=str.lower).tolist() == [0, 1]


def test_a_missing_reference_is_named():
    with pytest.raises(
        FormatError, match=r"^dev\.jsonl:7: utterance 7: the reference .* is missing"
    ):
        list_errors(nbest("7", None, "a"))


# --- bootstrap ---------------------------------------------------------------------------------------------------------------------------


def test_interval_of_a_binomial():
    """N one-word references, k of them wrong: a resample's errors are Binomial(N, k / N), whose quantiles are known."""
    n, k = 400, 60
    errors = np.arange(n) < k
    low, high = bootstrap_ci(errors, np.ones(n), resamples=40_000)
    assert abs(low * n - binom.ppf(0.025, n, k / n)) <= 1
    assert abs(high * n - binom.ppf(0.975, n, k / n)) <= 1


def test_pooling_draws_what_drawing_one_by_one_does():
    random = np.random.default_rng(5)
    counts = random.integers(0, 4, (30, 2))
    naive = counts[random.integers(0, 30, (20_000, 30))].sum(axis=1)
    pooled = bootstrap_sums(counts, resamples=20_000)
    np.testing.assert_allclose(
        pooled.mean(axis=0), naive.mean(axis=0), atol=0.2
    )  # standard error 0.05
    np.testing.assert_allclose(
        np.cov(pooled.T), np.cov(naive.T), atol=2
    )  # entries near 40, standard error 0.4


def test_agrees_with_kaldialign():
    """kaldialign's interval is mean +- 1.96 standard deviations: equal to percentiles up to skewness and noise."""
    random = np.random.default_rng(0)
    refs = [["w"] * n for n in random.integers(3, 20, 300)]
    one, two = (
        [["w" if good else "x" for good in random.random(len(ref)) > rate] for ref in refs]
        for rate in (0.2, 0.19)
    )
    theirs = kaldialign.bootstrap_wer_ci(refs, one, two)
    words, errors, others = (
        [len(ref) for ref in refs],
        [hyp.count("x") for hyp in one],
        [hyp.count("x") for hyp in two],
    )
    for system, counts in (("system1", errors), ("system2", others)):
        width = theirs[system]["ci95max"] - theirs[system]["ci95min"]
        assert bootstrap_ci(counts, words) == pytest.approx(
            (theirs[system]["ci95min"], theirs[system]["ci95max"]), abs=0.05 * width
        )
    assert (
        0.6 < theirs["p_s2_improv_over_s1"] < 0.99
    )  # a close call, so that the comparison says something
    assert probability_of_improvement(others, errors) == pytest.approx(
        theirs["p_s2_improv_over_s1"], abs=0.02
    )


def test_one_by_one_clusters_change_nothing_and_one_cluster_knows_no_error():
    errors, words = [1, 0, 2, 1, 5], [4, 4, 4, 3, 9]
    assert bootstrap_ci(errors, words, clusters=list("abcde")) == bootstrap_ci(errors, words)
    assert bootstrap_ci(errors, words, clusters=["a"] * 5) == (9 / 24, 9 / 24)
    merged = bootstrap_ci([3, 1, 5], [8, 7, 9], seed=4)
    assert (
        bootstrap_ci([1, 1, 2, 0, 5], [4, 3, 4, 4, 9], clusters=["s", "t", "s", "t", "u"], seed=4)
        == merged
    )


def test_clusters_widen_the_interval_of_dependent_utterances():
    errors = np.repeat([0, 1, 0, 1, 1, 0, 0, 1], 25)
    alone, together = (
        bootstrap_ci(errors, np.ones(200)),
        bootstrap_ci(errors, np.ones(200), clusters=np.repeat(np.arange(8), 25).tolist()),
    )
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_the_order_of_utterances_and_the_memory_at_hand_change_nothing(monkeypatch):
    random = np.random.default_rng(1)
    errors, words, order = (
        random.integers(0, 5, 200),
        random.integers(1, 9, 200),
        random.permutation(200),
    )
    expected = bootstrap_ci(errors, words)
    assert bootstrap_ci(errors[order], words[order]) == expected
    monkeypatch.setattr(significance, "_CHUNK", 64)
    assert bootstrap_ci(errors, words) == expected


def test_the_seed_decides():
    errors, words = np.arange(50) % 4, np.full(50, 7)
    assert bootstrap_ci(errors, words, seed=1) == bootstrap_ci(errors, words, seed=1)
    assert not np.array_equal(
        bootstrap_sums(np.c_[errors, words], seed=1), bootstrap_sums(np.c_[errors, words], seed=2)
    )


def test_resamples_without_reference_words_are_left_out():
    low, high = bootstrap_ci(
        [1, 2], [0, 4]
    )  # half of the resamples hold only one of the two, a quarter no word at all
    assert (low, high) == (2 / 4, 3 / 4)


def test_ties_count_half():
    assert probability_of_improvement([1, 2, 3], [1, 2, 3]) == 0.5
    assert probability_of_improvement([0, 0], [1, 1]) == 1.0
    assert probability_of_improvement([1, 1], [0, 0]) == 0.0
    # One utterance better, one worse: resamples AA, AB, BA, BB -> better, tie, tie, worse
    assert probability_of_improvement([0, 1], [1, 0], resamples=40_000) == pytest.approx(
        0.5, abs=0.01
    )
    share = probability_of_improvement(
        [0, 1], [1, 1], resamples=40_000
    )  # better unless B is drawn twice, a tie then
    assert share == pytest.approx(3 / 4 + 1 / 8, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ci([1], [0]), "the references hold no words"),
        (lambda: bootstrap_ci([], []), "the references hold no words"),
        (lambda: probability_of_improvement([], []), "got 0 and 10000"),
        (lambda: bootstrap_ci([1], [1], resamples=0), "got 1 and 0"),
        (
            lambda: bootstrap_ci([1, 2], [1, 2], clusters=["a"]),
            "got 1 cluster names for 2 utterances",
        ),
    ],
)
def test_nothing_to_resample(call, message):
    with pytest.raises(FormatError, match=message):
        call()


# --- evaluate ----------------------------------------------------------------------------------------------------------------------------

SYSTEM = [
    nbest("1", "a b c d", "a b c x", "a b c d"),
    nbest("2", "e f", "e f", "e"),
    nbest("3", "", "uh", ""),
]
BASELINE = [nbest("2", "e f", "e"), nbest("1", "a b c d", "a x"), nbest("3", "", "uh")]


def test_evaluation_by_hand():
    """System: 1 substitution, 0, 1 insertion of 6 words; oracle 0. Baseline: 3, 1, 1."""
    result = evaluate(SYSTEM, BASELINE)
    assert result.errors == ErrorCounts(1, 1, 0, 6)
    assert (result.utterances, result.wer, result.oracle_wer, result.clusters) == (3, 2 / 6, 0.0, 3)
    assert result.ci95 == bootstrap_ci([1, 0, 1], [4, 2, 0])
    comparison = result.comparison
    assert (comparison.baseline_wer, comparison.baseline_ci95) == (
        5 / 6,
        bootstrap_ci([3, 1, 1], [4, 2, 0]),
    )
    assert comparison.absolute_reduction == pytest.approx(3 / 6)
    assert comparison.relative_reduction == pytest.approx(3 / 5)
    assert comparison.oracle_gap_closed == pytest.approx(3 / 5)
    assert comparison.reduction_ci95 == bootstrap_ci([2, 1, 0], [4, 2, 0])
    assert comparison.probability_better == probability_of_improvement([1, 0, 1], [3, 1, 1])


def test_the_json_is_flat_and_plain():
    alone, compared = evaluate(SYSTEM).to_json(), evaluate(SYSTEM, BASELINE).to_json()
    assert json.loads(json.dumps(compared)) == compared
    assert compared["errors"] == {
        "substitutions": 1,
        "insertions": 1,
        "deletions": 0,
        "reference_words": 6,
    }
    assert alone.keys() == compared.keys() - {
        "baseline_wer", "baseline_ci95", "absolute_reduction", "relative_reduction", "reduction_ci95", "probability_better", "oracle_gap_closed"
    }  # fmt: skip
    assert {
        name: compared[name] for name in alone
    } == alone  # a baseline changes no figure of the system
    assert isinstance(compared["ci95"], list)


def test_characters_and_normalisers():
    lists = [nbest("1", "It's ON.", "it's on", "it is on")]
    assert evaluate(lists).wer == 1.0
    assert evaluate(lists, normalizer="librispeech").wer == 0.0
    characters = evaluate(lists, unit="char", normalizer="librispeech")
    assert characters.errors == ErrorCounts(0, 0, 0, 7)
    assert (characters.unit, characters.normalizer) == ("char", "librispeech")
    with pytest.raises(
        RescoreError, match="known: librispeech, none, whisper-basic, whisper-english"
    ):
        evaluate(lists, normalizer="nobody's")


def test_clusters_come_from_the_caller():
    lists = [
        nbest(f"{speaker}{i}", "a b", "a b" if speaker == "s" else "x b", speaker=speaker)
        for speaker in "st"
        for i in range(10)
    ]
    result = evaluate(lists, cluster=lambda one: one.raw["speaker"])
    assert (result.clusters, result.ci95) == (2, (0.0, 0.5))


def test_nothing_to_gain():
    perfect = [nbest("1", "a b", "a b")]
    comparison = evaluate(perfect, perfect).comparison
    assert (
        comparison.oracle_gap_closed,
        comparison.relative_reduction,
        comparison.absolute_reduction,
    ) == (None, None, 0.0)
    assert comparison.probability_better == 0.5


def test_a_baseline_better_than_our_oracle_leaves_no_gap_to_close():
    comparison = evaluate([nbest("1", "a b", "x y", "a y")], [nbest("1", "a b", "a b")]).comparison
    assert (
        comparison.oracle_gap_closed,
        comparison.absolute_reduction,
        comparison.probability_better,
    ) == (None, -1.0, 0.0)


def test_a_baseline_without_references_is_counted_against_ours():
    stripped = [NBest(one.id, one.hyps) for one in BASELINE]
    assert evaluate(SYSTEM, stripped) == evaluate(SYSTEM, BASELINE)


NO_WORDS, NOT_DEFINED = (
    "dev.jsonl:1: utterance 1: the reference holds no words",
    "an error rate is not defined; give --refs with words",
)


@pytest.mark.parametrize(
    ("lists", "baseline", "message"),
    [
        ([nbest("1", None, "a")], None, 'dev.jsonl:1: utterance 1: the reference ("ref") is missing; errors can only be counted against one, give --refs'),
        ([nbest("1", "", "a")], None, f"{NO_WORDS}: {NOT_DEFINED}"),
        ([nbest("1", "", "a"), nbest("2", " ", "b")], None, f"{NO_WORDS}, like those of the other 1 utterances: {NOT_DEFINED}"),
        ([], None, "there are no lists: the input is empty"),
        (SYSTEM + SYSTEM[:1], None, "dev.jsonl:1: utterance 1: this id was counted before; every utterance needs its own"),
        (SYSTEM, BASELINE[1:], "utterance 2: it is missing from the baseline; both need the same utterances"),
        (SYSTEM[1:], BASELINE, "dev.jsonl:1: utterance 1: it is in the baseline and not among the evaluated lists; both need the same utterances"),
        (SYSTEM, [nbest("1", "a", "a")], "dev.jsonl:1: utterance 1: the baseline's reference differs from the evaluated list's; both need the same references"),
    ],
)  # fmt: skip
def test_bad_input_is_named(lists, baseline, message):
    with pytest.raises(FormatError) as caught:
        evaluate(lists, baseline)
    assert str(caught.value) == message
