"""mlm-scoring's object of objects, in and out."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.mlm_scoring import MLM_SCORING
from rescore.types import Hypothesis, NBest

ENTRY = {
    "hyp_1": {"score": -1, "text": "a cat"},
    "hyp_10": {"score": -10.5, "text": ""},
    "hyp_2": {"score": -2.5, "text": "null"},
    "ref": "a cat",
}


def save(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=1))
    return path


def views(nbest):
    return nbest.id, nbest.ref, [(hyp.text, hyp.scores) for hyp in nbest.hyps]


def test_hypotheses_are_ordered_by_number(tmp_path):
    path = save(
        tmp_path / "x.json",
        {"u1": {**ENTRY, "speaker": "s"}, "u2": {"hyp_1": {"score": 0.5, "text": "b", "start": 3}}},
    )
    first, second = MLM_SCORING.read(path)
    expected = [
        ("a cat", {"first_pass": -1.0, "rank": 0.0}),
        ("null", {"first_pass": -2.5, "rank": -1.0}),
        ("", {"first_pass": -10.5, "rank": -2.0}),
    ]
    assert views(first) == ("u1", "a cat", expected)
    assert (first.raw, first.where) == ({"speaker": "s"}, f"{path}: item 1")
    assert views(second) == ("u2", None, [("b", {"first_pass": 0.5, "rank": 0.0})])
    assert second.hyps[0].raw == {"start": 3}


def test_the_score_has_the_name_it_is_given(tmp_path):
    path = save(tmp_path / "x.json", {"u1": ENTRY})
    for lists in (
        MLM_SCORING.read(path, score="bert"),
        read_lists(path, "mlm-scoring", score="bert"),
        read_lists(path, score="bert"),
    ):
        assert [list(hyp.scores) for hyp in next(lists).hyps] == [["bert", "rank"]] * 3


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            [],
            (
                'utterance u is a list, expected an object {"ref": ..., "hyp_1": {"score": ..., '
                '"text": ...}, ...}'
            ),
        ),
        ({"ref": "a"}, 'utterance u: "hyp_1" is missing, expected at least one hypothesis'),
        ({**ENTRY, "ref": None}, 'utterance u: "ref" is null, expected a string'),
        (
            {**ENTRY, "hyp_2": "a"},
            'utterance u, hyp_2 is a string ("a"), expected an object {"score": ..., "text": ...}',
        ),
        (
            {**ENTRY, "hyp_2": {"text": "a"}},
            'utterance u, hyp_2: "score" is missing, expected a finite number',
        ),
        (
            {**ENTRY, "hyp_2": {"score": None, "text": "a"}},
            'utterance u, hyp_2: "score" is null, expected a finite number',
        ),
        (
            {**ENTRY, "hyp_2": {"score": True, "text": "a"}},
            'utterance u, hyp_2: "score" is a boolean (true), expected a finite number',
        ),
        (
            {**ENTRY, "hyp_2": {"score": math.inf, "text": "a"}},
            'utterance u, hyp_2: "score" is infinite, expected a finite number',
        ),
        (
            {**ENTRY, "hyp_2": {"score": 1}},
            'utterance u, hyp_2: "text" is missing, expected a string',
        ),
        (
            {**ENTRY, "hyp_2": {"score": 1, "text": 2}},
            'utterance u, hyp_2: "text" is a number (2), expected a string',
        ),
        (
            {**ENTRY, "hyps": 2},
            (
                'utterance u: the field "hyps" has a meaning of its own in the native record; '
                "rename it"
            ),
        ),
        (
            {**ENTRY, "hyp_2": {"score": 1, "text": "", "scores": 1}},
            (
                'utterance u, hyp_2: the field "scores" has a meaning of its own in the native '
                "record; rename it"
            ),
        ),
    ],
)
def test_bad_entries_are_named(tmp_path, entry, expected):
    path = save(tmp_path / "x.json", {"good": ENTRY, "u": entry})
    with pytest.raises(FormatError) as caught:
        list(MLM_SCORING.read(path))
    assert str(caught.value) == f"{path}: item 2: {expected}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "[]",
            (
                'the file is a list, expected an object {"<utterance>": {"ref": ..., '
                '"hyp_1": {"score": ..., "text": ...}, ...}}'
            ),
        ),
        ('{"u": {}, "u": {}}', 'the name "u" stands twice in one object; keep one of them'),
        ('{"": {}}', 'item 1: "id" is empty, expected a string that names the utterance'),
        (
            '{"u": {"hyp_1": {"score": 1,\n"text": "a"}',
            (
                "broken JSON: it ends too early (line 2, column 13); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
    ],
)
def test_bad_files_are_named(tmp_path, content, expected):
    path = save(tmp_path / "x.json", content)
    with pytest.raises(FormatError) as caught:
        list(MLM_SCORING.read(path))
    assert str(caught.value) == f"{path}: {expected}"


def test_broken_entries_can_be_skipped(tmp_path):
    skipped = Skipped()
    assert [
        nbest.id
        for nbest in MLM_SCORING.read(save(tmp_path / "x", {"a": {}, "b": ENTRY}), skipped=skipped)
    ] == ["b"]
    assert (skipped.count, len(skipped.messages)) == (1, 1)


def test_the_content_proves_the_format(tmp_path):
    assert format_of(save(tmp_path / "x", {'u "1"': ENTRY})) is MLM_SCORING
    with pytest.raises(FormatError, match="does not prove its format"):
        format_of(save(tmp_path / "y", {"u": {"ref": "a"}}))


def test_writing_needs_the_score_by_name(tmp_path):
    nbest = NBest(
        "u",
        (Hypothesis("a", {"am": -1.0}), Hypothesis("b", {"lm": -1.0, "rank": 0.0})),
        where="x:1",
    )
    with pytest.raises(ScoreError) as caught:
        MLM_SCORING.write([nbest], tmp_path / "x.json", score="am")
    assert str(caught.value) == (
        'x:1: utterance u, hypothesis 2: score "am" is missing; '
        "choose one of the scores in the list: lm, rank"
    )
    assert list(tmp_path.iterdir()) == []


def test_writing_refuses_an_id_that_comes_twice(tmp_path):
    nbest = NBest("u", (Hypothesis("a", {"am": -1.0}),))
    with pytest.raises(
        FormatError,
        match=r"^utterance u: this id was written before; every utterance needs its own$",
    ):
        MLM_SCORING.write([nbest, nbest], tmp_path / "x.json", score="am")


def test_the_layout_is_one_utterance_a_line(tmp_path):
    lists = [
        NBest("u", (Hypothesis("a b", {"am": -1.0}),), "a"),
        NBest("v", (Hypothesis("", {"am": 2.0}),)),
    ]
    assert MLM_SCORING.write(lists, tmp_path / "x.json", score="am") == 2
    text = (
        '{\n"u":{"hyp_1":{"score":-1.0,"text":"a '
        'b"},"ref":"a"},\n"v":{"hyp_1":{"score":2.0,"text":""}}\n}\n'
    )
    assert (tmp_path / "x.json").read_text() == text


TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LISTS = st.builds(
    NBest,
    TEXTS.filter(str.strip),
    st.lists(
        st.builds(Hypothesis, TEXTS, st.fixed_dictionaries({"first_pass": NUMBERS})),
        min_size=1,
        max_size=12,
    ).map(tuple),
    st.none() | TEXTS,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=50, deadline=None)
@given(st.lists(LISTS, max_size=3, unique_by=lambda nbest: nbest.id))
def test_writing_then_reading_is_the_identity(scratch, lists):
    MLM_SCORING.write(lists, scratch / "x.json")
    again = [
        (nbest.id, nbest.ref, [(hyp.text, hyp.scores["first_pass"]) for hyp in nbest.hyps])
        for nbest in MLM_SCORING.read(scratch / "x.json")
    ]
    assert again == [
        (nbest.id, nbest.ref, [(hyp.text, hyp.scores["first_pass"]) for hyp in nbest.hyps])
        for nbest in lists
    ]
