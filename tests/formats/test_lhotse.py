"""Lhotse manifests: lists and first hypotheses into supervisions and cuts, and back.

Checked by hand and with lhotse itself (1.27.0 and 1.33.0).
"""

import gzip
import importlib
import json
import random
import tracemalloc

import pytest
from click.testing import CliRunner
from damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.cli import cli
from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.lhotse import LHOTSE, read, write
from rescore.formats.references import read_references
from rescore.types import Hypothesis, NBest

S1 = {
    "id": "s1",
    "recording_id": "r1",
    "start": 4.5,
    "duration": 1.0,
    "channel": 0,
    "text": "c  d",
    "speaker": "x",
    "custom": {"dataset": "dev"},
}
S2 = {
    "id": "s2",
    "recording_id": "r2",
    "start": 0.123456789012345678,
    "duration": 1,
    "channel": [0, 1],
    "text": "é 日本",
    "language": "English",
}
S3 = {"id": "s3", "recording_id": "r3", "start": 0.0, "duration": 1.0, "channel": 0}
RECORDING = {
    "id": "r1",
    "sources": [{"type": "file", "channels": [0], "source": "wav/r1.flac"}],
    "sampling_rate": 16000,
    "num_samples": 160000,
}
CUT = {
    "id": "c1",
    "start": 1.0,
    "duration": 9.0,
    "channel": 0,
    "supervisions": [S1],
    "recording": RECORDING,
    "type": "MonoCut",
}
PADDING = {
    "cut": {"id": "pad", "duration": 3.0, "feat_value": -23.0, "type": "PaddingCut"},
    "type": "PaddingCut",
    "offset": 9.0,
}
MIXED = {
    "id": "c2",
    "tracks": [{"cut": {**CUT, "id": "in", "supervisions": [S2]}, "type": "MonoCut"}, PADDING],
    "type": "MixedCut",
}
EMPTY = {**CUT, "id": "none", "supervisions": []}

META = {"scores": {"mdlm": {"signature": "abc", "kind": "pll", "evaluations": 3}}}


def listed(utterance, *texts, meta=False):
    hyps = tuple(
        Hypothesis(text, {"am": -1.5 - i, "mdlm": -2.0}, {"std_errors": {"mdlm": None}})
        for i, text in enumerate(texts)
    )
    return NBest(utterance, hyps, "another", {"meta": META} if meta else {})


def manifest(path, *records):
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def lines(path):
    data = path.read_bytes()
    return [
        json.loads(line)
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    ]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def views(lists):
    return [
        (nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps])
        for nbest in lists
    ]


def failure(call):
    with pytest.raises(FormatError) as caught:
        call()
    return str(caught.value)


def test_first_hypotheses_become_texts_and_the_references_stay_beside_them(tmp_path):
    path = manifest(tmp_path / "s.jsonl.gz", S1, S2, S3)
    lists = [listed("s3", "z", "y"), listed("s1", "a cat"), listed("s2", "")]
    assert write(lists, tmp_path / "out.jsonl.gz", manifest=path) == 3
    expected = [
        {**S1, "text": "a cat", "custom": {"dataset": "dev", "ref_text": "c  d"}},
        {**S2, "text": "", "custom": {"ref_text": "é 日本"}},
        {**S3, "text": "z", "custom": {"ref_text": None}},
    ]
    assert lines(tmp_path / "out.jsonl.gz") == expected
    assert [list(line) for line in lines(tmp_path / "out.jsonl.gz")] == [
        list(line) for line in expected
    ]
    assert views(read(tmp_path / "out.jsonl.gz")) == [
        ("s1", "c  d", [("a cat", {})]),
        ("s2", "é 日本", [("", {})]),
        ("s3", None, [("z", {})]),
    ]


def test_a_second_time_the_reference_is_not_the_first_hypothesis(tmp_path):
    path = manifest(tmp_path / "s.jsonl", S1, S3)
    write([listed("s1", "one"), listed("s3", "one")], tmp_path / "first.jsonl", manifest=path)
    write(
        [listed("s1", "two"), listed("s3", "two")],
        tmp_path / "second.jsonl",
        manifest=tmp_path / "first.jsonl",
    )
    assert [
        (line["text"], line["custom"]["ref_text"]) for line in lines(tmp_path / "second.jsonl")
    ] == [("two", "c  d"), ("two", None)]


