"""NIST CTM as 1-best lists: words in the order of time, channels apart."""

import pytest

from rescore.errors import FormatError
from rescore.formats import Skipped, read_lists
from rescore.formats.ctm import CTM

LINES = """\
;; NIST's example and Kaldi's
u2 1 0.00 0.25 nan
u1 1 0.70 0.20 cat 0.9
u1 1 0.10 0.20 a NA lex
 u1 1 0.35 0.30 é 1

u1 1 0.35 0.00 <eps> 0.5
"""


def save(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_words_are_joined_in_the_order_of_time(tmp_path):
    path = save(tmp_path / "x.ctm", LINES)
    second, first = CTM.read(path)
    assert (first.id, first.ref, first.where, first.hyps[0].text) == (
        "u1",
        None,
        f"{path}:3",
        "a é <eps> cat",
    )
    assert (second.id, second.where, second.hyps[0].text, second.hyps[0].scores) == (
        "u2",
        f"{path}:2",
        "nan",
        {},
    )
    assert first.hyps[0].raw["words"][0] == {
        "word": "a",
        "start": 0.1,
        "duration": 0.2,
        "confidence": None,
    }
    assert first.hyps[0].raw["words"][3] == {
        "word": "cat",
        "start": 0.7,
        "duration": 0.2,
        "confidence": 0.9,
    }
    assert second.hyps[0].raw == {"words": [{"word": "nan", "start": 0.0, "duration": 0.25}]}


def test_channels_are_utterances_on_request(tmp_path):
    path = save(tmp_path / "x", "f A 0 1 a\nf B 0 1 b\nf A 1 1 c\n")
    assert [
        (nbest.id, nbest.hyps[0].text) for nbest in read_lists(path, "ctm", id="file-channel")
    ] == [("f-A", "a c"), ("f-B", "b")]
    with pytest.raises(FormatError) as caught:
        list(CTM.read(path))
    assert (
        str(caught.value)
        == f"{path}:2: utterance f: the file has channels A and B; give -O id=file-channel"
    )
    with pytest.raises(FormatError, match=r'id is "x", expected one of file, file-channel$'):
        CTM.read(path, id="x")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "u3 1 0.1 0.2",
            "the line has 4 fields, expected file channel start duration word [confidence]",
        ),
        ("u3 1 * * <ALT_BEGIN>", 'the start is "*", expected a finite number'),
        ("u3 1 0 inf a", 'the duration is "inf", expected a finite number'),
        ("u3 1 0 1 a x", 'the confidence is "x", expected a finite number'),
    ],
)
def test_bad_lines_are_named(tmp_path, line, expected):
    path = save(tmp_path / "x", f"{LINES}{line}\n")
    with pytest.raises(FormatError) as caught:
        list(CTM.read(path))
    assert str(caught.value) == f"{path}:8: utterance u3: {expected}"
    skipped = Skipped()
    assert len(list(CTM.read(path, skipped=skipped))) == 2
    assert skipped.count == 1
