"""`mapped-jsonl` of arrays, maps and tables, references in tables, and the guess of a shape."""

from __future__ import annotations

import json

import pytest

from rescore.errors import FormatError
from rescore.formats import format_of, read_lists
from rescore.formats.references import read_references
from rescore.formats.trn import TRN
from rescore.types import Hypothesis, NBest


def read(path, **options):
    return [
        (nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps])
        for nbest in read_lists(path, "mapped-jsonl", **options)
    ]


EXPECTED = [
    ("u1", "the house", [("a", {"am": -1.5, "rank": -0.0}), ("b", {"am": -2.0, "rank": -1.0})]),
    ("u2", "a lane", [("c", {"am": -3.0, "rank": -0.0})]),
]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("csv", 'utt,ref,text,cost\nu1,the house,a,1.5\nu2,a lane,c,3\nu1,"the house",b,2\n'),
        (
            "tsv",
            "utt\tref\ttext\tcost\nu1\tthe house\ta\t1.5\n\nu1\tthe house\tb\t2\nu2\ta lane\tc\t3",
        ),
        (
            "array",
            json.dumps(
                [
                    {"utt": "u1", "ref": "the house", "nbest": [{"text": "a", "cost": 1.5},
                                                                {"text": "b", "cost": 2}]},
                    {"utt": "u2", "ref": "a lane", "nbest": [{"text": "c", "cost": 3.0}]},
                ]
            ),
        ),
        (
            "map",
            json.dumps(
                {
                    "u1": {"ref": "the house", "nbest": [{"text": "a", "cost": 1.5},
                                                         {"text": "b", "cost": 2}]},
                    "u2": {"ref": "a lane", "nbest": [{"text": "c", "cost": 3}]},
                }
            ),
        ),
    ],
)  # fmt: skip
def test_one_mapping_reads_every_shape(shape, text, tmp_path):
    path = tmp_path / "lists"
    path.write_text(text)
    mapping = {"id": "utt", "ref": "ref", "scores": "am:-cost"}
    assert sorted(read(path, shape=shape, **mapping)) == EXPECTED


def test_a_map_of_ids_to_texts_needs_its_shape_alone(tmp_path):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"u1": ["a", "b"], "u2": "c"}))
    assert read(path, shape="map") == [
        ("u1", None, [("a", {"rank": -0.0}), ("b", {"rank": -1.0})]),
        ("u2", None, [("c", {"rank": -0.0})]),
    ]


def test_rows_without_an_id_are_lists_of_their_own(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,am\na,-1\nb,-2\n")
    assert [(id, len(hyps)) for id, _, hyps in read(path, shape="csv", id="", scores="am")] == [
        ("texts-000002", 1),
        ("texts-000003", 1),
    ]


@pytest.mark.parametrize(
    ("shape", "text", "options", "message"),
    [
        ("csv", "id,text\nu1,a,b\n", {}, ":2: has 3 fields, expected the 2 of the header"),
        ("csv", "id,id\n", {}, ":1: a name stands twice in the header"),
        ("csv", "", {}, ": there is nothing in it, expected a header"),
        ("csv", 'id,text\nu1,"a\n', {}, ":2: not a line of CSV"),
        ("tsv", "utt\ttext\nu1\ta\n", {}, ': there is no column "id" for the ids, it has'),
        ("csv", "id,text,am\nu1,a,x\n", {"scores": "am"}, ':2: "am" is "x", expected a finite nu'),
        ("csv", "id,ref,text\nu1,x,a\nu1,y,a\n", {"ref": "ref"}, 'lines of this id differ in'),
        ("map", "[]", {}, ": the file is a list, expected the shape map; choose another"),
        ("array", '[{"id": "u"}]', {}, ': item 1: utterance u: "nbest" is missing, expect'),
        ("map", '{"u": []}', {}, 'item 1: utterance u: "nbest" is an empty list'),
    ],
)  # fmt: skip
def test_broken_shapes_are_one_line(shape, text, options, message, tmp_path):
    path = tmp_path / "lists"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read(path, shape=shape, **options)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('{"u1": ["a", "b"]}', {"shape": "map"}),
        ('{"u1": {"nbest": ["a"]}, "u2": {"nbest": ["b"]}}', {"shape": "map", "hyps": "nbest"}),
        ('[{"utt": "u1", "texts": ["a"]}]', {"shape": "array", "id": "utt", "hyps": "texts"}),
        ("id,transcript\nu1,a\n", {"shape": "csv", "id": "id", "text": "transcript"}),
        ("utt_id\ttext\nu1\ta\n", {"shape": "tsv", "id": "utt_id"}),
        ('{"audio_filepath": "u1", "nbest": [{"text": "a"}]}\n', {"id": "audio_filepath"}),
    ],
)
def test_the_guess_that_is_shown_reads_the_file(text, options, tmp_path):
    path = tmp_path / "lists.txt"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        format_of(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: its content does not prove its format; it looks like ")
    advice, _, _ = message.partition("; confirm")
    shown = dict(part.split("=", 1) for part in advice.split(" -O ")[1:])
    assert {name: shown[name] for name in options} == options
    assert read(path, **shown)[0][2][0][0] == "a"


def test_what_looks_like_nothing_gets_no_guess(tmp_path):
    path = tmp_path / "lists.txt"
    path.write_text("some words\nof a text\n")
    with pytest.raises(FormatError, match=r"does not prove its format; name it with --from"):
        format_of(path)


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("column", ["ref", "reference", "text", "transcript"])
def test_references_stand_in_tables_too(suffix, delimiter, column, tmp_path):
    path = tmp_path / f"refs.{suffix}"
    rows = [("speaker", "id", column), ("s", "u1", "the house"), ("s", "u2", "")]
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows))
    assert read_references(path) == {"u1": "the house", "u2": ""}
    path.write_text(f"name{delimiter}{column}\nu1{delimiter}a\n")
    with pytest.raises(FormatError, match=r":2: the columns are name, \w+, expected id and one of"):
        read_references(path)


def test_references_go_to_trn(tmp_path):
    lists = [NBest("u1", (Hypothesis("a"),), "the house"), NBest("u2", (Hypothesis("b"),), "")]
    assert TRN.write(lists, tmp_path / "ref.trn", what="ref") == 2
    assert (tmp_path / "ref.trn").read_text() == "the house (u1)\n(u2)\n"
    TRN.write(lists, tmp_path / "hyp.trn")
    assert (tmp_path / "hyp.trn").read_text() == "a (u1)\nb (u2)\n"