def test_references_of_a_rescored_manifest_are_the_references(tmp_path):
    for record, name in ((S1, "s1"), (CUT, "c1")):
        path = manifest(tmp_path / "old.jsonl", record)
        write([listed(name, "wrong words")], tmp_path / "new.jsonl", manifest=path)
        assert read_references(tmp_path / "new.jsonl") == {name: "c  d"}
    write(
        [listed("s3", "wrong words")],
        tmp_path / "new.jsonl",
        manifest=manifest(tmp_path / "old.jsonl", S3),
    )
    assert failure(lambda: read_references(tmp_path / "new.jsonl")).endswith(
        '"ref_text" is null, expected a string'
    )


def test_lists_come_back_whole_with_what_made_their_scores(tmp_path):
    path = manifest(tmp_path / "s.jsonl", S1, S2)
    lists = [listed("s1", "a cat", "a hat", "", meta=True), listed("s2", "é")]
    assert write(lists, tmp_path / "out.jsonl", manifest=path, what="nbest") == 2
    first, second = lines(tmp_path / "out.jsonl")
    assert {**first, "custom": None} == {**S1, "custom": None}
    assert first["custom"]["nbest"][1] == {
        "text": "a hat",
        "scores": {"am": -2.5, "mdlm": -2.0},
        "std_errors": {"mdlm": None},
    }
    assert (first["custom"]["dataset"], first["custom"]["nbest_meta"], list(second["custom"])) == (
        "dev",
        META,
        ["nbest"],
    )
    found = list(read_lists(tmp_path / "out.jsonl"))
    assert [
        (nbest.id, nbest.ref, [(hyp.text, hyp.scores, hyp.raw["std_errors"]) for hyp in nbest.hyps])
        for nbest in found
    ] == [
        (nbest.id, record["text"], [(hyp.text, hyp.scores, {"mdlm": None}) for hyp in nbest.hyps])
        for nbest, record in zip(lists, (S1, S2), strict=True)
    ]
    assert found[0].raw["meta"] == META
    assert (found[0].raw["recording_id"], found[0].raw["custom"], found[1].raw["channel"]) == (
        "r1",
        {"dataset": "dev"},
        [0, 1],
    )
    assert (found[1].raw["start"], "meta" in found[1].raw, "custom" in found[1].raw) == (
        S2["start"],
        False,
        False,
    )


def test_new_lists_replace_older_ones_and_their_meta(tmp_path):
    path = manifest(tmp_path / "s.jsonl", S1)
    write([listed("s1", "old", meta=True)], tmp_path / "first.jsonl", manifest=path, what="nbest")
    write(
        [listed("s1", "new")],
        tmp_path / "second.jsonl",
        manifest=tmp_path / "first.jsonl",
        what="nbest",
    )
    [line] = lines(tmp_path / "second.jsonl")
    assert ([hyp["text"] for hyp in line["custom"]["nbest"]], set(line["custom"])) == (
        ["new"],
        {"dataset", "nbest"},
    )


def test_cuts_go_by_their_own_ids_or_by_those_of_their_supervisions(tmp_path):
    path = manifest(tmp_path / "c.jsonl", CUT, EMPTY, MIXED)
    for ids, names in (("id", ("c1", "c2")), ("supervision", ("s1", "s2"))):
        lists = [listed(name, f"word of {name}") for name in names]
        assert write(lists, tmp_path / "out.jsonl", manifest=path, what="nbest", ids=ids) == 2
        mono, empty, mixed = lines(tmp_path / "out.jsonl")
        assert (
            mono["supervisions"][0]["text"],
            mixed["tracks"][0]["cut"]["supervisions"][0]["text"],
        ) == ("c  d", "é 日本")
        assert (empty, mixed["tracks"][1]) == (EMPTY, PADDING)
        assert {**mono, "supervisions": None} == {**CUT, "supervisions": None}
        found = list(read(tmp_path / "out.jsonl", ids=ids))
        assert views(found) == [
            (name, ref, views([one])[0][2])
            for name, ref, one in zip(names, ("c  d", "é 日本"), lists, strict=True)
        ]
        assert [nbest.raw.get("supervision_id") for nbest in found] == (
            ["s1", "s2"] if ids == "id" else [None, None]
        )


