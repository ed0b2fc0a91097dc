"""JSON lines of any make by a mapping of fields.

Signs, bases, means over tokens, nested fields, parallel lists, pairs and single results.
"""

import json
import math

import pytest

from rescore.errors import FormatError
from rescore.formats import Skipped, read_lists
from rescore.formats.jsonl import JSONL
from rescore.formats.mapped_jsonl import MAPPED_JSONL


def save(path, *records):
    path.write_text(
        "".join(
            f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records
        )
    )
    return path


def read(tmp_path, record, **options):
    [nbest] = MAPPED_JSONL.read(save(tmp_path / "x.jsonl", record), **options)
    JSONL.write(
        [nbest], tmp_path / "native.jsonl"
    )  # whatever is kept has a place in the native record
    return nbest


def hyps(nbest):
    return [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps]


def test_objects_with_costs_and_other_bases(tmp_path):
    record = {
        "audio_filepath": "wav/84-0000.flac",
        "text": "a cat",
        "lang": "en",
        "nbest": [
            {"text": "a cat", "acoustic": -2, "lm_cost": 1.5, "kenlm": -1.0, "start": 0},
            {"text": "", "acoustic": 0.5, "lm_cost": 0, "kenlm": 0},
        ],
    }
    nbest = read(
        tmp_path,
        record,
        id="audio_filepath",
        ref="text",
        scores="am:acoustic,lm:-lm_cost,ngram:log10:kenlm",
    )
    assert (nbest.id, nbest.ref, nbest.raw) == ("wav/84-0000.flac", "a cat", {"lang": "en"})
    assert hyps(nbest) == [
        ("a cat", {"am": -2.0, "lm": -1.5, "ngram": -math.log(10), "rank": 0.0}),
        ("", {"am": 0.5, "lm": 0.0, "ngram": 0.0, "rank": -1.0}),
    ]
    assert [hyp.raw for hyp in nbest.hyps] == [{"start": 0}, {}]
    stem = read(tmp_path, record, id="stem:audio_filepath")
    assert (stem.id, stem.ref, stem.raw) == (
        "84-0000",
        None,
        {"audio_filepath": "wav/84-0000.flac", "text": "a cat", "lang": "en"},
    )


def test_a_mean_over_tokens_becomes_a_sum(tmp_path):
    """openai/whisper: avg_logprob = sum_logprob / (len(tokens) + 1)."""
    whisper = {
        "id": "u",
        "nbest": [
            {"text": " A cat.", "avg_logprob": -0.25, "tokens": [50364, 316, 3857]},
            {"text": "B", "avg_logprob": -0.5, "tokens": []},
        ],
    }
    nbest = read(tmp_path, whisper, scores="am:avg_logprob*tokens+1")
    assert hyps(nbest) == [
        (" A cat.", {"am": -1.0, "rank": 0.0}),
        ("B", {"am": -0.5, "rank": -1.0}),
    ]
    assert nbest.hyps[0].raw == {"tokens": [50364, 316, 3857]}
    counted = {"id": "u", "nbest": [{"text": "a", "mean": -0.5, "n": 4}]}
    assert hyps(read(tmp_path, counted, scores="am:mean*n")) == [("a", {"am": -2.0, "rank": 0.0})]
    assert hyps(read(tmp_path, whisper, scores="am_per_token:avg_logprob"))[0] == (
        " A cat.",
        {"am_per_token": -0.25, "rank": 0.0},
    )


def test_texts_with_parallel_lists_of_scores(tmp_path):
    record = {"key": 17, "out": {"texts": ["a", "b"], "scores": [-3, -1], "model": "x"}}
    nbest = read(tmp_path, record, id="key", hyps="out.texts", scores="am:.out.scores")
    assert (nbest.id, nbest.raw) == ("17", {"out": {"model": "x"}})
    assert hyps(nbest) == [("a", {"am": -3.0, "rank": 0.0}), ("b", {"am": -1.0, "rank": -1.0})]
    ordered = read(
        tmp_path, record, id="key", hyps="out.texts", scores="am:.out.scores", order="am"
    )
    assert hyps(ordered) == [("b", {"am": -1.0, "rank": 0.0}), ("a", {"am": -3.0, "rank": -1.0})]


