"""NeMo's TSV file of beams with its manifest, and its manifest with beams.

The samples are written as NVIDIA/NeMo writes them: `'{}\\t{}\\n'.format(pred_text, score)` in
scripts/asr_language_modeling/ngram_lm/eval_beamsearch_ngram.py; `item['beams']`, a list of
(text, score), in nemo/collections/asr/parts/utils/transcribe_utils.py, `write_transcription`.
"""

import json

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.nemo import NEMO, NEMO_BEAMS
from rescore.types import Hypothesis, NBest

TSV = "the cat\t-3.25\nthe hat\t-4.5\n\t-1.0\nnull\t-2.0\n"
MANIFEST = [
    {"audio_filepath": "/data/wav/61-70968-0000.wav", "duration": 4.9, "text": "the cat"},
    {"audio_filepath": "wav/61.70968.flac", "duration": 3, "text": ""},
]
BEAMS = [
    {
        **MANIFEST[0],
        "pred_text": "the cat",
        "beams": [["the cat", -3.25], ["the hat", -4.5], ["nan", -9]],
    },
    {"audio_filepath": "b.wav", "pred_text": "", "beams": [["", 0.5]]},
]


def save(path, content):
    path.write_text(
        content
        if isinstance(content, str)
        else "".join(json.dumps(line) + "\n" for line in content),
        encoding="utf-8",
    )
    return path


def views(nbest):
    return nbest.id, nbest.ref, [(hyp.text, hyp.scores) for hyp in nbest.hyps]


def complaint(read, path, **options):
    with pytest.raises(FormatError) as caught:
        list(read(path, **options))
    return str(caught.value).removeprefix(f"{path}")


def test_lines_and_manifest_make_lists(tmp_path):
    first, second = read_lists(
        save(tmp_path / "x.tsv", TSV),
        "nemo",
        beam_size=2,
        manifest=save(tmp_path / "m.json", MANIFEST),
    )
    assert views(first) == (
        "61-70968-0000",
        "the cat",
        [
            ("the cat", {"first_pass": -3.25, "rank": 0.0}),
            ("the hat", {"first_pass": -4.5, "rank": -1.0}),
        ],
    )
    assert (first.raw, first.where) == (
        {"audio_filepath": "/data/wav/61-70968-0000.wav", "duration": 4.9},
        f"{tmp_path}/x.tsv:1",
    )
    assert views(second) == (
        "61.70968",
        "",
        [("", {"first_pass": -1.0, "rank": 0.0}), ("null", {"first_pass": -2.0, "rank": -1.0})],
    )


def test_without_a_manifest_ids_are_numbers(tmp_path):
    lists = list(NEMO.read(save(tmp_path / "x.tsv", TSV), beam_size=4, score="total"))
    assert [
        (nbest.id, nbest.ref, len(nbest.hyps), list(nbest.hyps[0].scores)) for nbest in lists
    ] == [("x-000001", None, 4, ["total", "rank"])]


@pytest.mark.parametrize(("ids", "expected"), [(None, "a"), ("number", "x-000001"), ("utt", "one")])
def test_the_field_of_the_ids(tmp_path, ids, expected):
    manifest = save(
        tmp_path / "m", [{"id": "a", "utt": "one", "audio_filepath": "1.wav", "text": ""}]
    )
    [nbest] = NEMO.read(save(tmp_path / "x.tsv", "a\t1\n"), beam_size=1, manifest=manifest, ids=ids)
    assert nbest.id == expected
    [nbest] = NEMO_BEAMS.read(
        save(tmp_path / "x.json", [{"id": "a", "utt": "one", "beams": [["a", 1]]}]), ids=ids
    )
    assert nbest.id == expected


def test_only_the_last_tab_separates(tmp_path):
    [nbest] = NEMO.read(save(tmp_path / "x.tsv", "a\tb\t-1\n"), beam_size=1)
    assert nbest.hyps[0].text == "a\tb"


ADVICE = (
    "give the beam_size of the search (beams of transducers vary in size: write them to the "
    "manifest) and the manifest of this set"
)


