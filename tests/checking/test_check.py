"""`check`: every finding of the table by an example, every figure by hand or against the scorers, and the command."""

from __future__ import annotations

import json
import re
import sys
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import LINES, save_small, small_tokenizer

import rescore
from rescore.checking import check
from rescore.checking import counts
from rescore.checking.findings import FINDINGS, findings
from rescore.checking.summary import summary_json, summary_lines
from rescore.cli import main
from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.scorers import ScorerFamily, ScorerOptions, Vocabulary, load_scorer, load_vocabulary
from rescore.text import identity, librispeech
from rescore.types import Hypothesis, NBest
from rescore.wer import evaluate

ROOT = Path(__file__).resolve().parents[2]
LETTERS = Vocabulary(small_tokenizer(), librispeech, 128)
BARE = Vocabulary(small_tokenizer(), identity, 128)


def nbest(number, *texts, ref: str | None = "the old house", **scores):
    """One list; a score has a value for each text, None where it is missing."""
    hyps = [
        Hypothesis(
            text, {name: values[i] for name, values in scores.items() if values[i] is not None}
        )
        for i, text in enumerate(texts)
    ]
    return NBest(f"u{number}", tuple(hyps), ref, {}, f"dev.jsonl:{number}")


def clean(count=40):
    """Lists with nothing to say about: a sum of log-probabilities, a best hypothesis that is not the first."""
    lines = [" ".join(LINES[k % 6].split()[: 3 + k % 5]) for k in range(count)]
    return [
        nbest(
            k,
            f"{line} there",
            line,
            f"{line} and when",
            ref=line,
            am=[-9.0 * n, -8.5 * n, -10.0 * n],
        )
        for k, line in enumerate(lines, 1)
        for n in [len(line.split())]
    ]


def changed(*, texts=None, ref=False, **scores):
    """The clean lists with a change in the second."""
    lists = clean()
    old = lists[1]
    hyps = tuple(
        Hypothesis(
            texts[i] if texts else hyp.text, {**hyp.scores, **{k: v[i] for k, v in scores.items()}}
        )
        for i, hyp in enumerate(old.hyps)
    )
    return [
        lists[0],
        NBest(old.id, hyps, old.ref if ref is False else ref, {}, old.where),
        *lists[2:],
    ]


def mapped(change, vocabulary=LETTERS):
    """The clean lists with all hypotheses changed."""
    return [
        NBest(
            one.id, tuple(change(hyp, i) for i, hyp in enumerate(one.hyps)), one.ref, {}, one.where
        )
        for one in clean()
    ], vocabulary


def scored(name, value):
    """The clean lists with another score, value(words, index)."""
    return mapped(
        lambda hyp, i: Hypothesis(hyp.text, {**hyp.scores, name: value(len(hyp.words), i)})
    )


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
    [found] = [finding for finding in findings(check(lists, vocabulary)) if finding.code == code]
    assert (found.level, found.count, found.first) == (FINDINGS[code][0], count, first)
    assert str(found).startswith(f"{found.level}: {code}: ")
    assert str(found).endswith(f" (first: {first})" if first else found.message)


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
    [found] = findings(
        check(
            [
                *clean(),
                nbest(41, "the old there", "the old house", am=[-30.0, -40.0], lm=[-3.0, -4.0]),
            ],
            LETTERS,
        )
    )
    assert (found.code, found.count, found.first) == (
        "score_missing",
        120,
        "dev.jsonl:1: utterance u1, hypothesis 1",
    )
    assert 'score "lm" is missing on 120 of 122 hypotheses' in found.message


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


# --- figures -----------------------------------------------------------------------------------------------------------------------------


