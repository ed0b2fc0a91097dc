"""References in three kinds of files, how they join lists, and sclite's trn."""

import gzip
import json
import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError
from rescore.formats.references import join_references, read_references
from rescore.formats.trn import write_reference_trn, write_trn
from rescore.types import Hypothesis, NBest


def save(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def failure(call, *arguments):
    with pytest.raises(FormatError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("text", "u1 a b\nu2\nu-3\tc  d \n\nu4 null\n"),
        ("refs.txt", "\ufeffu1 a b\r\nu2 \r\nu-3 c  d\r\n  \r\nu4 null"),
        ("ref.trn", "a b (u1)\n(u2)\nc  d (u-3) \n\nnull (u4)\n"),
        ("ref.trn.gz", gzip.compress(b"a b(u1)\n  (u2)\nc  d\t( u-3 )\nnull (u4)", mtime=0)),
        (
            "refs.jsonl",
            (
                '{"id": "u1", "ref": "a b"}\n{"id": "u2", "text": ""}\n\n{"id": "u-3", '
                '"ref": "c  d", "text": "x"}\n{"id": "u4", "text": "null"}'
            ),
        ),
        (
            "refs.jsonl.gz",
            gzip.compress(
                b'{"id":"u1","text":"a b"}\n{"id":"u2","ref":""}\n{"id":"u-3","ref":"c  '
                b'd","hyps":[]}\n{"id":"u4","ref":"null"}\n',
                mtime=0,  # the time would be part of the name of the test
            ),
        ),
    ],
)
def test_every_kind_gives_the_same_references(tmp_path, name, text):
    assert read_references(save(tmp_path / name, text)) == {
        "u1": "a b",
        "u2": "",
        "u-3": "c  d",
        "u4": "null",
    }