def test_pairs_have_numbers_for_names(tmp_path):
    nbest = read(
        tmp_path,
        {"id": "u", "beams": [["null", -1.5, {"x": 1}], ["", -2]]},
        hyps="beams",
        text="0",
        scores="am:1",
    )
    assert hyps(nbest) == [("null", {"am": -1.5, "rank": 0.0}), ("", {"am": -2.0, "rank": -1.0})]
    assert [hyp.raw for hyp in nbest.hyps] == [{"2": {"x": 1}}, {}]


def test_records_with_one_result(tmp_path):
    manifest = {
        "audio_filepath": "a.wav",
        "text": "a cat",
        "pred_text": "the cat",
        "duration": 1.5,
        "score": -2,
    }
    nbest = read(
        tmp_path,
        manifest,
        id="stem:audio_filepath",
        ref="text",
        hyps="",
        text="pred_text",
        scores="am:score",
    )
    assert (nbest.id, nbest.ref, hyps(nbest)) == (
        "a",
        "a cat",
        [("the cat", {"am": -2.0, "rank": 0.0})],
    )
    assert (nbest.raw, nbest.hyps[0].raw) == ({"audio_filepath": "a.wav", "duration": 1.5}, {})
    segments = read(
        tmp_path, {"id": "u", "segments": [{"text": "b", "id": 3}]}, hyps="", text="segments.0.text"
    )
    assert hyps(segments) == [("b", {"rank": 0.0})]
    assert hyps(read(tmp_path, {"id": "u", "prediction": "c"}, hyps="prediction")) == [
        ("c", {"rank": 0.0})
    ]


def test_ids_are_made_where_there_is_none_and_a_rank_of_its_own_stays(tmp_path):
    path = save(tmp_path / "out.jsonl", {"nbest": ["a"]}, "", {"nbest": [{"text": "b", "pos": 7}]})
    assert [nbest.id for nbest in read_lists(path, "mapped-jsonl", id="")] == [
        "out-000001",
        "out-000003",
    ]
    nbest = read(tmp_path, {"id": "u", "nbest": [{"text": "b", "rank": 7}]}, scores="rank")
    assert hyps(nbest) == [("b", {"rank": 7.0})]


def test_a_reference_may_be_null(tmp_path):
    assert read(tmp_path, {"id": "u", "gold": None, "nbest": ["a"]}, ref="gold").ref is None
    assert read(tmp_path, {"id": "u", "gold": "", "nbest": ["a"]}, ref="gold").ref == ""