def test_figures_by_hand():
    lists = [
        nbest(
            1,
            "The OLD house",
            "THE OLD HOUSE",
            "the 3 <unk>",
            ref="the old house",
            am=[-1.0, -2.0, -6.0],
        ),
        nbest(2, "我们 no", "", ref="我们 no"),
        nbest(3, "no light.", ref=None, am=[-3.0]),
    ]
    found = check(lists, LETTERS)
    assert (found.utterances, found.hypotheses, dict(found.sizes)) == (3, 6, {3: 1, 2: 1, 1: 1})
    assert dict(found.cases) == {"mixed": 1, "upper": 1, "lower": 3, "none": 1}
    assert (found.words, found.longest_words) == (3 + 3 + 3 + 3 + 0 + 2, 3)
    counts = {name: tally.count for name, tally in found.tallies.items()}
    assert counts == {
        "rewritten": 4,
        "alike": 1,
        "digit": 1,
        "punctuation": 2,
        "tag": 1,
        "unspaced": 1,
        "empty": 1,
        "one_hypothesis": 1,
        "no_reference": 1,
        "unknown": 2,
    }
    seen = [librispeech(hyp.text) for one in lists for hyp in one.hyps]
    tokens = small_tokenizer().encode(seen)
    assert found.tokens == sum(map(len, tokens))
    assert found.longest_tokens == max(map(len, tokens))
    assert found.unknown_tokens == sum(row.count(1) for row in tokens) == 2
    assert dict(found.unknown_characters) == {"3": 1, "我": 1, "们": 1}
    raw = small_tokenizer().encode([identity(hyp.text) for one in lists for hyp in one.hyps])
    assert (found.raw_tokens, found.raw_unknown_tokens) == (
        sum(map(len, raw)),
        sum(row.count(1) for row in raw),
    )
    assert (found.as_written.first, found.as_written.oracle, found.as_written.reference_length) == (
        2,
        2,
        5,
    )
    assert (found.normalized.first, found.normalized.oracle, found.references) == (0, 0, 2)
    am = found.scores["am"]
    assert (
        am.count,
        am.low,
        am.median,
        am.high,
        am.missing.count,
        am.lists,
        am.varied,
        am.first_highest,
    ) == (4, -6.0, -3.0, -1.0, 2, 1, 1, 1)


@pytest.mark.parametrize("unit", ["word", "char", "char_nospace", "mixed"])
@pytest.mark.parametrize("vocabulary", [LETTERS, BARE])
def test_errors_are_those_of_eval(unit, vocabulary):
    lists = [
        nbest(1, "The old", "the old house"),
        nbest(2, "no light!", "no light", "", ref="No light"),
        nbest(3, "我 想 book", ref="我想 book"),
    ]
    found = check(lists, vocabulary, unit=unit)
    for rates, normalizer in ((found.as_written, "none"), (found.normalized, "librispeech")):
        result = evaluate(lists, unit=unit, normalizer=normalizer)
        assert (rates.wer, rates.oracle_wer, rates.reference_length) == (
            result.wer,
            result.oracle_wer,
            result.errors.reference_words,
        )


@pytest.mark.parametrize(
    ("scorer", "estimator", "price"),
    [
        ("mdlm", "nelbo", "nelbo"),
        ("mdlm", "pll", "pll"),
        ("usdm", "pll", "one_pass"),
        ("ar", None, "one_pass"),
    ],
)
def test_the_price_is_what_the_scorer_pays(scorer, estimator, price, tmp_path):
    lists = [nbest(1, *LINES[:3], "", "nobody"), nbest(2, " ".join(LINES[:4]))]
    options = ScorerOptions(
        model=str(save_small(tmp_path / scorer, scorer)),
        estimator=estimator,
        draws=3 if estimator == "nelbo" else None,
        window=16,
    )
    paid = sum(score.evaluations for score in load_scorer(scorer, options).score(lists))
    found = check(lists, load_vocabulary(scorer, options))
    assert found.tally("over_long").count > 1
    assert summary_json(found, "small", draws=3)["evaluations"][price] == paid


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_medians_and_correlations_are_numpys_or_those_of_a_sample(monkeypatch, size):
    monkeypatch.setattr(counts, "_SAMPLE", min(size, 500))
    random = np.random.default_rng(0)
    values, words = random.normal(-50, 20, 6_000), random.integers(1, 30, 6_000)
    score = counts.ScoreSummary()
    for k, (value, count) in enumerate(zip(values.tolist(), words.tolist(), strict=True)):
        if size > 10 or k < 10:
            score.add(nbest(k, "x", am=[value - 3.0 * count]), "am", [count])
    exact = (values - 3.0 * words)[: score.count]
    if size == 10:
        assert score.median == sorted(exact)[4]
        assert score.length_correlation == pytest.approx(np.corrcoef(exact, words[:10])[0, 1])
    else:
        assert len(score.sample) == len(score.words) == 500
        assert score.median == pytest.approx(
            np.median(exact), abs=6
        )  # standard error of the median of 500: 1.25 x 33 / 22 = 1.9
        assert score.length_correlation == pytest.approx(np.corrcoef(exact, words)[0, 1], abs=0.1)
    assert (score.low, score.high) == (exact.min(), exact.max())


