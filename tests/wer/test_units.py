"""Units of error rates against the Unicode scripts and jiwer."""

import sys
import unicodedata

import jiwer
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from wer_cases import dynamic_programming, nbest, split

from rescore.errors import FormatError
from rescore.wer import UNITS, count_errors, evaluate, reference_length, units

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

#: Scripts as the Unicode database of the package `regex` has them. The marks of kana belong to
#: hiragana and katakana alike.
CJK_SCRIPTS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\u3099-\u309c\u30fc\uff70\uff9e\uff9f]"
)
code_switched = st.text(st.sampled_from("我们ひカ한가ㄅ ab'é。3"), max_size=9)


@pytest.mark.parametrize(("text", "expected"), MIXED)
def test_mixed_units_equal_units_by_hand(text, expected):
    assert units(text, "mixed") == expected


def test_every_character_of_the_cjk_scripts_stands_alone_and_no_other():
    """Checked for all code points that both Unicode databases know.

    A character stands alone if and only if it is cut out of a word.
    """
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
        " ".join(CJK_SCRIPTS.sub(lambda match: f" {match[0]} ", text).split())
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
