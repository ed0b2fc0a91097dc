"""The native format: everything that is read is written again, and what is wrong is named."""

import gzip
import json
import math
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, read_lists
from rescore.formats.jsonl import JSONL, encode
from rescore.types import Hypothesis, NBest

GOOD = (
    '{"id": "u1", "ref": "a b", "hyps": [{"text": "a b", "scores": {"am": -1.5, "lm": -2.0}}, '
    '{"text": "a", "scores": {"am": -3.0, "lm": 0.5}}]}'
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def hyps(scores="{}", text='"a"'):
    return f'{{"id": "u", "hyps": [{{"text": "x"}}, {{"text": {text}, "scores": {scores}}}]}}'


def read(tmp_path, content, **options):
    path = tmp_path / "dev.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(JSONL.read(path, **options))


def message(tmp_path, content):
    with pytest.raises(FormatError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{tmp_path}/")


def test_the_typed_view(tmp_path):
    [nbest] = read(tmp_path, GOOD)
    assert (nbest.id, nbest.ref, nbest.where) == ("u1", "a b", f"{tmp_path}/dev.jsonl:1")
    assert [(hyp.text, hyp.scores) for hyp in nbest.hyps] == [
        ("a b", {"am": -1.5, "lm": -2.0}),
        ("a", {"am": -3.0, "lm": 0.5}),
    ]
    assert nbest.raw == json.loads(GOOD)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "{",
            (
                "broken JSON: it ends too early (column 2); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
        (
            GOOD[:-20],
            (
                "broken JSON: it ends too early (column 120); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
        (
            '{"id": "u',
            (
                "broken JSON: it ends too early (column 8); "
                "was the file cut off, or a line broken in two?"
            ),
        ),
        ("{'id': 1}", "broken JSON at column 2: expecting property name enclosed in double quotes"),
        ('{"id" "u"}', "broken JSON at column 7: expecting ':' delimiter"),
        ("hello", "broken JSON at column 1: expecting value"),
        (
            GOOD + " " + GOOD,
            f"more than one JSON value (the second starts at column {len(GOOD) + 2}), expected one",
        ),
        ('{"id": "a\tb"}', "broken JSON at column 10: invalid control character at"),
        ("[" * 100_000, "broken JSON: lists or objects are nested too deeply"),
        ('{"id": "u", "id": "v"}', 'the name "id" stands twice in one object; keep one of them'),
        (
            hyps('{"am": -1.0, "am": -2.0}'),
            'the name "am" stands twice in one object; keep one of them',
        ),
        (
            hyps('{"a:m": -1.0, "a:m": -2.0}', '"10:30"'),
            'the name "a:m" stands twice in one object; keep one of them',
        ),
        (
            '{"id": "\\ud83d", "hyps": [{"text": "a"}]}',
            (
                "broken JSON: it holds half of a surrogate pair (\\ud800 to \\udfff), "
                "which is not a character"
            ),
        ),
        (
            '{"id": "u", "hyps": [{"text": "a"}], "x": [NaN]}',
            (
                "broken JSON: it holds NaN, Infinity or a number too large for a float, "
                "expected finite numbers"
            ),
        ),
        (
            '{"id": "u", "x": ' + "1" * 5000 + "}",
            "broken JSON: it holds an integer of thousands of digits",
        ),
        ("[1, 2]", 'the record is a list, expected an object {"id": ..., "hyps": [...]}'),
        ('"abc"', 'the record is a string ("abc"), expected an object {"id": ..., "hyps": [...]}'),
        ("null", 'the record is null, expected an object {"id": ..., "hyps": [...]}'),
        ('{"hyps": []}', '"id" is missing, expected a string'),
        ('{"id": 5}', '"id" is a number (5), expected a string'),
        ('{"id": null}', '"id" is null, expected a string'),
        ('{"id": ""}', '"id" is empty, expected a string that names the utterance'),
        ('{"id": " "}', '"id" is empty, expected a string that names the utterance'),
        ('{"id": "u"}', 'utterance u: "hyps" is missing, expected a list of hypotheses'),
        (
            '{"id": "u", "hyps": {"text": "a"}}',
            'utterance u: "hyps" is an object, expected a list of hypotheses',
        ),
        (
            '{"id": "u", "hyps": []}',
            'utterance u: "hyps" is an empty list, expected at least one hypothesis',
        ),
        (
            '{"id": "u", "hyps": ["a"]}',
            (
                'utterance u, hypothesis 1 is a string ("a"), expected an object {"text": ..., '
                '"scores": {...}}'
            ),
        ),
        (
            '{"id": "u", "hyps": [{"text": "a"}, {}]}',
            'utterance u, hypothesis 2: "text" is missing, expected a string',
        ),
        (hyps(text="null"), 'utterance u, hypothesis 2: "text" is null, expected a string'),
        (
            hyps(text="true"),
            'utterance u, hypothesis 2: "text" is a boolean (true), expected a string',
        ),
        (
            hyps("[]"),
            (
                'utterance u, hypothesis 2: "scores" is a list, '
                "expected an object of names and numbers"
            ),
        ),
        (
            hyps("null"),
            'utterance u, hypothesis 2: "scores" is null, expected an object of names and numbers',
        ),
        (
            hyps('{"am": 1, "mdlm": "-3.1"}'),
            (
                'utterance u, hypothesis 2: score "mdlm" is a string ("-3.1"), '
                "expected a finite number"
            ),
        ),
        (
            hyps('{"mdlm": true}'),
            'utterance u, hypothesis 2: score "mdlm" is a boolean (true), expected a finite number',
        ),
        (
            hyps('{"mdlm": null}'),
            'utterance u, hypothesis 2: score "mdlm" is null, expected a finite number',
        ),
        (
            hyps('{"mdlm": [1]}'),
            'utterance u, hypothesis 2: score "mdlm" is a list, expected a finite number',
        ),
        (
            hyps('{"mdlm": NaN}'),
            'utterance u, hypothesis 2: score "mdlm" is NaN, expected a finite number',
        ),
        (
            hyps('{"mdlm": -Infinity}'),
            'utterance u, hypothesis 2: score "mdlm" is infinite, expected a finite number',
        ),
        (
            hyps('{"mdlm": 1e400}'),
            'utterance u, hypothesis 2: score "mdlm" is infinite, expected a finite number',
        ),
        (
            hyps('{"mdlm": 1' + "0" * 400 + "}"),
            (
                f'utterance u, hypothesis 2: score "mdlm" is a number (1{"0" * 39}...), '
                "expected a finite number"
            ),
        ),
        (
            '{"id": "u", "hyps": [{"text": "a", "std_errors": []}]}',
            (
                'utterance u, hypothesis 1: "std_errors" is a list, '
                "expected an object of names and numbers"
            ),
        ),
        (
            '{"id": "u", "ref": 1, "hyps": [{"text": "a"}]}',
            'utterance u: "ref" is a number (1), expected a string or null',
        ),
        (
            '{"id": "u", "meta": [], "hyps": [{"text": "a"}]}',
            'utterance u: "meta" is a list, expected an object',
        ),
        (
            '{"id": "u", "meta": {"scores": 1}, "hyps": [{"text": "a"}]}',
            (
                'utterance u: meta: "scores" is a number (1), '
                "expected an object of names and what made them"
            ),
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, line, expected):
    text = message(tmp_path, f"{GOOD}\n\n{line}\n")
    assert text.partition(":3: ")[::2] == ("dev.jsonl", expected)


def test_a_latin_1_line_is_named(tmp_path):
    assert message(tmp_path, GOOD.encode() + b'\n{"id": "caf\xe9"}').startswith(
        "dev.jsonl:2: not UTF-8 (byte 0xe9 at position 12)"
    )


def test_a_repeated_id_names_both_lines(tmp_path):
    other = GOOD.replace("u1", "u2")
    expected = (
        f"dev.jsonl:3: utterance u1: this id was already at {tmp_path}/dev.jsonl:1; "
        "every utterance needs its own"
    )
    assert message(tmp_path, f"{GOOD}\n{other}\n{GOOD}") == expected


def test_skipped_lines_are_counted(tmp_path):
    skipped = Skipped(keep=2)
    lines = [GOOD, "{", GOOD, b'{"id": "\xe9"}'.decode("latin-1"), GOOD.replace("u1", "u2")]
    content = "\n".join(lines).encode("latin-1")
    assert [nbest.id for nbest in read(tmp_path, content, skipped=skipped)] == ["u1", "u2"]
    assert skipped.count == 3
    assert [text.partition(": ")[0] for text in skipped.messages] == [
        f"{tmp_path}/dev.jsonl:2",
        f"{tmp_path}/dev.jsonl:3",
    ]


def test_blank_lines_crlf_bom_and_gzip_are_fine(tmp_path):
    content = f"\ufeff{GOOD}\r\n\r\n  \n{GOOD.replace('u1', 'u2')}\r\n\n".encode()
    for data in (content, gzip.compress(content)):
        lists = read(tmp_path, data)
        assert [(nbest.id, nbest.where[-2:]) for nbest in lists] == [("u1", ":1"), ("u2", ":4")]
    assert read(tmp_path, b"") == []


def test_lists_come_while_the_file_is_read(tmp_path):
    lists = JSONL.read(write_lines(tmp_path / "x.jsonl", [GOOD, "{"]))
    assert next(lists).id == "u1"
    with pytest.raises(FormatError):
        next(lists)


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_memory_stays_bounded(tmp_path):
    line = json.dumps(
        {
            "id": "ID",
            "hyps": [{"text": "word " * 20, "scores": {"am": -i - 0.5}} for i in range(100)],
        }
    )
    path = write_lines(tmp_path / "x.jsonl", (line.replace("ID", str(i)) for i in range(100)))
    tracemalloc.start()
    try:
        assert JSONL.write(JSONL.read(path), tmp_path / "y.jsonl") == 100
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "null",
        "None",
        "NA",
        " a  b ",
        "-",
        "日本",
        "a\u2028b\x85c",
        "(uh)",
        '"',
        "\\",
        "\t",
    ],
)
def test_every_text_survives(tmp_path, text):
    line = (
        json.dumps({"id": text or "u", "ref": text, "hyps": [{"text": text}]})
        if text.strip()
        else json.dumps({"id": "u", "hyps": [{"text": text}]})
    )
    [nbest] = read(tmp_path, line)
    JSONL.write([nbest], tmp_path / "out.jsonl")
    [again] = JSONL.read(tmp_path / "out.jsonl")
    assert (again.id, again.ref, again.hyps[0].text) == (nbest.id, nbest.ref, text)


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        (
            '{"hyps": [{"lang": "de", "scores": {"z": 1.0, "a": 2.0}, "conf": 3, "text": "a"}], '
            '"duration": 1.25, "id": "u", "x": {"y": [null, true]}}'
        ),
        '{"id": "u", "ref": null, "hyps": [{"text": "a", "scores": {}}], "meta": {"tool": {}}}',
        hyps(
            '{"big": 18446744073709551617, "exact": 9007199254740993, "minus": -0.0, '
            '"zero": 0, "tiny": 5e-324, "long": 0.1234567890123456789, "e": 1e22}'
        ),
        (
            '{"id": "u", "n": 123456789012345678901234567890, "m": -0.0, '
            '"f": 1.7976931348623157e308, "hyps": [{"text": "a"}]}'
        ),
        '{"id": "u", "time": "10:30", "hyps": [{"text": "a:b"}], "": {"": []}}',
    ],
)
def test_unchanged_means_equal_with_the_same_order(tmp_path, line):
    read_again = json.loads(encode(read(tmp_path, line)[0]))
    assert json.dumps(read_again) == json.dumps(json.loads(line))


def test_the_typed_fields_are_what_is_written(tmp_path):
    [nbest] = read(tmp_path, GOOD)
    changed = replace(
        nbest, id="u9", ref=None, hyps=(replace(nbest.hyps[1], text="z"), Hypothesis("new"))
    )
    hyps = [{"text": "z", "scores": {"am": -3.0, "lm": 0.5}}, {"text": "new"}]
    assert json.dumps(json.loads(encode(changed))) == json.dumps(
        {"id": "u9", "ref": None, "hyps": hyps}
    )


def test_records_of_other_formats_begin_with_the_id():
    nbest = NBest("u", (Hypothesis("a", {"am": -1.0}, {"start": 0}),), None, {"speaker": "s"})
    assert (
        encode(nbest)
        == b'{"id":"u","hyps":[{"text":"a","scores":{"am":-1.0},"start":0}],"speaker":"s"}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_score_that_is_not_finite_is_written(tmp_path, value):
    nbest = NBest("u", (Hypothesis("a"), Hypothesis("b", {"am": value})), where="x.jsonl:3")
    with pytest.raises(
        ScoreError,
        match=(
            r'x.jsonl:3: utterance u, hypothesis 2: score "am" is (NaN|infinite), '
            r"expected a finite number"
        ),
    ):
        JSONL.write([nbest], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "raw"), [("\ud800", {}), ("a", {"x": object()})])
def test_what_json_cannot_hold_is_one_line(tmp_path, text, raw):
    with pytest.raises(FormatError, match="utterance u: cannot be written as JSON"):
        encode(NBest("u", (Hypothesis(text),), raw=raw))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
HYPS = st.fixed_dictionaries(
    {"text": TEXTS}, optional={"scores": st.dictionaries(TEXTS, NUMBERS, max_size=3), "x": JSON}
)
RECORDS = st.fixed_dictionaries(
    {"id": TEXTS.filter(str.strip), "hyps": st.lists(HYPS, min_size=1, max_size=3)},
    optional={"ref": st.none() | TEXTS, "y": JSON, "meta": st.just({})},
)


@settings(max_examples=100, deadline=None)
@given(st.lists(RECORDS, max_size=4, unique_by=lambda record: record["id"]), st.booleans())
def test_reading_and_writing_is_the_identity(scratch, records, zipped):
    source, target = (
        write_lines(scratch / "in.jsonl", [json.dumps(record) for record in records]),
        scratch / ("out.jsonl" + ".gz" * zipped),
    )
    assert JSONL.write(JSONL.read(source), target) == len(records)
    again = [
        json.loads(line)
        for line in (gzip.decompress(target.read_bytes()) if zipped else target.read_bytes()).split(
            b"\n"
        )
        if line
    ]
    assert [json.dumps(record) for record in again] == [json.dumps(record) for record in records]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: b"\x1f\x8b\x08" + data))
def test_random_bytes_give_lists_or_a_format_error(scratch, data):
    only_format_errors(scratch / "x", data)


@settings(max_examples=75, deadline=None)
@given(RECORDS, st.data())
def test_damaged_records_give_lists_or_a_format_error(scratch, record, data):
    line = bytearray(json.dumps(record, ensure_ascii=data.draw(st.booleans())).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line)))
        line[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"", b'"', b"}", b"[", b"NaN", b"1e999", b"\\ud800", b"\xff", b"\n", b"null", b":"]
            )
        )
    only_format_errors(scratch / "x", bytes(line))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["id", "ref", "hyps", "meta"]), JSON)
    | st.fixed_dictionaries({"id": TEXTS, "hyps": st.lists(JSON, max_size=2)})
)
def test_any_json_gives_lists_or_a_format_error(scratch, value):
    only_format_errors(scratch / "x", json.dumps(value).encode())


def only_format_errors(path, data):
    path.write_bytes(data)
    for reader in (JSONL.read, read_lists):
        with suppress(FormatError):
            list(reader(path))
    with suppress(FormatError):
        list(JSONL.read(path, skipped=Skipped()))