def test_cuts_of_several_supervisions_take_a_list_for_each(tmp_path):
    path = manifest(tmp_path / "c.jsonl", {**CUT, "supervisions": [S1, S2]})
    assert (
        write(
            [listed("s2", "b"), listed("s1", "a")],
            tmp_path / "out.jsonl",
            manifest=path,
            ids="supervision",
        )
        == 2
    )
    assert [found["text"] for found in lines(tmp_path / "out.jsonl")[0]["supervisions"]] == [
        "a",
        "b",
    ]
    assert [nbest.id for nbest in read(tmp_path / "out.jsonl", ids="supervision")] == ["s1", "s2"]
    expected = (
        "utterance c1: the cut has 2 supervisions, and a list belongs to one; "
        "give ids=supervision, or cut.trim_to_supervisions() to lhotse"
    )
    assert (
        failure(lambda: write([listed("c1", "a")], tmp_path / "no.jsonl", manifest=path))
        == f"{path}:1: {expected}"
    )
    assert (
        failure(lambda: list(read(tmp_path / "out.jsonl")))
        == f"{tmp_path / 'out.jsonl'}:1: {expected}"
    )
    assert not (tmp_path / "no.jsonl").exists()


def test_supervisions_go_by_their_recordings_where_those_have_one(tmp_path):
    path = manifest(tmp_path / "s.jsonl", S1, S2)
    assert (
        write(
            [listed("r1", "a"), listed("r2", "b")],
            tmp_path / "out.jsonl",
            manifest=path,
            ids="recording",
        )
        == 2
    )
    assert [nbest.id for nbest in read(tmp_path / "out.jsonl", ids="recording")] == ["r1", "r2"]
    path = manifest(tmp_path / "s.jsonl", S1, {**S2, "recording_id": "r1"})
    expected = (
        f"{path}:2: utterance r1: this id was already at {path}:1, "
        "and a list belongs to one supervision; choose other ids"
    )
    assert (
        failure(
            lambda: write(
                [listed("r1", "a")], tmp_path / "no.jsonl", manifest=path, ids="recording"
            )
        )
        == expected
    )
    path = manifest(tmp_path / "c.jsonl", CUT)
    expected = (
        f"{path}:1: utterance c1: a cut is not a whole recording; "
        "give the supervision set, or ids=id or ids=supervision"
    )
    assert (
        failure(
            lambda: write(
                [listed("r1", "a")], tmp_path / "no.jsonl", manifest=path, ids="recording"
            )
        )
        == expected
    )


def test_what_does_not_join_is_named(tmp_path):
    path, out = manifest(tmp_path / "s.jsonl", S1, S2), tmp_path / "out.jsonl"
    lists = [listed("s1", "a"), listed("s2", "b")]
    expected = (
        f"{path}:2: utterance s2: there is no list with this id; "
        "choose other ids, or leave such lines out with missing=drop"
    )
    assert failure(lambda: write(lists[:1], out, manifest=path)) == expected
    expected = (
        f"utterance s9: {path} has no supervision for this list; "
        "give the manifest of this very set, or choose other ids"
    )
    assert failure(lambda: write([listed("s9", "x"), *lists], out, manifest=path)) == expected
    assert failure(lambda: write([*lists, listed("s9", "x")], out, manifest=path)) == expected
    path = manifest(tmp_path / "c.jsonl", EMPTY)
    assert failure(lambda: write([listed("none", "x")], out, manifest=path)).startswith(
        f"utterance none: {path} has no supervision for this list;"
    )
    path = manifest(tmp_path / "s.jsonl", S1, {**S2, "id": "s1"})
    assert failure(lambda: write(lists, out, manifest=path)).startswith(
        f"{path}:2: utterance s1: this id was already at {path}:1, and"
    )
    path = manifest(tmp_path / "c.jsonl", {**CUT, "supervisions": [S1, S1]})
    assert failure(lambda: write(lists, out, manifest=path, ids="supervision")).startswith(
        f"{path}:1: utterance s1: this id was already at {path}:1, and"
    )
    assert not out.exists()


