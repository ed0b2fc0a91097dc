"""`dlmrescore tune`, `fuse` and `eval`: what they write, what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import (
    BARE,
    RECORDS,
    TEXTS,
    good,
    read,
    refused,
    write,
)

from rescore.fusion import load as load_fusion

pytestmark = pytest.mark.usefixtures("folder")


def test_tune_writes_weights_and_says_what_they_do(dlm, scored):
    done = good(
        dlm(
            "tune",
            "dev.jsonl",
            "--scores",
            "am, ngram,mdlm_nelbo",
            "-o",
            "fusion.json",
            "--cross-validate",
            2,
        )
    )
    assert done.out == ""
    assert re.match(
        (
            r"dev error rate 33\.33 -> \d+\.\d\d, \d+\.\d\d cross-validated \(oracle "
            r"8\.33\); scales: am 1, ngram [\d.e+-]+, mdlm_nelbo "
        ),
        done.err,
    )
    assert len(done.err.splitlines()) == 1
    fusion = json.loads(Path("fusion.json").read_text())
    assert list(fusion["scales"]) == ["am", "ngram", "mdlm_nelbo"]
    assert fusion["scales"]["am"] == 1
    assert set(fusion["signatures"]) == {"mdlm_nelbo"}
    assert (
        fusion["dev"]["utterances"],
        fusion["dev"]["reference_words"],
        fusion["dev"]["folds"],
    ) == (4, 12, 2)
    assert (
        fusion["dev"]["wer"] == fusion["dev"]["oracle_wer"] == 1 / 12
    )  # am + ngram reach the oracle of these lists
    assert fusion["dev"]["first_pass_wer"] == 4 / 12
    assert fusion["dev"]["cross_validated_wer"] >= 1 / 12
    assert (
        json.loads(
            good(
                dlm("tune", "dev.jsonl", "--scores", "am,ngram,mdlm_nelbo", "--cross-validate", 2)
            ).out
        )
        == fusion
    )


def test_tune_has_the_rank_without_being_given_one_and_a_bonus_only_if_wanted(dlm):
    write(
        "bare.jsonl",
        [{**record, "ref": ref} for record, (_, ref, _) in zip(BARE, TEXTS, strict=True)],
    )
    fusion = json.loads(good(dlm("tune", "bare.jsonl", "--scores", "rank", "--no-word-bonus")).out)
    assert (fusion["scales"], fusion["word_bonus"]) == ({"rank": 1.0}, 0.0)
    assert fusion["dev"]["wer"] == fusion["dev"]["first_pass_wer"]


def test_fuse_puts_the_winner_first_with_totals(dlm):
    write("in.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1, "ngram": 0.5}, "word_bonus": 0.25}])
    done = good(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl", "--trn", "hyp.trn")
    )
    assert (done.out, done.err) == ("", "")
    assert [record["hyps"][0]["text"] for record in read("best.jsonl")] == [
        "the old house",
        "she wrote a letter",
        "no light",
        "we walk along",
    ]
    assert (
        Path("hyp.trn").read_text()
        == "the old house (u1)\nshe wrote a letter (u2)\nno light (u3)\nwe walk along (u4)\n"
    )
    for record, original in zip(read("best.jsonl"), RECORDS, strict=True):
        totals = [hyp["scores"].pop("total") for hyp in record["hyps"]]
        assert totals == [
            h["scores"]["am"] + 0.5 * h["scores"]["ngram"] + 0.25 * len(h["text"].split())
            for h in record["hyps"]
        ]
        assert totals == sorted(totals, reverse=True)
        assert sorted(record["hyps"], key=str) == sorted(original["hyps"], key=str)
        assert {key: record[key] for key in original if key != "hyps"} == {
            key: original[key] for key in original if key != "hyps"
        }


def test_mbr_may_choose_another_winner_than_map(dlm):
    hyps = [
        {"text": text, "scores": {"am": am}}
        for text, am in (("a b c", 0.0), ("x y z", -0.2), ("x y w", -0.2))
    ]
    write("in.jsonl", [{"id": "a", "hyps": hyps}])
    write("fusion.json", [{"scales": {"am": 1}}])
    for options, winner in (
        ([], "a b c"),
        (["--decision", "mbr"], "x y z"),
        (["--decision", "mbr", "--temperature", 0.01], "a b c"),
    ):
        [record] = good(dlm("fuse", "in.jsonl", "--fusion", "fusion.json", *options)).records
        assert record["hyps"][0]["text"] == winner
        assert len(record["hyps"]) == 3


def test_fuse_writes_posteriors_with_the_tuned_temperature(dlm):
    write("dev.jsonl", RECORDS)
    assert (
        "temperature"
        in good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json")).err
    )
    good(dlm("fuse", "dev.jsonl", "--fusion", "fusion.json", "--posterior", "-o", "best.jsonl"))
    tuned = json.loads(Path("fusion.json").read_text())["temperature"]
    for record in read("best.jsonl"):
        assert record["meta"]["scores"]["total"]["temperature"] == tuned
        assert sum(hyp["posterior"] for hyp in record["hyps"]) == pytest.approx(1.0)
        assert ["word_confidences" in hyp for hyp in record["hyps"]] == [True] + [False] * (
            len(record["hyps"]) - 1
        )
        assert len(record["hyps"][0]["word_confidences"]) == len(record["hyps"][0]["text"].split())
    good(dlm("fuse", "best.jsonl", "--fusion", "fusion.json", "-o", "plain.jsonl"))
    good(dlm("fuse", "dev.jsonl", "--fusion", "fusion.json", "-o", "never.jsonl"))
    assert sorted(map(str, read("plain.jsonl"))) == sorted(map(str, read("never.jsonl")))
    [even] = good(
        dlm(
            "fuse",
            write("one.jsonl", RECORDS[:1]),
            "--fusion",
            "fusion.json",
            "--posterior",
            "--temperature",
            1e9,
        )
    ).records
    assert [hyp["posterior"] for hyp in even["hyps"]] == pytest.approx([1 / 3] * 3)


def test_eval_reports_errors_oracle_interval_and_gain(dlm, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json"))
    good(dlm("fuse", "test.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    done = good(dlm("eval", "--json", "best.jsonl", "--baseline", "test.jsonl"))
    assert done.err == ""
    result = json.loads(done.out)
    assert (result["wer"], result["oracle_wer"], result["baseline_wer"], result["utterances"]) == (
        1 / 12,
        1 / 12,
        4 / 12,
        4,
    )
    assert result["errors"] == {
        "substitutions": 1,
        "insertions": 0,
        "deletions": 0,
        "reference_words": 12,
    }
    assert result["oracle_gap_closed"] == 1
    low, high = result["ci95"]
    assert 0 <= low <= 1 / 12 <= high <= 1
    assert 0.9 < result["probability_better"] <= 1
    assert result["tuned_on"] == 0
    done = good(dlm("eval", "best.jsonl", "--baseline", "test.jsonl", "-o", "result.json"))
    assert json.loads(Path("result.json").read_text()) == result
    assert (done.out, done.err) == (
        "",
        good(dlm("eval", "best.jsonl", "--baseline", "test.jsonl")).out,
    )


def test_eval_says_in_words_what_was_gained(dlm, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json"))
    good(dlm("fuse", "test.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    lines = good(dlm("eval", "best.jsonl")).out.splitlines()
    assert lines[0].startswith("WER 8.33 %, 95 % interval ")
    assert lines[0].endswith("(4 utterances, 12 words)")
    assert lines[1:3] == [
        "1 errors: 1 substitutions, 0 insertions, 0 deletions",
        "oracle of the lists: 8.33 %",
    ]
    assert lines[3].startswith(
        "It gains 25.00 points over the first pass (33.33 % to 8.33 %), probability "
    )
    assert lines[4].endswith(" points (95 %), 100 % of the gap to the oracle")
    unchanged = good(dlm("eval", "test.jsonl", "--baseline", "test.jsonl", "--cer")).out
    assert "CER " in unchanged
    assert "It makes as many errors as the baseline (" in unchanged


def test_tune_keeps_what_beats_the_simpler_system_and_says_so(dlm, scored):
    done = good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "--keep", 0.5, "-o", "kept.json"))
    assert "kept: am,ngram" in done.err
    done = good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "--keep", 1, "-o", "none.json"))
    assert "nothing beats the first pass with probability 1" in done.err
    assert load_fusion("none.json").scales == {"rank": 1}


def test_eval_of_a_plain_file_counts_the_first_hypotheses(dlm):
    write("in.jsonl", RECORDS)
    result = json.loads(good(dlm("eval", "--json", "in.jsonl")).out)
    assert (result["wer"], result["oracle_wer"]) == (4 / 12, 1 / 12)
    assert result["errors"] == {
        "substitutions": 2,
        "insertions": 2,
        "deletions": 0,
        "reference_words": 12,
    }
    assert "probability_better" not in result
    by_speaker = json.loads(good(dlm("eval", "--json", "in.jsonl", "--cluster", "speaker")).out)
    assert (by_speaker["clusters"], result["clusters"]) == (2, 4)
    characters = json.loads(good(dlm("eval", "--json", "in.jsonl", "--cer")).out)
    assert characters["errors"]["reference_words"] == sum(len(ref) for _, ref, _ in TEXTS)
    write("loud.jsonl", [{**record, "ref": record["ref"].upper() + "."} for record in RECORDS])
    assert (
        json.loads(good(dlm("eval", "--json", "loud.jsonl", "--normalizer", "librispeech")).out)[
            "wer"
        ]
        == 4 / 12
    )
    assert json.loads(good(dlm("eval", "--json", "loud.jsonl")).out)["wer"] > 0.9


def test_eval_and_tune_count_in_the_unit_that_is_asked_for(dlm):
    write(
        "in.jsonl",
        [
            {
                "id": "a",
                "ref": "我 想 book",
                "hyps": [
                    {"text": "我想 brook", "scores": {"am": -1.0}},
                    {"text": "我想book", "scores": {"am": -2.0}},
                ],
            }
        ],
    )
    counted = {"word": (3, 3), "char": (2, 8), "char_nospace": (1, 6), "mixed": (1, 3)}
    for unit, (errors, length) in counted.items():
        result = json.loads(good(dlm("eval", "--json", "in.jsonl", "--unit", unit)).out)
        assert (result["unit"], result["wer"], result["errors"]["reference_words"]) == (
            unit,
            errors / length,
            length,
        )
        good(dlm("tune", "in.jsonl", "--scores", "am", "--unit", unit, "-o", f"{unit}.json"))
        dev = load_fusion(f"{unit}.json").dev
        assert (dev.unit, dev.first_pass_wer, dev.reference_words) == (
            unit,
            errors / length,
            length,
        )
    assert (
        good(dlm("eval", "--json", "in.jsonl", "--cer")).out
        == good(dlm("eval", "--json", "in.jsonl", "--unit", "char")).out
    )
    good(dlm("tune", "in.jsonl", "--scores", "am", "--cer", "-o", "cer.json"))
    assert Path("cer.json").read_text() == Path("char.json").read_text()
    assert good(dlm("eval", "--json", "in.jsonl", "--cer", "--unit", "char")).err == ""


def test_eval_on_the_utterances_tuned_on_says_so(dlm, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json"))
    write("mixed.jsonl", [*read("dev.jsonl")[:3], *read("test.jsonl")[3:]])
    for name, count in (("dev.jsonl", 4), ("mixed.jsonl", 3), ("test.jsonl", 0)):
        good(dlm("fuse", name, "--fusion", "fusion.json", "-o", f"best.{name}"))
        done = good(dlm("eval", "--json", f"best.{name}", "--baseline", name))
        assert json.loads(done.out)["tuned_on"] == count
        assert bool(done.err) == bool(count)
        assert not count or f"the weights were tuned on {count} of these 4 utterances" in done.err


def test_fuse_refuses_scores_of_another_model_or_setting(dlm, models, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,mdlm_nelbo", "-o", "fusion.json"))
    good(
        dlm(
            "score",
            "test.jsonl",
            "--estimator",
            "nelbo",
            "--draws",
            5,
            "--model",
            models["mdlm"],
            "--overwrite",
            "-o",
            "other.jsonl",
        )
    )
    line = refused(dlm("fuse", "other.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    assert line.startswith(
        'other.jsonl:1: utterance tu1: score "mdlm_nelbo" was made by "mdlm.nelbo|'
    )
    assert "draws=5" in line
    assert "draws=4" in line
    assert not Path("best.jsonl").exists()
    good(dlm("fuse", "test.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
