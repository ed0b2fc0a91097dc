"""Named normalisers: Whisper's against OpenAI's own tests (20250625), and without their library."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore import text
from rescore.errors import RescoreError
from rescore.registry import NORMALIZERS
from rescore.text import librispeech, normalizer, whisper_basic, whisper_english

WHISPERS = [
    ("two", "2"),
    ("thirty one", "31"),
    ("nineteen ninety nine", "1999"),
    ("two point five million", "2500000"),
    ("four point two billions", "4200000000s"),
    ("200 thousand dollars", "$200000"),
    ("£77 thousands", "£77000s"),
    ("two double o eight", "2008"),
    ("forty three thousand two hundred and sixty", "43260"),
    ("thirty three thousand and three hundred and thirty third", "33333rd"),
    ("august twenty sixth twenty twenty one", "august 26th 2021"),
    ("3 point 14", "3.14"),
    ("seventy six per cent", "76%"),
    ("one triple oh one", "10001"),
    ("minus 500", "-500"),
    ("two dollars and seventy cents", "$2.70"),
    ("$0.36", "¢36"),
    ("forty eight and a half dollars", "$48.5"),
    ("b747", "b 747"),
    ("mobilisation", "mobilization"),
    ("cancelation", "cancellation"),
    ("Let's", "let us"),
    ("she's been like", "she has been like"),
    ("RC232", "rc 232"),
    ("Mr. Park visited Assoc. Prof. Kim Jr.", "mister park visited associate professor kim junior"),
]


@pytest.mark.parametrize(("said", "expected"), WHISPERS)
def test_whisper_english_gives_openais_examples(said, expected):
    assert whisper_english(said) == expected


@pytest.mark.parametrize("word", ["kinda", "sorta", "dunno", "cause"])
def test_whisper_english_has_no_rules_that_openais_has_not(word):
    """whisper-normalizer expands these four; OpenAI's, which published figures used, does not."""
    assert whisper_english(f"it is {word} so") == f"it is {word} so"


def test_whisper_english_drops_fillers_and_brackets():
    assert (
        whisper_english("Um, [noise] he's (laughs) gonna, uh, colour it.")
        == "he is going to color it"
    )


def test_whisper_basic_keeps_words_of_any_script():
    assert whisper_basic("¿Qué tal, Señor? (risas) [ruido]") == "qué tal señor"
    assert (
        whisper_basic("今天\uff0c天气不错\uff01\uff21\uff22\uff23") == "今天 天气不错 abc"
    )  # full-width letters become plain ones
    assert whisper_basic("नमस्ते") == "नमस त"  # marks are lost, as in Whisper's own figures


@pytest.mark.parametrize("name", sorted(NORMALIZERS))
@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_normalisers_take_any_text_and_leave_single_spaces(name, said):
    done = normalizer(name)(said)
    assert done == " ".join(done.split())


def test_librispeech_lowers_and_drops_punctuation():
    assert (
        librispeech("  It\u2019s OLD, 'tis_said: \u201cyes\u201d; rock-n-roll")
        == "it's old tis said yes rock n roll"
    )


@pytest.mark.parametrize("name", ["whisper-basic", "whisper-english"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(name, monkeypatch):
    text._whisper.cache_clear()
    for module in ("whisper_normalizer", "whisper_normalizer.basic", "whisper_normalizer.english"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RescoreError) as caught:
        normalizer(name)("a")
    assert str(caught.value) == (
        f"the normaliser {name} needs whisper-normalizer; "
        "run, in the folder of dlmrescore's source: pip install '.[whisper]'"
    )
