"""Beam dumps of wav2letter and flashlight: base-10 logs, lines of several threads mixed, WERs."""

import gzip
import math

import pytest

from rescore.errors import FormatError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.wav2letter import WAV2LETTER

# Decode.cpp: sampleId + " | " + to_string(score) + " | " + to_string(amScore) + " | "
#     + to_string(lmScore) + " | " + to_string(wer) + " | " + words + "\n"
DUMP = """\
dev-1 | 101.250000 | 120.500000 | -9.000000 | 0.000000 | a cat
dev-2 | -3.500000 | -2.000000 | -1.000000 | inf | nan | null
dev-1 | 99.000000 | 119.000000 | -10.500000 | 50.000000 |\x20
dev-2 | -4.000000 | -2.500000 | 0.000000 | 0.000000 |\x20
"""


def save(path, text):
    path.write_text(text)
    return path


def test_lines_are_gathered_by_id_and_lm_scores_become_natural_logs(tmp_path):
    path = save(tmp_path / "dev.hyp", DUMP)
    first, second = WAV2LETTER.read(path)
    assert (first.id, first.ref, first.where, second.id, second.where) == (
        "dev-1",
        None,
        f"{path}:1",
        "dev-2",
        f"{path}:2",
    )
    assert [hyp.text for hyp in (*first.hyps, *second.hyps)] == ["a cat", "", "nan | null", ""]
    assert [hyp.raw for hyp in (*first.hyps, *second.hyps)] == [
        {"wer": 0.0},
        {"wer": 50.0},
        {"wer": None},
        {"wer": 0.0},
    ]
    assert dict(first.hyps[1].scores) == {
        "first_pass": 99.0,
        "am": 119.0,
        "lm": -10.5 * math.log(10),
        "rank": -1.0,
    }
    assert dict(second.hyps[0].scores) == {
        "first_pass": -3.5,
        "am": -2.0,
        "lm": -math.log(10),
        "rank": 0.0,
    }


def test_an_lm_that_is_not_of_kenlm_keeps_its_base(tmp_path):
    path = save(tmp_path / "dev.hyp", DUMP)
    assert [
        hyp.scores["lm"]
        for nbest in read_lists(path, "wav2letter", lm_base="e")
        for hyp in nbest.hyps
    ] == [-9.0, -10.5, -1.0, 0.0]
    with pytest.raises(FormatError, match=r'lm_base is "2", expected 10 \(KenLM\) or e$'):
        WAV2LETTER.read(path, lm_base="2")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "u | 1.0 | 2.0 | 3.0 | a b",
            (
                "utterance u, hypothesis 1 has 5 fields, "
                "expected id | decoder score | am score | lm score | wer | text"
            ),
        ),
        (
            "u | 1.0 | nan | 3.0 | 0.0 | a",
            'utterance u, hypothesis 1: the am score is "nan", expected a finite number',
        ),
        (
            "u | 1.0 | 2.0 | 1e308 | 0.0 | a",
            (
                "utterance u, hypothesis 1: the lm score as a natural log is infinite, "
                "expected a finite number"
            ),
        ),
        (
            "u | 1.0 | 2.0 |  | 0.0 | a",
            'utterance u, hypothesis 1: the lm score is "", expected a finite number',
        ),
        (
            "u | 1.0 | 2.0 | 3.0 | x | a",
            'utterance u, hypothesis 1: the wer is "x", expected a finite number',
        ),
        (
            " | 1.0 | 2.0 | 3.0 | 0.0 | a",
            '"id" is empty, expected a string that names the utterance',
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, line, expected):
    path = save(tmp_path / "x", f"{DUMP}{line}\n")
    with pytest.raises(FormatError) as caught:
        list(WAV2LETTER.read(path))
    assert str(caught.value) == f"{path}:5: {expected}"
    skipped = Skipped()
    assert [nbest.id for nbest in WAV2LETTER.read(path, skipped=skipped)] == ["dev-1", "dev-2"]
    assert skipped.count == 1


def test_a_later_bad_line_of_an_utterance_is_named_by_its_own_number(tmp_path):
    path = save(tmp_path / "x", f"{DUMP}dev-1 | x | 1.0 | 1.0 | 0.0 | a\n")
    with pytest.raises(FormatError) as caught:
        list(WAV2LETTER.read(path))
    assert str(caught.value) == (
        f'{path}:5: utterance dev-1, hypothesis 3: the decoder score is "x", '
        "expected a finite number"
    )


def test_the_content_proves_the_format(tmp_path):
    assert format_of(save(tmp_path / "x", DUMP)) is WAV2LETTER
    (tmp_path / "x.gz").write_bytes(gzip.compress(DUMP.encode()))
    assert format_of(tmp_path / "x.gz") is WAV2LETTER
    for text in ("a | b\n", "a | 1 | 2 | 3 | 4 | b\n", "|" * 9):
        with pytest.raises(FormatError, match="does not prove its format"):
            format_of(save(tmp_path / "y", text))