def test_no_list_is_kept():
    seen: list[weakref.ref[NBest]] = []

    def watched():
        for one in (
            nbest(k, "the old", "The new <unk>", "", am=[-1.0, 0.0, None]) for k in range(10)
        ):
            seen.append(weakref.ref(one))
            yield one
            del one
            assert [ref() for ref in seen[:-1]] == [None] * (len(seen) - 1)

    assert check(watched(), LETTERS).utterances == 10


hypotheses = st.builds(
    Hypothesis,
    st.one_of(st.text(max_size=8), st.sampled_from(["", "the old", "The Old.", "我 们", "<unk>"])),
    st.dictionaries(
        st.sampled_from(["am", "lm", "rank"]),
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -1.0])),
    ),
)
any_list = st.builds(
    NBest,
    st.text(min_size=1, max_size=3),
    st.lists(hypotheses, min_size=1, max_size=4).map(tuple),
    st.none() | st.text(max_size=9),
)


@given(st.lists(any_list, max_size=6), st.sampled_from([LETTERS, BARE]))
@settings(max_examples=300, deadline=None)
def test_any_lists_have_a_summary_and_a_json(lists, vocabulary):
    found = check(lists, vocabulary)
    assert all(isinstance(line, str) for line in summary_lines(found, "small"))
    assert json.loads(json.dumps(summary_json(found, "small"), allow_nan=False))["hypotheses"] == sum(
        len(one.hyps) for one in lists
    )


# --- vocabularies ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", ["mdlm", "usdm", "ar"])
@pytest.mark.parametrize("changes", [{}, {"window": 32, "normalizer": "none"}])
def test_the_vocabulary_is_the_scorers(scorer, changes, tmp_path):
    for model in (None, str(save_small(tmp_path / scorer, scorer))):
        options = ScorerOptions(model=model, **changes)
        of_scorer = load_scorer(scorer, options).sequencer.vocabulary
        vocabulary = load_vocabulary(scorer, options)
        assert (vocabulary.normalize, vocabulary.window) == (of_scorer.normalize, of_scorer.window)
        assert vocabulary.tokenizer.serialized == of_scorer.tokenizer.serialized


def test_a_vocabulary_needs_no_weights(tmp_path):
    directory = save_small(tmp_path / "small", "mdlm")
    (directory / "model.safetensors").unlink()
    assert load_vocabulary("mdlm", ScorerOptions(model=str(directory))).window == 128
    with pytest.raises(ModelError, match=r"holds objective 'mdlm', expected 'usdm'"):
        load_vocabulary("usdm", ScorerOptions(model=str(directory)))


def test_a_family_of_another_package_brings_its_vocabulary_and_a_function_has_none(monkeypatch):
    family = ScorerFamily("theirs", build, frozenset({"model"}), vocabulary=lambda _: LETTERS)
    monkeypatch.setattr("rescore.scorers.loading.lookup", lambda *_: family)
    assert load_vocabulary("theirs") is LETTERS
    with pytest.raises(ScoreError, match="--scorer theirs does not read --window; leave it out"):
        load_vocabulary("theirs", ScorerOptions(window=16))
    monkeypatch.setattr("rescore.scorers.loading.lookup", lambda *_: build)
    with pytest.raises(ScoreError, match="--scorer theirs has no tokenizer"):
        load_vocabulary("theirs")