@pytest.mark.parametrize(
    ("record", "options", "expected"),
    [
        ([], {}, "the line is a list, expected an object"),
        ({"nbest": ["a"]}, {}, 'the id, "id", is missing, expected a string or an integer'),
        (
            {"id": True, "nbest": ["a"]},
            {},
            'the id, "id", is a boolean (true), expected a string or an integer',
        ),
        (
            {"id": "", "nbest": ["a"]},
            {},
            '"id" is empty, expected a string that names the utterance',
        ),
        (
            {"id": "u"},
            {},
            'utterance u: "nbest" is missing, expected a list of at least one hypothesis',
        ),
        (
            {"id": "u", "nbest": []},
            {},
            'utterance u: "nbest" is an empty list, expected a list of at least one hypothesis',
        ),
        (
            {"id": "u", "nbest": ["a"]},
            {"ref": "gold"},
            'utterance u: "gold" is missing, expected a string or null',
        ),
        (
            {"id": "u", "nbest": [7]},
            {},
            "utterance u, hypothesis 1 is a number (7), expected a string, an object or a list",
        ),
        (
            {"id": "u", "nbest": [{}]},
            {},
            'utterance u, hypothesis 1: "text" is missing, expected a string',
        ),
        (
            {"id": "u", "nbest": [{"text": None}]},
            {},
            'utterance u, hypothesis 1: "text" is null, expected a string',
        ),
        (
            {"id": "u", "nbest": ["a"]},
            {"scores": "am"},
            'utterance u, hypothesis 1: "am" is missing, expected a finite number',
        ),
        (
            {"id": "u", "nbest": [{"text": "a", "am": "1"}]},
            {"scores": "am"},
            'utterance u, hypothesis 1: "am" is a string ("1"), expected a finite number',
        ),
        (
            {"id": "u", "nbest": [{"text": "a", "am": 1e308}]},
            {"scores": "am:log10:am"},
            'utterance u, hypothesis 1: score "am" is infinite, expected a finite number',
        ),
        (
            '{"id": "u", "nbest": [{"text": "a", "am": NaN}]}',
            {"scores": "am"},
            'utterance u, hypothesis 1: "am" is NaN, expected a finite number',
        ),
        (
            {"id": "u", "nbest": [{"text": "", "am": -1, "tokens": []}]},
            {"scores": "am:am*tokens"},
            (
                'utterance u, hypothesis 1: the count of tokens, "tokens", is a list, '
                "expected a number or a list of at least one token"
            ),
        ),
        (
            {"id": "u", "nbest": ["a"], "s": [1, 2]},
            {"scores": "am:.s"},
            'utterance u: "s" has 2 numbers, expected one for each of 1 hypotheses',
        ),
        (
            {"id": "u", "nbest": ["a"]},
            {"scores": "am:.s"},
            'utterance u: "s" is missing, expected a list of numbers',
        ),
        (
            {"id": "u", "nbest": ["a"], "meta": 1},
            {},
            (
                'utterance u: the field "meta" has a meaning of its own in the native record; '
                "rename it"
            ),
        ),
        (
            {"id": "u", "nbest": ["a"]},
            {"id": "nbest.x"},
            'the id, "nbest.x", is missing, expected a string or an integer',
        ),
        (
            "{",
            {},
            (
                "broken JSON: it ends too early (column 2); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, record, options, expected):
    path = save(tmp_path / "x.jsonl", record)
    with pytest.raises(FormatError) as caught:
        list(MAPPED_JSONL.read(path, **options))
    assert str(caught.value) == f"{path}:1: {expected}"
    skipped = Skipped()
    assert list(MAPPED_JSONL.read(path, skipped=skipped, **options)) == []
    assert skipped.count == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"scores": "am:"},
            (
                'scores has "am:", expected ours:[-][log10:]path[*count[+n]], '
                "as in lm:-log10:lm_cost or am:avg_logprob*tokens+1"
            ),
        ),
        (
            {"scores": "am:x*"},
            (
                'scores has "am:x*", expected ours:[-][log10:]path[*count[+n]], '
                "as in lm:-log10:lm_cost or am:avg_logprob*tokens+1"
            ),
        ),
        ({"scores": "am:x,am:y"}, 'scores is "am:x,am:y", expected every name once'),
        (
            {"scores": "am:avg_logprob"},
            (
                'scores has "am:avg_logprob": avg_logprob is a mean over tokens; '
                "give its count (am:avg_logprob*tokens+1) or call it am_per_token"
            ),
        ),
        ({"scores": "am:x", "order": "lm"}, 'order is "lm", expected one of the scores: am'),
        ({"order": "lm"}, 'order is "lm", expected one of the scores: none is given'),
        (
            {"hyps": "", "ref": "text"},
            '"text" cannot be both reference and hypothesis; give ref and text their own fields',
        ),
    ],
)
def test_bad_mappings_are_refused_before_a_line_is_read(tmp_path, options, expected):
    path = save(tmp_path / "x.jsonl", {})
    with pytest.raises(FormatError) as caught:
        MAPPED_JSONL.read(path, **options)
    assert str(caught.value) == f"{path}: {expected}"
