"""HyPoradise's array: ids and ranks are added, padding duplicates go, older names are read."""

import gzip
import json

import pytest

from rescore.errors import FormatError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.hyporadise import HYPORADISE
from rescore.formats.jsonl import JSONL, encode

ITEM = {
    "instruction": "pick one",
    "input": ["a cat", "the cat", "a cat", "a hat", "the cat"],
    "output": "The cat.",
}


def save(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def read(tmp_path, *items):
    return list(HYPORADISE.read(save(tmp_path / "dev.json", list(items))))


def views(nbest):
    return [(hyp.text, hyp.scores) for hyp in nbest.hyps]


def test_ids_and_ranks_are_made_and_duplicates_removed(tmp_path):
    first, second = read(tmp_path, ITEM, {"input": [""], "output": ""})
    assert (first.id, first.ref, first.where, first.raw) == (
        "dev-000001",
        "The cat.",
        f"{tmp_path}/dev.json: item 1",
        {"instruction": "pick one"},
    )
    assert views(first) == [
        ("a cat", {"rank": 0.0}),
        ("the cat", {"rank": -1.0}),
        ("a hat", {"rank": -3.0}),
    ]
    assert (second.id, second.ref, views(second)) == ("dev-000002", "", [("", {"rank": 0.0})])


@pytest.mark.parametrize(
    ("field", "name"), [("am_score", "am_per_token"), ("score", "first_pass_per_token")]
)
def test_score_lists_follow_the_texts_that_stay(tmp_path, field, name):
    [nbest] = read(tmp_path, {**ITEM, field: [-1, -2.5, -3.5, -4.5, -5.5]})
    assert views(nbest) == [
        ("a cat", {name: -1.0, "rank": 0.0}),
        ("the cat", {name: -2.5, "rank": -1.0}),
        ("a hat", {name: -4.5, "rank": -3.0}),
    ]


def test_an_item_keeps_its_own_id(tmp_path):
    assert [nbest.id for nbest in read(tmp_path, {**ITEM, "id": "g0w033ss"}, ITEM)] == [
        "g0w033ss",
        "dev-000002",
    ]


def test_the_older_names_are_read_where_input_is_missing(tmp_path):
    [nbest] = read(
        tmp_path, {"input1": "a cat.", "input2": "the cat. a .. a cat. u.s.. ", "output": "x"}
    )
    assert views(nbest) == [
        ("a cat", {"rank": 0.0}),
        ("the cat", {"rank": -1.0}),
        ("a .", {"rank": -2.0}),
        ("u.s.", {"rank": -4.0}),
    ]


def test_the_older_names_as_the_generator_writes_them(tmp_path):
    texts = ["a cat", "the cat", "that is 1.5 .", "", "a cat"]
    older = {
        "input1": f"{texts[0]}.",
        "input2": "".join(f"{text}. " for text in texts[1:]),
        "output": "x",
    }
    assert views(read(tmp_path, older)[0]) == views(
        read(tmp_path, {"input": texts, "output": "x"})[0]
    )
    [only] = read(tmp_path, {"input1": "a cat.", "output": "x"})
    assert views(only) == [("a cat", {"rank": 0.0})]
    [two] = read(tmp_path, {"input1": "a cat.", "input2": "the cat.", "output": "x"})
    assert [text for text, _ in views(two)] == ["a cat", "the cat"]
    [both] = read(tmp_path, {**older, "input": ["b"]})
    assert (views(both), both.raw) == ([("b", {"rank": 0.0})], {})


BAD = "utterance bad-000002: "


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ([], ' is a list, expected an object {"input": [...], "output": ...}'),
        ({}, f': {BAD}"input" is missing, expected a list of texts'),
        (
            {"input": "a", "output": "a"},
            f': {BAD}"input" is a string ("a"), expected a list of texts',
        ),
        (
            {"input": [], "output": "a"},
            f': {BAD}"input" is an empty list, expected at least one hypothesis',
        ),
        (
            {"input": ["a", None], "output": "a"},
            ": utterance bad-000002, hypothesis 2 is null, expected a string",
        ),
        ({"input": ["a"]}, f': {BAD}"output" is missing, expected the reference, a string'),
        (
            {"input": ["a"], "output": ["a"]},
            f': {BAD}"output" is a list, expected the reference, a string',
        ),
        ({"input": ["a"], "output": "a", "id": 7}, ': "id" is a number (7), expected a string'),
        (
            {"input": ["a"], "output": "a", "id": ""},
            ': "id" is empty, expected a string that names the utterance',
        ),
        (
            {"input": ["a"], "output": "a", "score": -1},
            f': {BAD}"score" is a number (-1), expected a list of numbers',
        ),
        (
            {"input": ["a"], "output": "a", "score": [1, 2]},
            f': {BAD}"score" has 2 numbers, expected one for each of 1 hypotheses',
        ),
        (
            {"input": ["a", "a"], "output": "a", "am_score": [1, "2"]},
            (
                ': utterance bad-000002, hypothesis 2: "am_score" is a string ("2"), '
                "expected a finite number"
            ),
        ),
        (
            {"input": ["a"], "output": "a", "am_score": [float("nan")]},
            ': utterance bad-000002, hypothesis 1: "am_score" is NaN, expected a finite number',
        ),
        (
            {"input1": "a.", "output": "a", "input2": "b. c. d. e. f. "},
            f': {BAD}"input2" falls into 5 texts at ". ", expected at most 4; list them in "input"',
        ),
        (
            {"input": ["a"], "output": "a", "meta": 1},
            f': {BAD}the field "meta" has a meaning of its own in the native record; rename it',
        ),
        (
            {"input": ["a"], "output": "a", "id": "bad-000001"},
            (
                ": utterance bad-000001: this id was already at FILE: item 1; "
                "every utterance needs its own"
            ),
        ),
    ],
)
def test_bad_items_are_named(tmp_path, item, expected):
    path = save(tmp_path / "bad.json", [ITEM, item])
    with pytest.raises(FormatError) as caught:
        list(HYPORADISE.read(path))
    assert str(caught.value) == f"{path}: item 2{expected.replace('FILE', str(path))}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "there is nothing in it, expected JSON"),
        ("{}", 'the file is an object, expected a list of {"input": [...], "output": ...}'),
        (
            '[\n {"input":',
            (
                "broken JSON: it ends too early (line 2, column 11); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
        ('[\n {"input" 1}]', "broken JSON at line 2, column 11: expecting ':' delimiter"),
        (
            '{"a": 1}\n{"a": 1}\n',
            "more than one JSON value (the second starts at line 2, column 1), expected one",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, content, expected):
    path = save(tmp_path / "bad.json", content)
    with pytest.raises(FormatError) as caught:
        list(HYPORADISE.read(path))
    assert str(caught.value).partition(": ")[::2] == (str(path), expected)


def test_broken_items_can_be_skipped(tmp_path):
    skipped = Skipped()
    path = save(tmp_path / "x.json", [ITEM, {}, ITEM])
    assert [nbest.id for nbest in HYPORADISE.read(path, skipped=skipped)] == [
        "x-000001",
        "x-000003",
    ]
    assert skipped.count == 1


def test_the_content_proves_the_format(tmp_path):
    for name, value in {
        "a": [ITEM],
        "b": [{"input1": "a.", "input2": "b. ", "output": "a"}],
    }.items():
        assert format_of(save(tmp_path / name, value)) is HYPORADISE
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(json.dumps([ITEM] * 3, indent=2).encode()))
    assert [nbest.id for nbest in read_lists(tmp_path / "c.json.gz")] == [
        "c-000001",
        "c-000002",
        "c-000003",
    ]
    with pytest.raises(FormatError, match="does not prove its format"):
        format_of(save(tmp_path / "d", [{"input": "a"}]))


def test_converted_lists_read_back_equal(tmp_path):
    lists = read(tmp_path, ITEM, {**ITEM, "score": [-1.5, -2, -3, -4, -5]})
    JSONL.write(lists, tmp_path / "x.jsonl")
    again = list(JSONL.read(tmp_path / "x.jsonl"))
    assert [(nbest.id, nbest.ref, views(nbest)) for nbest in again] == [
        (nbest.id, nbest.ref, views(nbest)) for nbest in lists
    ]
    assert list(json.loads(encode(lists[0]))) == ["id", "ref", "hyps", "instruction"]
