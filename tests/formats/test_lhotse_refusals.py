"""Lhotse manifests: what does not fit or is damaged is refused in one line; memory is bounded."""

import json
import random
import tracemalloc

import pytest
from damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse_manifests import CUT, EMPTY, MIXED, S1, S2, S3, failure, listed, manifest, views

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of
from rescore.formats.lhotse import LHOTSE, read, write
from rescore.types import Hypothesis, NBest


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ([], "the line is a list, expected a supervision or a cut of lhotse, an object"),
        ({"recording_id": "r"}, '"id" is missing, expected a string'),
        (
            {"id": "u", "text": "a"},
            (
                'utterance u: "recording_id" is missing, expected a string, '
                "as every supervision of lhotse has it"
            ),
        ),
        (
            {"id": "u", "supervisions": {}},
            'utterance u: "supervisions" is an object, expected a list of objects',
        ),
        ({"id": "u", "tracks": [{}]}, 'utterance u: track: "cut" is missing, expected an object'),
        (
            {**S3, "id": "u", "custom": "x"},
            'utterance u: "custom" is a string ("x"), expected an object',
        ),
        (
            {**S3, "id": "u", "text": 5},
            'utterance u: "text" is a number (5), expected a string or null',
        ),
    ],
)
def test_bad_lines_of_a_manifest_are_named(tmp_path, record, expected):
    path = manifest(tmp_path / "s.jsonl", record)
    assert (
        failure(lambda: write([listed("u", "a")], tmp_path / "out.jsonl", manifest=path))
        == f"{path}:1: {expected}"
    )


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        (None, 'there is no "nbest" in "custom"; if the text is a hypothesis, give what=text'),
        ({"nbest": "a"}, '"nbest" is a string ("a"), expected a list of at least one hypothesis'),
        ({"nbest": []}, '"nbest" is an empty list, expected a list of at least one hypothesis'),
        (
            {"nbest": [{"text": "a"}, {"scores": {}}]},
            ', hypothesis 2: "text" is missing, expected a string',
        ),
        (
            {"nbest": [{"text": "a", "scores": {"am": "x"}}]},
            ', hypothesis 1: score "am" is a string ("x"), expected a finite number',
        ),
        ({"nbest": [{"text": "a"}], "nbest_meta": 5}, '"meta" is a number (5), expected an object'),
        (
            {"nbest": [{"text": "a"}], "ref_text": "b"},
            (
                'the text is a hypothesis, but not the first of "nbest"; '
                "say which to read, what=text or what=nbest"
            ),
        ),
    ],
)
def test_bad_lists_in_a_manifest_are_named_and_can_be_skipped(tmp_path, custom, expected):
    good = {**S2, "custom": {"nbest": [{"text": "a"}]}}
    path = manifest(tmp_path / "s.jsonl", good, {**S1, "custom": custom})
    joint = "" if expected.startswith(",") else ": "
    assert failure(lambda: list(read(path))) == f"{path}:2: utterance s1{joint}{expected}"
    skipped = Skipped()
    assert [nbest.id for nbest in read(path, skipped=skipped)] == ["s2"]
    assert skipped.count == 1


def test_where_a_text_and_lists_could_be_meant_the_reader_is_told(tmp_path):
    path = manifest(
        tmp_path / "s.jsonl",
        {**S1, "text": "b", "custom": {"nbest": [{"text": "a"}, {"text": "b"}], "ref_text": "r"}},
    )
    assert views(read(path, what="nbest")) == [("s1", "r", [("a", {}), ("b", {})])]
    assert views(read(path, what="text")) == [("s1", "r", [("b", {})])]
    path = manifest(tmp_path / "s.jsonl", S1)
    assert views(read(path, what="text")) == [("s1", None, [("c  d", {})])]


