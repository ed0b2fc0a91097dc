"""Lhotse itself (1.27.0 and 1.33.0) reads what is written, and what it writes is read."""

import importlib
import json

import pytest
from lhotse_manifests import S1, S2, S3, views

from rescore.formats import read_lists
from rescore.formats.lhotse import read, write
from rescore.types import Hypothesis, NBest


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
