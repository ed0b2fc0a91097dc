"""RETURNN's Python literal: scanned, never evaluated; what better_repr prints, old and new."""

import ast
import gzip
import time

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.returnn import RETURNN
from rescore.types import Hypothesis, NBest

# Engine.search: "{\n", then "%r: %s,\n" of tag and better_repr(list of pairs), then "}\n"
OUTPUT = """{
'train/1': [
(-1.5, 'he@@ llo w@@ orld'),
(-2, "it's nan"),
(np.float32(-3.25), ''),
],
"it's": [
(-0.5, '\\u65e5\\xe9 \\\\n \\'q\\''),
],
}
"""


def save(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def views(lists):
    return [(nbest.id, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps]) for nbest in lists]


def test_the_literal_is_read(tmp_path):
    path = save(tmp_path / "search.py", OUTPUT)
    first, second = lists = list(RETURNN.read(path))
    assert views(lists) == [
        (
            "train/1",
            [
                ("he@@ llo w@@ orld", {"first_pass": -1.5, "rank": 0.0}),
                ("it's nan", {"first_pass": -2.0, "rank": -1.0}),
                ("", {"first_pass": -3.25, "rank": -2.0}),
            ],
        ),
        ("it's", [("日é \\n 'q'", {"first_pass": -0.5, "rank": 0.0})]),
    ]
    assert (first.where, second.where) == (f"{path}:2", f"{path}:7")


def test_layout_and_compression_do_not_matter(tmp_path):
    expected = [("u", [("a", {"am": 1.0, "rank": 0.0}), ("b", {"am": 0.5, "rank": -1.0})])]
    for text in (
        "{'u':[(1,'a'),(.5,'b')]}",
        "\n { 'u' : [ (1.0 , 'a' , ) , (5e-1, 'b') , ] , }\n\n",
        "{'u': [(1.0, 'a'),\r\n(0.5, 'b')]}\r\n",
    ):
        assert views(RETURNN.read(save(tmp_path / "x", text), score="am")) == expected
        (tmp_path / "x.py.gz").write_bytes(gzip.compress(text.encode()))
        assert views(read_lists(tmp_path / "x.py.gz", "returnn", score="am")) == expected
    assert views(RETURNN.read(save(tmp_path / "x", "{\n}\n"))) == []


def test_a_file_after_the_decision_has_texts_alone(tmp_path):
    assert views(RETURNN.read(save(tmp_path / "x", "{\n'u': 'a b',\n'v': '',\n}\n"))) == [
        ("u", [("a b", {"rank": 0.0})]),
        ("v", [("", {"rank": 0.0})]),
    ]


@pytest.mark.parametrize(
    ("units", "text", "expected"),
    [
        ("words", "he@@ llo @@", "he@@ llo @@"),
        ("bpe", "he@@ llo wor@@", "hello wor"),
        ("spm", "▁he llo ▁w", "hello w"),
    ],
)
def test_units_are_joined_on_request(tmp_path, units, text, expected):
    [nbest] = RETURNN.read(save(tmp_path / "x", f"{{'u': [(1.0, {text!r})]}}"), units=units)
    assert nbest.hyps[0].text == expected