def test_ids_that_come_twice_are_named_across_lines_and_in_one_cut(tmp_path):
    one = {**S1, "custom": {"nbest": [{"text": "a"}]}}
    path = manifest(tmp_path / "s.jsonl", one, one)
    assert (
        failure(lambda: list(read(path)))
        == f"{path}:2: utterance s1: this id was already at {path}:1; every utterance needs its own"
    )
    path = manifest(tmp_path / "c.jsonl", {**CUT, "supervisions": [one, one]})
    expected = (
        f"{path}:1: utterance s1: two supervisions of the cut have this id; "
        "every utterance needs its own"
    )
    assert failure(lambda: list(read(path, ids="supervision"))) == expected


def test_unknown_values_and_scores_that_are_not_finite_are_refused(tmp_path):
    path = manifest(tmp_path / "s.jsonl", S1)
    assert (
        failure(lambda: read(path, what="x"))
        == f'{path}: what is "x", expected one of auto, nbest, text'
    )
    for option, known in (
        ("what", "text, nbest"),
        ("ids", "id, supervision, recording"),
        ("missing", "stop, drop"),
    ):
        text = failure(
            lambda option=option: write([], tmp_path / "out", manifest=path, **{option: "x"})
        )
        assert text == f'{tmp_path / "out"}: {option} is "x", expected one of {known}'
    with pytest.raises(ScoreError, match='score "am" is NaN'):
        write(
            [NBest("s1", (Hypothesis("a", {"am": float("nan")}),))],
            tmp_path / "out",
            manifest=path,
            what="nbest",
        )


def test_only_a_manifest_with_lists_or_rescored_texts_proves_itself(tmp_path):
    lists = {"nbest": [{"text": "a"}]}
    for record in (
        {**S1, "custom": lists},
        {**S1, "custom": {"ref_text": None}},
        {**CUT, "supervisions": [{**S1, "custom": lists}]},
    ):
        assert format_of(manifest(tmp_path / "x", record)) is LHOTSE
    for record in (
        S1,
        CUT,
        EMPTY,
        {"id": "u", "custom": lists},
        {**S1, "custom": {"nbest": ["a"]}},
        {**S1, "custom": 1},
        {**CUT, "supervisions": [1]},
    ):
        with pytest.raises(FormatError, match="does not prove"):
            format_of(manifest(tmp_path / "x", record))


def test_lists_in_the_order_of_the_manifest_are_not_held(tmp_path):
    """400 lists of 50 hypotheses, 2 MB of JSON, in order and backwards, when all but one wait."""
    names = [f"u{i:05d}" for i in range(400)]
    path = manifest(tmp_path / "s.jsonl", *({**S1, "id": name} for name in names))

    def peak(order):
        lists = (listed(name, *(f"hypothesis {i} of {name}" for i in range(50))) for name in order)
        tracemalloc.start()
        write(lists, tmp_path / "out.jsonl", manifest=path, what="nbest")
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    size = (tmp_path / "out.jsonl").stat().st_size if peak(names) < 6e5 else 0
    assert 1e6 < size < peak(reversed(names)) < 2 * size


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_damaged_manifests_are_filled_or_refused_in_one_line(scratch, number):
    chance = random.Random(number)
    data = "".join(
        json.dumps(record, ensure_ascii=False) + "\n" for record in (CUT, EMPTY, MIXED)
    ).encode()
    (scratch / "c.jsonl").write_bytes(damaged(data, chance))
    options = {
        "what": chance.choice(("text", "nbest")),
        "missing": chance.choice(("stop", "drop")),
        "manifest": scratch / "c.jsonl",
    }
    (scratch / "out.jsonl").unlink(missing_ok=True)
    message, count = "", 0
    try:
        count = write([listed("c1", "a cat"), listed("c2", "")], scratch / "out.jsonl", **options)
    except FormatError as error:
        message = str(error)
    assert (count == 2) == (scratch / "out.jsonl").exists() != bool(message)
    assert count == 0 or sorted(
        nbest.id for nbest in read(scratch / "out.jsonl", what=options["what"])
    ) == ["c1", "c2"]
    assert not message or (str(scratch / "c.jsonl") in message and len(message.splitlines()) == 1)