def build(options):
    raise AssertionError("built")


def test_an_unknown_scorer_is_named():
    with pytest.raises(RescoreError, match="scorer 'magic' is unknown"):
        load_vocabulary("magic")


# --- the command -------------------------------------------------------------------------------------------------------------------------


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run `dlmrescore check` in a folder with lists.jsonl."""
    monkeypatch.chdir(tmp_path)

    def call(*argv, lists=None):
        with Path("lists.jsonl").open("w", encoding="utf-8") as file:
            for one in lists or clean():
                file.write(
                    json.dumps(
                        {
                            "id": one.id,
                            "ref": one.ref,
                            "hyps": [{"text": h.text, "scores": dict(h.scores)} for h in one.hyps],
                        }
                    )
                    + "\n"
                )
        monkeypatch.setattr(sys, "argv", ["dlmrescore", "check", "lists.jsonl", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(stopped.value.code, *capsys.readouterr())

    return call


def test_the_command_prints_what_the_page_explains(run):
    done = run()
    assert (done.status, done.err) == (0, "")
    labels = [line.split("  ")[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert labels == ["model", "lists", "texts", "tokens", "evaluations", "errors", "score", "am"]
    assert "lists         40 utterances, 120 hypotheses; in a list 3 to 3, median 3" in done.out
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    assert [f"    {label}" in page for label in labels] == [True] * len(labels)


def test_warnings_fail_only_if_asked_to_and_notes_never(run):
    warned = changed(am=[-40.0, 0.0, -50.0])
    for lists, argv, status in (
        (warned, [], 0),
        (warned, ["--strict"], 1),
        (changed(texts=["", "old", "the"]), ["--strict"], 0),
    ):
        done = run(*argv, lists=lists)
        assert (done.status, done.err) == (status, "")
        assert re.search(
            r"^(warning: score_zero|note: texts_empty): .*\(first: lists\.jsonl:2: utterance u2, hypothesis \d\)$",
            done.out,
            re.MULTILINE,
        )


def test_the_json_holds_the_figures_and_the_findings(run):
    lists = changed(am=[-40.0, 0.0, -50.0])
    done = run("--json", "report.json", "--unit", "char", lists=lists)
    written = json.loads(Path("report.json").read_text())
    assert (
        json.loads(run("--json", "-", "--cer", lists=lists).out) == written
    )  # standard output holds JSON alone
    assert (written["utterances"], written["hypotheses"], written["unit"]) == (40, 120, "char")
    assert [finding["code"] for finding in written["findings"]] == ["score_zero"]
    assert written["scores"]["am"]["zero"] == {
        "count": 1,
        "first": "lists.jsonl:2: utterance u2, hypothesis 2",
    }
    assert written["tokens"] == check(rescore.read("lists.jsonl")).tokens
    assert f"{written['tokens']:,}" in done.out


def test_options_of_score_change_what_the_model_sees(run):
    assert (
        "normaliser none, window 16"
        in run("--normalizer", "none", "--window", 16, "--scorer", "usdm").out
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "nowhere"], "nowhere: no such checkpoint directory"),
        (["--scorer", "mlm"], "--scorer mlm needs --model"),
        (["--refs", "gone.txt"], "gone.txt: cannot be read"),
        (["--json", "lists.jsonl"], "lists.jsonl: is also the input"),
        (["--from", "hyporadise"], "lists.jsonl: "),
    ],
)
def test_bad_input_is_one_line(run, argv, message):
    done = run(*argv)
    assert (done.status, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith(message)


def test_an_unknown_normaliser_is_a_usage_error(run):
    done = run("--normalizer", "magic")
    assert (done.status, "'magic' is not one of" in done.err) == (2, True)


def test_lists_of_no_references_or_scores_have_a_summary():
    [bare] = [nbest(1, "", ref=None)]
    lines = list(summary_lines(check([bare], LETTERS), "small"))
    assert [line for line in lines if line.startswith(("errors", "score"))] == []
    assert summary_json(check([bare], LETTERS), "small")["errors"]["as_written"]["wer"] is None
