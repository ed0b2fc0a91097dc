"""One utterance as text: aligned, in 80 columns, with what the record holds of its scores."""

import re

import pytest

from rescore.errors import FormatError
from rescore.formats.record import from_dict
from rescore.fusion import Fusion, fuse
from rescore.report.layout import Cell, blocks, clipped, printable, width
from rescore.report.utterance import UtteranceView, utterance_text

RECORD = {
    "id": "u1",
    "ref": "the old house stood",
    "hyps": [
        {
            "text": "an the cold stood",
            "scores": {"am": -3.0, "lm": -9.25},
            "std_errors": {"lm": 0.5},
        },
        {"text": "the old house", "scores": {"am": -3.5, "lm": -7.0}, "std_errors": {"lm": None}},
        {"text": "", "scores": {"am": -9.0, "lm": -7.0}},
    ],
}


def nbest(**changed):
    return from_dict({**RECORD, **changed}, "in.jsonl:1")


def shown(utterance, **view):
    return utterance_text(utterance, UtteranceView(**view))


def test_hypotheses_stand_under_the_reference_with_their_errors_and_scores():
    assert shown(nbest()) == (
        "in.jsonl:1: utterance u1\n"
        "3 hypotheses; the reference has 4 words\n"
        "~ substituted, + inserted, - deleted\n"
        "F first pass, O fewest errors\n"
        "\n"
        "reference errors     the old   house stood\n"
        "1  F           3 +an the ~cold ----- stood\n"
        "2   O          1     the old   house -----\n"
        "3              4     --- ---   ----- -----\n"
        "\n"
        "score      am            lm\n"
        "1  F   -3.000  -9.250 ±0.50\n"
        "2   O  -3.500        -7.000\n"
        "3      -9.000        -7.000\n"
        "\n"
        "am, lm: came with the lists"
    )


def test_a_fused_list_marks_the_winner_and_where_the_first_pass_went():
    [fused] = fuse([nbest()], Fusion({"am": 1.0, "lm": 1.0}), posteriors=True)
    text = shown(fused, count=1)
    assert "W winner of fuse, F first pass, O fewest errors" in text
    assert re.findall(r"^(\d ...).*-.*$", text, re.MULTILINE) == ["1 W O", "2  F "] * 2
    assert re.search(r"^score +am +lm +total +posterior$", text, re.MULTILINE)
    assert "3 hypotheses, 2 of them shown" in text


def test_without_a_reference_the_first_hypothesis_is_what_others_are_aligned_to():
    text = shown(nbest(ref=None))
    assert "no reference: aligned to the first hypothesis" in text
    assert "errors" not in text
    assert re.search(r"^first +an +the +cold +stood$", text, re.MULTILINE)


def test_the_first_pass_and_the_best_are_always_shown():
    hyps = [{"text": f"the old house {word}"} for word in "abcdefgh"]
    hyps[6]["text"] = RECORD["ref"]
    text = shown(nbest(hyps=hyps), count=2)
    assert re.findall(r"^\d(?= .[F ])", text, re.MULTILINE) == ["1", "2", "7"]


def test_characters_are_aligned_where_they_are_counted():
    text = shown(nbest(ref="東京 都", hyps=[{"text": "東京と"}]), unit="char_nospace")
    assert re.search(r"^reference errors 東 京 都 *$", text, re.MULTILINE)
    assert re.search(r"^1  FO +1 東 京 ~と$", text, re.MULTILINE)


def test_texts_are_aligned_after_the_normaliser():
    hyps = [{"text": "THE OLD, house STOOD"}]
    assert re.search(
        r"^1  FO +0 the old house stood$", shown(nbest(hyps=hyps), normalizer="librispeech"), re.M
    )


def test_everything_fits_80_columns():
    word = "x" * 200
    hyps = [
        {
            "text": f"{word} " + "some more words " * 12,
            "scores": {f"score_{n}": -n / 7 for n in range(20)},
        }
    ]
    text = shown(nbest(ref="a reference that is as long as " * 5, hyps=hyps))
    assert max(map(width, text.splitlines())) <= 80
    assert "xx…" in text


def test_tokens_are_shown_where_a_score_has_them():
    hyps = [
        {
            "text": "the old house",
            "scores": {"lm": -3.5},
            "token_scores": {"lm": [["▁the", -1.5], ["▁old", -2.0], ["</s>", -0.001]]},
            "word_confidences": [1, 0.5, 0.25],
        }
    ]
    text = shown(nbest(hyps=hyps), per_token=True)
    assert text.endswith(
        "lm by token, in nats\n"
        "1  FO   ▁the   ▁old  </s>\n"
        "       -1.50  -2.00  0.00\n"
        "\n"
        "confidence by word\n"
        "1  FO   the   old  house\n"
        "       1.00  0.50   0.25"
    )


def test_tokens_that_no_score_has_are_refused():
    with pytest.raises(FormatError, match=r"utterance u1: no score has its tokens; write them"):
        shown(nbest(), per_token=True)


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        ({"token_scores": {"lm": 3}}, r'token_scores of "lm": a number \(3\), expected a list'),
        ({"token_scores": {"lm": [["a"]]}}, "a token is a list, expected"),
        ({"token_scores": {"lm": [["a", "b"]]}}, "the token 'a' is a string"),
        ({"std_errors": {"am": "x"}}, 'the standard error of "am" is a string'),
        ({"posterior": 2}, '"posterior" is 2.0, expected a probability'),
        ({"word_confidences": [1]}, '"word_confidences" are 1, expected 2: one a word'),
        ({"word_confidences": "x"}, '"word_confidences" are a string'),
    ],
)
def test_details_that_cannot_be_read_are_one_line(hypothesis, message):
    record = {
        "text": "a b",
        "scores": {"am": -1.0},
        "token_scores": {"lm": [["a", -1.0]]},
        **hypothesis,
    }
    with pytest.raises(FormatError, match=f"^in.jsonl:1: utterance u1, hypothesis 1: .*{message}"):
        shown(nbest(hyps=[record]), per_token=True)


def test_control_characters_are_escaped():
    text = shown(nbest(ref="a\x1b[31m b", hyps=[{"text": "a\u202e b"}]))
    assert "\x1b" not in text
    assert "a\\x1b[31m" in text
    assert "a\\u202e" in text
    assert printable("क\u200dष") == "क\u200dष"


def test_widths_are_those_of_a_terminal():
    assert [width(text) for text in ("abc", "東京", "e\u0301", "")] == [3, 4, 1, 0]
    assert clipped("東京都", 5) == "東京…"
    assert clipped("abc", 3) == "abc"


def test_only_words_are_painted_and_columns_stay():
    rows = [[Cell("a", "x"), Cell("", "x"), Cell("b")], [Cell("cc"), Cell("d"), Cell("e")]]
    painted = blocks(["1", "2"], rows, paint=lambda text, role: f"<{text}>" if role else text)
    assert painted == ["1 <a>    b", "2 cc d e"]