def test_the_id_is_never_a_word_and_other_spaces_do_not_end_it(tmp_path):
    assert read_references(save(tmp_path / "text", "u\u3000x a\u2028b\n")) == {
        "u\u3000x": "a\u2028b"
    }
    assert read_references(save(tmp_path / "x.trn", "a (b) c (u1)\n")) == {"u1": "a (b) c"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "text",
            "u1 a\nu2 b\nu1 c\n",
            "3: utterance u1: this id was already at PATH:1; keep one of them",
        ),
        (
            "text",
            "u1 a\n b\n",
            "2: the line begins with a space, expected an id and then the words",
        ),
        (
            "text",
            b"u1 a\nu2 \xe9\n",
            (
                "2: not UTF-8 (byte 0xe9 at position 4); "
                "convert the file first, for example with iconv"
            ),
        ),
        ("x.trn", "a (u1)\nb\n", "2: there is no id at the end of the line, expected words (id)"),
        (
            "x.trn",
            "a (u1)\nb (u2) c\n",
            "2: there is no id at the end of the line, expected words (id)",
        ),
        (
            "x.trn",
            "a (u1)\nb ( )\n",
            "2: there is no id at the end of the line, expected words (id)",
        ),
        (
            "x.trn",
            "a (u1)\n(u1)\n",
            "2: utterance u1: this id was already at PATH:1; keep one of them",
        ),
        (
            "x.trn",
            b"\xff (u1)\n",
            (
                "1: not UTF-8 (byte 0xff at position 1); "
                "convert the file first, for example with iconv"
            ),
        ),
        ("x.jsonl", "[]\n", '1: the line is a list, expected an object {"id": ..., "ref": ...}'),
        (
            "x.jsonl",
            "{\n",
            (
                "1: broken JSON: it ends too early (column 2); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
        ("x.jsonl", '{"ref": "a"}\n', '1: "id" is missing, expected a string'),
        (
            "x.jsonl",
            '{"id": "", "ref": "a"}\n',
            '1: "id" is empty, expected a string that names the utterance',
        ),
        ("x.jsonl", '{"id": "u"}\n', '1: utterance u: "ref" is missing, expected a string'),
        (
            "x.jsonl",
            '{"id": "u", "ref": null, "text": "a"}\n',
            '1: utterance u: "ref" is null, expected a string',
        ),
        (
            "x.jsonl",
            '{"id": "u", "text": 1}\n',
            '1: utterance u: "text" is a number (1), expected a string',
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, name, text, expected):
    path = save(tmp_path / name, text)
    assert failure(read_references, path) == f"{path}:{expected.replace('PATH', str(path))}"


S1 = {"id": "s1", "recording_id": "r1", "start": 4.5, "duration": 1.0, "channel": 0, "text": "c  d"}
S2 = {
    "id": "s2",
    "recording_id": "r1",
    "start": 0.5,
    "duration": 1.0,
    "channel": 0,
    "text": "a b",
    "speaker": "x",
}
S3 = {"id": "s3", "recording_id": "r2", "start": 0.0, "duration": 1.0, "channel": 0, "text": ""}
CUT = {
    "id": "cut",
    "start": 100.0,
    "duration": 9.0,
    "channel": 0,
    "supervisions": [S1, S2],
    "recording": {"id": "r1"},
    "type": "MonoCut",
}
ONE = {**CUT, "id": "one", "supervisions": [{**S3, "id": "s4", "text": "x"}]}
NONE = {**CUT, "id": "none", "supervisions": []}
PADDING = {
    "cut": {"id": "pad", "duration": 3.0, "type": "PaddingCut"},
    "type": "PaddingCut",
    "offset": 18.0,
}
MIXED = {
    "id": "mixed",
    "tracks": [
        {"cut": {**CUT, "supervisions": [S1]}, "type": "MonoCut", "offset": 9.0},
        {"cut": ONE, "type": "MonoCut"},
        PADDING,
    ],
    "type": "MixedCut",
}


def jsonl(path, *records):
    return save(path, "".join(json.dumps(record) + "\n" for record in records))


def test_supervisions_of_lhotse_have_the_ids_that_are_asked_for(tmp_path):
    path = jsonl(tmp_path / "supervisions.jsonl", S1, S3, S2)
    assert (
        read_references(path)
        == read_references(path, ids="supervision")
        == {"s1": "c  d", "s2": "a b", "s3": ""}
    )
    assert read_references(path, ids="recording") == {"r1": "a b c  d", "r2": ""}


def test_cuts_of_lhotse_have_the_texts_of_their_supervisions_in_the_order_of_time(tmp_path):
    path = jsonl(tmp_path / "cuts.jsonl", CUT, ONE, NONE)
    assert read_references(path) == {"cut": "a b c  d", "one": "x"}
    assert read_references(path, ids="supervision") == {"s1": "c  d", "s2": "a b", "s4": "x"}
    assert read_references(jsonl(tmp_path / "mixed.jsonl", MIXED)) == {"mixed": "x c  d"}


@pytest.mark.parametrize(
    ("record", "ids", "expected"),
    [
        (
            {**CUT, "supervisions": {}},
            "id",
            '"supervisions" is an object, expected a list of objects',
        ),
        ({**CUT, "supervisions": ["a"]}, "id", '"supervisions" holds values that are not objects'),
        (
            {**CUT, "supervisions": [{"id": "s", "start": 0}]},
            "id",
            'supervision: "text" is missing, expected a string',
        ),
        (
            {**CUT, "supervisions": [{"id": "s", "text": "a"}]},
            "id",
            'supervision: "start" is missing, expected a finite number',
        ),
        (
            {**CUT, "supervisions": [{"text": "a", "start": 0}]},
            "supervision",
            'supervision: "id" is missing, expected a string',
        ),
        ({"id": "cut", "tracks": [{}]}, "id", 'track: "cut" is missing, expected an object'),
        (
            {"id": "cut", "tracks": [{"cut": {}, "offset": "1"}]},
            "id",
            'track: "offset" is a string ("1"), expected a finite number',
        ),
        (
            CUT,
            "recording",
            "a cut has no place in its recording for its texts; give the supervision set",
        ),
        (
            {"id": "cut", "text": "a", "start": 0},
            "recording",
            '"recording_id" is missing, expected a string',
        ),
    ],
)
def test_bad_lines_of_lhotse_are_named(tmp_path, record, ids, expected):
    path = jsonl(tmp_path / "x.jsonl", record)
    text = failure(lambda: read_references(path, ids=ids))
    assert text == f"{path}:1: utterance cut: {expected}"


def test_a_supervision_in_two_cuts_is_named(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", CUT, {**CUT, "id": "cut2"})
    assert (
        failure(lambda: read_references(path, ids="supervision"))
        == f"{path}:2: utterance s1: this id was already at {path}:1; keep one of them"
    )


def test_other_ids_need_a_file_of_lhotse(tmp_path):
    path = save(tmp_path / "text", "u a\n")
    assert (
        failure(lambda: read_references(path, ids="recording"))
        == f'{path}: ids is "recording", which needs a .jsonl file of lhotse'
    )
    assert (
        failure(lambda: read_references(path, ids="x"))
        == f'{path}: ids is "x", expected one of id, supervision, recording'
    )


@pytest.mark.filterwarnings("ignore")
def test_what_lhotse_itself_writes(tmp_path):
    """Compared with lhotse's own view of the same sets (seen with 1.33.0)."""
    lhotse = pytest.importorskip("lhotse", exc_type=ImportError)
    dummies = pytest.importorskip("lhotse.testing.dummies", exc_type=ImportError)
    supervisions = [lhotse.SupervisionSegment.from_dict(record) for record in (S1, S2, S3)]
    lhotse.SupervisionSet.from_segments(supervisions).to_file(tmp_path / "s.jsonl.gz")
    assert read_references(tmp_path / "s.jsonl.gz") == {
        found.id: found.text for found in supervisions
    }
    mono = dummies.dummy_cut(0, start=0, duration=10, supervisions=supervisions[:2])
    other = dummies.dummy_cut(
        1,
        start=0,
        duration=10,
        supervisions=[
            lhotse.SupervisionSegment(id="s9", recording_id="r", start=0.5, duration=1, text="x")
        ],
    )
    mixed = other.append(mono).pad(30).with_id("mixed")
    lhotse.CutSet.from_cuts([mono, mixed]).to_file(tmp_path / "c.jsonl.gz")
    expected = {
        cut.id: " ".join(
            found.text for found in sorted(cut.supervisions, key=lambda found: found.start)
        )
        for cut in (mono, mixed)
    }
    assert (
        read_references(tmp_path / "c.jsonl.gz")
        == expected
        == {mono.id: "a b c  d", "mixed": "x a b c  d"}
    )


def lists(*ids):
    return [
        NBest(utterance, (Hypothesis("a b"), Hypothesis("b")), "old", where=f"x.jsonl:{i}")
        for i, utterance in enumerate(ids, 1)
    ]


def test_references_join_by_id_and_replace_old_ones():
    joined = list(join_references(lists("u2", "u1"), {"u1": "one", "u2": "", "u3": "unused"}))
    assert [(nbest.id, nbest.ref, nbest.where) for nbest in joined] == [
        ("u2", "", "x.jsonl:1"),
        ("u1", "one", "x.jsonl:2"),
    ]


def test_a_list_without_reference_is_named():
    text = failure(lambda: list(join_references(lists("u1", "u2"), {"u1": "a"})))
    assert text == (
        "x.jsonl:2: utterance u2: there is no reference with this id; "
        "give the references of this very set"
    )


def test_trn_has_the_first_hypotheses_or_the_references(tmp_path):
    given = [
        NBest("u1", (Hypothesis(" a \u3000 b\n"), Hypothesis("c")), "a c"),
        NBest("u2", (Hypothesis(""),), ""),
    ]
    assert (
        write_trn(given, tmp_path / "hyp.trn")
        == write_reference_trn(given, tmp_path / "ref.trn")
        == 2
    )
    assert (tmp_path / "hyp.trn").read_text() == "a b (u1)\n(u2)\n"
    assert (tmp_path / "ref.trn").read_text() == "a c (u1)\n(u2)\n"


@pytest.mark.parametrize("utterance", ["a b", "a(b", "a)", "a\tb", "a\nb"])
def test_ids_that_trn_cannot_hold_are_refused(tmp_path, utterance):
    nbest = NBest(utterance, (Hypothesis("a"),), "a", where="x:1")
    for writer in (write_trn, write_reference_trn):
        text = failure(writer, [nbest], tmp_path / "x.trn")
        shown = utterance.replace("\n", "\\n")  # a message is one line
        assert text == (
            f"x:1: utterance {shown}: trn ids cannot hold white space or parentheses; "
            "rename the utterance"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("utterance", ["\u3000", ""])
def test_a_blank_id_is_not_written(tmp_path, utterance):
    nbest = NBest(utterance, (Hypothesis("a"),), "a", where="x:1")
    for writer in (write_trn, write_reference_trn):
        text = failure(writer, [nbest], tmp_path / "x.trn")
        assert text == "x:1: the id is empty; every utterance needs its own"
    assert list(tmp_path.iterdir()) == []


def test_reference_trn_needs_references(tmp_path):
    assert (
        failure(write_reference_trn, [NBest("u", (Hypothesis("a"),))], tmp_path / "x")
        == "utterance u: there is no reference to write"
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


IDS = st.text(st.characters(codec="utf-8", exclude_characters="()"), min_size=1, max_size=8).filter(
    lambda text: not any(c.isspace() for c in text)
)
TEXTS = st.lists(st.sampled_from(["a", "(b)", "null", "é", "日本", "(", "'s"]), max_size=4).map(
    " ".join
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(IDS, TEXTS, max_size=4))
def test_writing_then_reading_is_the_identity(scratch, references):
    given = [NBest(utterance, (Hypothesis(text),), text) for utterance, text in references.items()]
    write_reference_trn(given, scratch / "x.trn")
    (scratch / "text").write_bytes(
        "".join(f"{utterance} {text}\n" for utterance, text in references.items()).encode()
    )
    (scratch / "x.jsonl").write_text(
        "".join(
            json.dumps({"id": utterance, "ref": text}) + "\n"
            for utterance, text in references.items()
        )
    )
    for name in ("x.trn", "text", "x.jsonl"):
        assert read_references(scratch / name) == references


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=30), st.sampled_from(["x.trn", "text", "x.jsonl"]))
def test_random_bytes_give_references_or_a_format_error(scratch, data, name):
    with suppress(FormatError):
        read_references(save(scratch / name, data))


@pytest.mark.skipif(shutil.which("sclite") is None, reason="needs NIST sclite")
def test_sclite_reads_both_files(tmp_path):
    given = [NBest("spk-u1", (Hypothesis("a b"),), "a c"), NBest("spk-u2", (Hypothesis(""),), "d")]
    write_trn(given, tmp_path / "hyp.trn")
    write_reference_trn(given, tmp_path / "ref.trn")
    command = [
        "sclite",
        "-r",
        tmp_path / "ref.trn",
        "trn",
        "-h",
        tmp_path / "hyp.trn",
        "trn",
        "-i",
        "spu_id",
        "-o",
        "sum",
        "stdout",
    ]
    assert "66.7" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