def test_unknown_units_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r'units is "x", expected one of words, bpe, spm$'):
        RETURNN.read(save(tmp_path / "x", OUTPUT), units="x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ':1: the file ends too early, expected "{"; was it cut off?'),
        ("{'u': [(1.0, 'a')", ':1: the file ends too early, expected ","; was it cut off?'),
        (
            "{'u': [(1.0, 'a'),\n\n",
            ":3: the file ends too early, expected (score, text); was it cut off?",
        ),
        ("[1]", ':1: broken literal at [1], expected "{" of {tag: [(score, text), ...]}'),
        (
            "{1: 'a'}",
            (
                ":1: broken literal at 1: 'a'}, expected a tag, a string, "
                "and a colon of {tag: [(score, text), ...]}"
            ),
        ),
        (
            "{'u': {'out': []}}",
            (
                ":1: broken literal at {'out': []}}, expected a list of (score, "
                "text) or a text of {tag: [(score, text), ...]}"
            ),
        ),
        (
            "{'u': [('a', 1.0)]}",
            (
                ":1: broken literal at ('a', 1.0)]}, expected (score, text) of {tag: [(score, "
                "text), ...]}"
            ),
        ),
        (
            "{'u': [\n(1.0, f('a'))]}",
            (
                ":2: broken literal at (1.0, f('a'))]}, expected (score, text) of {tag: [(score, "
                "text), ...]}"
            ),
        ),
        (
            "{'u': [(1.0, 'a']}",
            (
                ":1: broken literal at (1.0, 'a']}, expected (score, text) of {tag: [(score, "
                "text), ...]}"
            ),
        ),
        (
            "{'u': 'a'}\nx",
            ":2: broken literal at x, expected nothing more of {tag: [(score, text), ...]}",
        ),
        (
            "{'u': 'a' 'b'}",
            ":1: broken literal at 'b'}, expected \",\" of {tag: [(score, text), ...]}",
        ),
        ("{'u': []}", ":1: utterance u: the list is empty, expected at least one hypothesis"),
        ("{'': 'a'}", ':1: "id" is empty, expected a string that names the utterance'),
        (
            "{'u': 'a',\n'u': 'b'}",
            ":2: utterance u: this id was already at FILE:1; every utterance needs its own",
        ),
        (
            "{'u': [(1, 'a'), (float('-inf'), 'b')]}",
            ':1: utterance u, hypothesis 2: the score is "-inf", expected a finite number',
        ),
        (
            "{'u': [(1e999, 'a')]}",
            ':1: utterance u, hypothesis 1: the score is "1e999", expected a finite number',
        ),
        (
            "{'u': [(x.y(2), 'a')]}",
            ':1: utterance u, hypothesis 1: the score is "x.y(2)", expected a finite number',
        ),
        (
            "{'u': [(1, '\\ud800')]}",
            (
                ":1: utterance u, hypothesis 1: the string '\\ud800' holds an escape that is not a "
                "character; write the file again in UTF-8"
            ),
        ),
        (
            "{'u': [(1, '\\U7fffffff')]}",
            (
                ":1: utterance u, hypothesis 1: the string '\\U7fffffff' holds an escape that "
                "is not a "
                "character; write the file again in UTF-8"
            ),
        ),
    ],
)
def test_bad_files_are_named(tmp_path, text, expected):
    path = save(tmp_path / "x", text)
    with pytest.raises(FormatError) as caught:
        list(RETURNN.read(path))
    assert str(caught.value) == f"{path}{expected.replace('FILE', str(path))}"


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "x").write_bytes(b"{'u': '\xe9'}")
    with pytest.raises(FormatError, match=r"x: not UTF-8 \(byte 0xe9 at position 8\)"):
        list(RETURNN.read(tmp_path / "x"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200000,
        "{" * 200000,
        "{'u': [" + "(" * 200000,
        "{'u': [(" + "-" * 200000 + "1, 'a')]}",
        "{'u': [(" + "9" * 200000 + ", 'a')]}",
        "{'u': [(1" + "+1" * 100000 + ", 'a')]}",
        "{'u': '" + "\\x41" * 100000 + "\\",
        "{'u': [(9**9**9, 'a')]}",
        "{'u': [(__import__('os').abort(), 'a')]}",
    ],
)
def test_bombs_are_one_line_at_once(tmp_path, text):
    start = time.monotonic()
    with pytest.raises(FormatError):
        list(RETURNN.read(save(tmp_path / "x", text)))
    assert time.monotonic() - start < 5


def test_broken_lists_can_be_skipped(tmp_path):
    skipped = Skipped()
    text = "{'u': [], 'v': [(1.0, 'a')], 'w': [(float('nan'), 'a')]}"
    assert [nbest.id for nbest in RETURNN.read(save(tmp_path / "x", text), skipped=skipped)] == [
        "v"
    ]
    assert skipped.count == 2


def test_what_is_written_is_the_literal(tmp_path):
    lists = [
        NBest("it's", (Hypothesis('a "b"', {"am": -1.0}), Hypothesis("", {"am": 2.5}))),
        NBest("日本", (Hypothesis("\n\u2028\\", {"am": 0.1}),)),
    ]
    assert RETURNN.write(lists, tmp_path / "x", score="am") == 2
    text = (tmp_path / "x").read_text(encoding="utf-8")
    assert ast.literal_eval(text) == {
        "it's": [(-1.0, 'a "b"'), (2.5, "")],
        "日本": [(0.1, "\n\u2028\\")],
    }
    assert text.startswith("{\n\"it's\": [\n(-1.0, 'a \"b\"'),\n(2.5, ''),\n],\n")
    assert views(RETURNN.read(tmp_path / "x", score="am"))[1] == (
        "日本",
        [("\n\u2028\\", {"am": 0.1, "rank": 0.0})],
    )


def test_writing_needs_the_score_and_ids_of_their_own(tmp_path):
    nbest = NBest("u", (Hypothesis("a", {"am": -1.0}),))
    with pytest.raises(
        ScoreError,
        match=(
            r'^utterance u, hypothesis 1: score "lm" is missing; '
            r"choose one of the scores in the list: am$"
        ),
    ):
        RETURNN.write([nbest], tmp_path / "x", score="lm")
    with pytest.raises(
        FormatError,
        match=r"^utterance u: this id was written before; every utterance needs its own$",
    ):
        RETURNN.write([nbest, nbest], tmp_path / "x", score="am")


def test_the_content_proves_the_format(tmp_path):
    for text in (OUTPUT, "{'u': [(np.float32(-1.5), 'a')]}"):
        assert format_of(save(tmp_path / "x", text)) is RETURNN
    for text in ("{'u': 'a'}", '{"u": [[1.0, "a"]]}', "{"):
        with pytest.raises(FormatError, match="does not prove its format"):
            format_of(save(tmp_path / "y", text))
