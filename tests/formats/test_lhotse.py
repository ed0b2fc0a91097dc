"""Lhotse manifests: lists and first hypotheses into supervisions and cuts, and back."""

from click.testing import CliRunner
from lhotse_manifests import (
    CUT,
    EMPTY,
    META,
    MIXED,
    PADDING,
    S1,
    S2,
    S3,
    failure,
    lines,
    listed,
    manifest,
    views,
)

from rescore.cli import cli
from rescore.formats import read_lists
from rescore.formats.lhotse import read, write
from rescore.formats.references import read_references


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
        result = run("eval", out, "--json")
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