def test_lines_without_a_list_are_left_out_on_request(tmp_path):
    path, out = manifest(tmp_path / "s.jsonl", S1, S2, S3), tmp_path / "out.jsonl"
    assert write([listed("s2", "b")], out, manifest=path, missing="drop") == 1
    assert [line["id"] for line in lines(out)] == ["s2"]
    path = manifest(tmp_path / "c.jsonl", CUT, EMPTY, MIXED)
    assert write([listed("c2", "b")], out, manifest=path, missing="drop") == 1
    assert [line["id"] for line in lines(out)] == ["c2"]
    path = manifest(tmp_path / "c.jsonl", {**CUT, "supervisions": [S1, S2]})
    expected = (
        f"{path}:1: utterance s1: there is no list with this id; "
        "give lists for all supervisions of a cut or for none"
    )
    assert (
        failure(
            lambda: write(
                [listed("s2", "b")], out, manifest=path, ids="supervision", missing="drop"
            )
        )
        == expected
    )


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


def run(*arguments, status=0):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == status, done.output
    return done.output


def test_the_commands_write_and_evaluate_manifests(tmp_path):
    path = manifest(tmp_path / "sups.jsonl.gz", {**S1, "text": "a b c d"})
    best = tmp_path / "best.jsonl"
    best.write_text(
        '{"id": "s1", "hyps": [{"text": "a b c x", "scores": {"am": -1.0}}, '
        '{"text": "a b c d", "scores": {"am": -2.0}}]}\n'
    )
    for name, options in (("text", ()), ("nbest", ("-W", "what=nbest"))):
        out = tmp_path / f"{name}.jsonl.gz"
        assert "1 utterances" in run(
            "convert", best, "--to", "lhotse", "-W", f"manifest={path}", *options, "-o", out
        )
        result = run("eval", out)
        assert '"wer": 0.25' in result
        assert ('"oracle_wer": 0.0' in result) == (name == "nbest")


def test_the_commands_refuse_what_cannot_be(tmp_path):
    path = manifest(tmp_path / "sups.jsonl", S1)
    best = tmp_path / "best.jsonl"
    best.write_text('{"id": "s1", "hyps": [{"text": "a"}]}\n')
    assert '--to lhotse needs the option "manifest"' in run(
        "convert", best, "--to", "lhotse", "-o", tmp_path / "out", status=2
    )
    assert "expected text or nbest" in run(
        "convert", best, "--to", "lhotse", "-W", f"manifest={path}", "-W", "what=x", status=2
    )
    before = path.read_bytes()
    done = CliRunner().invoke(
        cli, ["convert", str(best), "--to", "lhotse", "-W", f"manifest={path}", "-o", str(path)]
    )
    assert "is also the input" in f"{done.exception}{done.output}"
    assert path.read_bytes() == before


@pytest.fixture
def lhotse():
    pytest.importorskip("lhotse.testing.dummies", exc_type=ImportError)
    return pytest.importorskip("lhotse", exc_type=ImportError)


HYPS = [
    {"text": "a cat", "scores": {"am": -1.5, "mdlm": -2.0}},
    {"text": "", "scores": {"am": -2.5, "mdlm": -2.0}},
]


def plain(utterance):
    return NBest(utterance, tuple(Hypothesis(hyp["text"], hyp["scores"]) for hyp in HYPS))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_lhotse_reads_supervisions_with_lists_and_texts(tmp_path, lhotse, name):
    segments = [
        lhotse.SupervisionSegment.from_dict(json.loads(json.dumps(record)))
        for record in (S1, S2, S3)
    ]
    lhotse.SupervisionSet.from_segments(segments).to_file(tmp_path / name)
    assert (
        write(
            map(plain, ("s1", "s2", "s3")),
            tmp_path / f"nbest-{name}",
            manifest=tmp_path / name,
            what="nbest",
        )
        == 3
    )
    for load in (
        lhotse.SupervisionSet.from_file,
        lhotse.SupervisionSet.from_jsonl,
        lhotse.load_manifest,
        lhotse.load_manifest_lazy,
    ):
        found = list(load(tmp_path / f"nbest-{name}"))
        assert [one.nbest for one in found] == [HYPS] * 3 == [one.custom["nbest"] for one in found]
        for one, segment in zip(found, segments, strict=True):
            one.custom = segment.custom
            assert one == segment
    assert (
        write(map(plain, ("s1", "s2", "s3")), tmp_path / f"text-{name}", manifest=tmp_path / name)
        == 3
    )
    found = list(lhotse.load_manifest(tmp_path / f"text-{name}"))
    assert [(one.text, one.ref_text, one.speaker) for one in found] == [
        ("a cat", segment.text, segment.speaker) for segment in segments
    ]