@pytest.mark.parametrize(
    ("content", "beam_size", "entries", "expected"),
    [
        (TSV, 3, 2, f": it has 4 lines, expected a multiple of the beam_size 3; {ADVICE}"),
        (
            TSV,
            2,
            1,
            f":3: there are lines left after 1 lists of 2, all that the manifest has; {ADVICE}",
        ),
        (TSV, 4, 2, f": it ends after 1 lists of 4 lines, but the manifest goes on; {ADVICE}"),
        (
            "a -1\n",
            1,
            1,
            (
                ":1: utterance 61-70968-0000, hypothesis 1: there is no tab in the line, "
                "expected a text, a tab and a score"
            ),
        ),
        (
            "a\tnan\n",
            1,
            1,
            (
                ':1: utterance 61-70968-0000, hypothesis 1: the score is "nan", '
                "expected a finite number"
            ),
        ),
        (
            "a\t\n",
            1,
            1,
            ':1: utterance 61-70968-0000, hypothesis 1: the score is "", expected a finite number',
        ),
        (
            "a\t1\n\n",
            1,
            2,
            (
                ":2: utterance 61.70968, hypothesis 1: there is no tab in the line, "
                "expected a text, a tab and a score"
            ),
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, content, beam_size, entries, expected):
    manifest = save(tmp_path / "m.json", MANIFEST[:entries])
    assert (
        complaint(
            NEMO.read, save(tmp_path / "x.tsv", content), beam_size=beam_size, manifest=manifest
        )
        == expected
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("[]", '1: the line is a list, expected an object {"audio_filepath": ..., "text": ...}'),
        (
            {"text": "a"},
            (
                '1: "audio_filepath" is missing, expected a string that names the utterance (-O '
                "ids=FIELD chooses another, -O ids=number counts)"
            ),
        ),
        (
            {"audio_filepath": "", "text": "a"},
            '1: "id" is empty, expected a string that names the utterance',
        ),
        (
            {"audio_filepath": "a.wav", "text": 1},
            '1: utterance a: "text" is a number (1), expected the reference, a string',
        ),
        (
            {"audio_filepath": "a.wav", "hyps": 1},
            (
                '1: utterance a: the field "hyps" has a meaning of its own in the native record; '
                "rename it"
            ),
        ),
        (
            "{",
            (
                "1: broken JSON: it ends too early (column 2); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
    ],
)
def test_bad_manifests_are_named(tmp_path, entry, expected):
    path = save(tmp_path / "x.tsv", "a\t1\n")
    manifest = save(tmp_path / "m.json", entry if isinstance(entry, str) else [entry])
    assert complaint(NEMO.read, path, beam_size=1, manifest=manifest) == f"{manifest}:{expected}"


def test_broken_lists_can_be_skipped(tmp_path):
    skipped = Skipped()
    path = save(tmp_path / "x.tsv", TSV.replace("-4.5", "x"))
    assert [nbest.id for nbest in NEMO.read(path, beam_size=2, skipped=skipped)] == ["x-000002"]
    assert skipped.count == 1
    path = save(tmp_path / "x.json", [{}, *BEAMS])
    assert [nbest.id for nbest in NEMO_BEAMS.read(path, skipped=skipped)] == ["61-70968-0000", "b"]
    assert skipped.count == 2


def test_the_lines_that_are_written(tmp_path):
    lists = [
        NBest(one, (Hypothesis("a b", {"am": -1.5}), Hypothesis("", {"am": 2.0}))) for one in "xy"
    ]
    assert NEMO.write(lists, tmp_path / "x.tsv", score="am") == 2
    assert (tmp_path / "x.tsv").read_text() == "a b\t-1.5\n\t2.0\n" * 2


@pytest.mark.parametrize(
    ("hyps", "error", "expected"),
    [
        (
            ["a"],
            FormatError,
            (
                "utterance u2: has 1 hypotheses and the first list 2; "
                "this format needs lists of one length, nemo-beams does not"
            ),
        ),
        (
            ["a", "b\tc"],
            FormatError,
            (
                "utterance u2, hypothesis 2: the text holds a tab, "
                "a line break or a byte order mark, which this format cannot; take it out"
            ),
        ),
        (
            ["a", None],
            ScoreError,
            (
                'utterance u2, hypothesis 2: score "first_pass" is missing; '
                "choose one of the scores in the list: none"
            ),
        ),
    ],
)
def test_what_the_lines_cannot_hold_is_refused(tmp_path, hyps, error, expected):
    good = NBest("u1", (Hypothesis("a", {"first_pass": -1.0}),) * 2)
    bad = NBest(
        "u2",
        tuple(
            Hypothesis(text or "", {} if text is None else {"first_pass": -1.0}) for text in hyps
        ),
    )
    with pytest.raises(error) as caught:
        NEMO.write([good, bad], tmp_path / "x.tsv")
    assert str(caught.value) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_with_beams(tmp_path):
    path = save(tmp_path / "x.json", BEAMS)
    assert format_of(path) is NEMO_BEAMS
    first, second = read_lists(path)
    expected = [
        ("the cat", {"first_pass": -3.25, "rank": 0.0}),
        ("the hat", {"first_pass": -4.5, "rank": -1.0}),
        ("nan", {"first_pass": -9.0, "rank": -2.0}),
    ]
    assert views(first) == ("61-70968-0000", "the cat", expected)
    assert (first.raw, first.where) == (
        {"audio_filepath": "/data/wav/61-70968-0000.wav", "duration": 4.9, "pred_text": "the cat"},
        f"{path}:1",
    )
    assert views(second) == ("b", None, [("", {"first_pass": 0.5, "rank": 0.0})])


def test_a_manifest_without_beams_proves_nothing(tmp_path):
    with pytest.raises(FormatError, match="does not prove its format"):
        format_of(save(tmp_path / "x.json", MANIFEST))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"id": "u"}, 'utterance u: "beams" is missing, expected a list [["text", score], ...]'),
        (
            {"id": "u", "beams": []},
            'utterance u: "beams" is an empty list, expected at least one hypothesis',
        ),
        (
            {"id": "u", "beams": ["a"]},
            'utterance u, hypothesis 1 is a string ("a"), expected ["text", score]',
        ),
        (
            {"id": "u", "beams": [["a", 1, 2]]},
            'utterance u, hypothesis 1 is a list of 3, expected ["text", score]',
        ),
        (
            {"id": "u", "beams": [["a", 1], [None, 2]]},
            "utterance u, hypothesis 2: the text is null, expected a string",
        ),
        (
            {"id": "u", "beams": [["a", "1"]]},
            'utterance u, hypothesis 1: the score is a string ("1"), expected a finite number',
        ),
        (
            {"id": "u", "beams": [["a", float("nan")]]},
            "utterance u, hypothesis 1: the score is NaN, expected a finite number",
        ),
    ],
)
def test_bad_beams_are_named(tmp_path, entry, expected):
    assert complaint(NEMO_BEAMS.read, save(tmp_path / "x.json", [entry])) == f":1: {expected}"


def test_a_field_called_text_is_no_reference(tmp_path):
    NEMO_BEAMS.write(
        [NBest("u", (Hypothesis("a", {"first_pass": 1.0}),), raw={"text": "not said", "beams": 1})],
        tmp_path / "x.json",
    )
    assert (tmp_path / "x.json").read_text() == '{"id":"u","beams":[["a",1.0]]}\n'


def test_fields_that_were_read_are_written_again(tmp_path):
    assert (
        NEMO_BEAMS.write(NEMO_BEAMS.read(save(tmp_path / "x.json", BEAMS)), tmp_path / "y.json")
        == 2
    )
    written = [json.loads(line) for line in (tmp_path / "y.json").read_text().splitlines()]
    assert written == [{"id": "61-70968-0000", **BEAMS[0]}, {"id": "b", **BEAMS[1]}]