@pytest.fixture
def cuts(lhotse):
    """A MonoCut, a MultiCut and a MixedCut with one supervision each, and a MonoCut without any."""
    dummies = importlib.import_module("lhotse.testing.dummies")

    def of(record):
        return [lhotse.SupervisionSegment.from_dict(json.loads(json.dumps(record)))]

    mono = dummies.dummy_cut(0, start=0, duration=10, supervisions=of(S1)).with_id("mono")
    multi = dummies.dummy_multi_cut(1, start=0, duration=10, supervisions=of(S2)).with_id("multi")
    mixed = (
        dummies.dummy_cut(2, start=0, duration=10, supervisions=of(S3))
        .append(dummies.dummy_cut(3, start=0, duration=2))
        .pad(30)
        .with_id("mixed")
    )
    return lhotse.CutSet.from_cuts(
        [mono, multi, mixed, dummies.dummy_cut(4, start=0, duration=1).with_id("none")]
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("ids", "names"), [("id", ("mono", "multi", "mixed")), ("supervision", ("s1", "s2", "s3"))]
)
def test_lhotse_reads_cuts_with_lists_and_texts(tmp_path, lhotse, cuts, ids, names):
    cuts.to_file(tmp_path / "c.jsonl.gz")
    assert (
        write(
            map(plain, names),
            tmp_path / "nbest.jsonl.gz",
            manifest=tmp_path / "c.jsonl.gz",
            what="nbest",
            ids=ids,
        )
        == 3
    )
    for load in (
        lhotse.CutSet.from_file,
        lhotse.CutSet.from_jsonl,
        lhotse.load_manifest,
        lhotse.load_manifest_lazy,
    ):
        found = list(load(tmp_path / "nbest.jsonl.gz"))
        assert [[one.nbest for one in cut.supervisions] for cut in found] == [[HYPS]] * 3 + [[]]
        for cut, before in zip(found, cuts, strict=True):
            for one, segment in zip(cut.supervisions, before.supervisions, strict=True):
                assert (one.text, one.start, one.speaker) == (
                    segment.text,
                    segment.start,
                    segment.speaker,
                )
            assert (type(cut), cut.id, cut.duration) == (type(before), before.id, before.duration)
    assert [nbest.id for nbest in read(tmp_path / "nbest.jsonl.gz", ids=ids)] == list(names)
    assert (
        write(
            map(plain, names), tmp_path / "text.jsonl.gz", manifest=tmp_path / "c.jsonl.gz", ids=ids
        )
        == 3
    )
    texts = [
        [(one.text, one.ref_text) for one in cut.supervisions]
        for cut in lhotse.load_manifest(tmp_path / "text.jsonl.gz")
    ]
    assert texts == [[("a cat", "c  d")], [("a cat", "é 日本")], [("a cat", None)], []]


@pytest.mark.filterwarnings("ignore")
def test_what_lhotse_writes_again_is_read_with_references(tmp_path, lhotse, cuts):
    cuts.to_file(tmp_path / "c.jsonl.gz")
    write(
        map(plain, ("mono", "multi", "mixed")),
        tmp_path / "nbest.jsonl.gz",
        manifest=tmp_path / "c.jsonl.gz",
        what="nbest",
    )
    again = lhotse.load_manifest(tmp_path / "nbest.jsonl.gz")
    again.to_file(tmp_path / "again.jsonl.gz")
    expected = [("mono", "c  d"), ("multi", "é 日本"), ("mixed", None)]
    assert views(read_lists(tmp_path / "again.jsonl.gz")) == [
        (name, ref, [(hyp["text"], hyp["scores"]) for hyp in HYPS]) for name, ref in expected
    ]
    segments = [one for cut in again for one in cut.supervisions]
    for one in segments:
        one.custom["nbest"] = [{"text": "of my own"}]
    lhotse.SupervisionSet.from_segments(segments).to_file(tmp_path / "own.jsonl")
    assert views(read_lists(tmp_path / "own.jsonl")) == [
        (f"s{i}", ref, [("of my own", {})]) for i, (_, ref) in enumerate(expected, 1)
    ]
