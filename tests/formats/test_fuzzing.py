"""Every registered format on random lists and damaged files: an everyday share of fuzzing.py."""

import json
import math
import random

import pytest
from damage import damaged
from format_samples import BUILDERS, Sample, build, whole
from fuzzing import campaign, fault, faults, files_of, round_trip_fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_lists import LISTS

from rescore.errors import FormatError, ScoreError
from rescore.formats import Format, Skipped
from rescore.formats.references import read_references
from rescore.registry import FORMATS, lookup
from rescore.types import Hypothesis, NBest

SUPERVISION = {"id": "s1", "recording_id": "r1", "start": 4.5, "text": "é 日本"}
CUT = {
    "id": "cut",
    "start": 1.0,
    "supervisions": [SUPERVISION, {**SUPERVISION, "id": "s2", "start": 0.5}],
    "type": "MonoCut",
}
MIXED = {
    "id": "mixed",
    "tracks": [{"cut": CUT, "offset": 9.0}, {"cut": {"id": "pad", "type": "PaddingCut"}}],
    "type": "MixedCut",
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def chosen(name):
    found: Format = lookup(FORMATS, name, "format")
    return found


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_survives(name, tmp_path):
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(LISTS, st.integers(0, 2**32))
    def run(lists, number):
        for what, wrong in faults(name, lists, number, tmp_path):
            assert wrong is None, f"{wrong}\n{what}"

    run()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_one_and_a_thousand_hypotheses_are_read(name, tmp_path):
    for count in (1, 1000):
        hyps = tuple(
            Hypothesis(f"null 日本 e\u0301 {i}" if i else "", {"am": -0.5 * i, "lm": 0.0})
            for i in range(count, 0, -1)
        )
        sample = build(name, [NBest("u-1", hyps, "a"), NBest("u2", hyps, "")], tmp_path)
        assert round_trip_fault(name, sample) is None


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_latin_1_and_half_a_gzip_are_errors(name, tmp_path):
    lists = [
        NBest(utterance, (Hypothesis("é à ü", {"am": -1.0, "lm": -2.0}),), "é")
        for utterance in ("u", "v")
    ]
    sample = build(name, lists, tmp_path)
    texts = [file for file in files_of(sample.path) if "é".encode() in file.read_bytes()]
    for file in texts or files_of(sample.path)[:1]:
        plain = file.read_bytes()
        for changed, complaint in (
            (plain.decode().encode("latin-1"), "not UTF-8"),
            (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K", "cannot be read"),
        ):
            if changed == plain:
                continue
            file.write_bytes(changed)
            with pytest.raises(FormatError, match=complaint) as caught:
                list(chosen(name).read(sample.path, **sample.options))
            assert str(caught.value).startswith(str(file))
        file.write_bytes(plain)


WRITABLE = [name for name in sorted(FORMATS) if chosen(name).is_writable]
WRITTEN = NBest("u1", (Hypothesis("a cat", {"am": -1.0, "lm": -2.0, "first_pass": -3.0}),), "a cat")


def needed(name, folder):
    """The options without which a format cannot write WRITTEN."""
    if name != "lhotse":
        return {}
    lines = (
        {"id": utterance, "recording_id": "r", "start": 0.0, "duration": 1.0}
        for utterance in ("u1", "u2")
    )
    (folder / "manifest").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"manifest": folder / "manifest"}


@pytest.mark.parametrize("name", WRITABLE)
def test_an_error_while_writing_leaves_nothing(tmp_path, scratch, name):
    def broken():
        yield WRITTEN
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        chosen(name).write(broken(), tmp_path / "out", **needed(name, scratch))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(WRITABLE) - {"jsonl"}))
def test_an_id_that_comes_twice_is_not_written(tmp_path, scratch, name):
    with pytest.raises(
        FormatError,
        match=r"^utterance u1: this id was written before; every utterance needs its own$",
    ):
        chosen(name).write([WRITTEN, WRITTEN], tmp_path / "out", **needed(name, scratch))
    assert list(tmp_path.iterdir()) == []


SCORED = [name for name in WRITABLE if {"score", "scores"} & set(chosen(name).write_options)]


@pytest.mark.parametrize("name", [*SCORED, "kaldi", "srilm"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_score_that_is_not_finite_is_not_written(tmp_path, name, value):
    """ "Infinity" and "nan" would make files that their own readers refuse, or misread."""
    scores = dict.fromkeys(("am", "lm", "first_pass"), value)
    nbest = NBest("u1", (Hypothesis("a cat", scores),))
    with pytest.raises(ScoreError, match=r"^utterance u1, hypothesis 1: score .*finite number$"):
        chosen(name).write([nbest], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_format_without_a_builder_is_told_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delitem(BUILDERS, "trn")
    with pytest.raises(LookupError, match="add a builder of valid files for it to BUILDERS"):
        build("trn", [], tmp_path)


def test_the_harness_finds_what_it_looks_for(tmp_path, monkeypatch):
    """Readers with one fault each: an exception of their own, a message of two lines, an infinite
    score, a lost hypothesis, no answer."""

    def reader(act):
        def read(path, *, skipped=None):
            return act(path.read_bytes())

        return read

    def several_lines(_):
        raise type("Loud", (FormatError,), {"__str__": lambda self: "two\nlines of it"})

    def refused(message):
        raise FormatError(message)

    def hang(_):
        while True:
            pass

    wrong = {
        "an exception": (lambda data: [{}["x"]], "KeyError"),
        "two lines": (several_lines, "not one line"),
        "an infinite score": (
            lambda data: [NBest("u", (Hypothesis("a", {"am": float("inf")}),))],
            "not whole",
        ),
        "no hypothesis": (lambda data: [NBest("u", ())], "not whole"),
        "a field that is taken": (
            lambda data: [NBest("u", (Hypothesis("a"),), raw={"meta": 1})],
            "native format refuses",
        ),
        "half a character": (
            lambda data: [NBest("u", (Hypothesis("\ud800"),))],
            "native format refuses",
        ),
        "no answer": (hang, "Hung"),
        "a lost hypothesis": (
            lambda data: [NBest("u", (Hypothesis("a"),))],
            "1 hypotheses of 2 lines",
        ),
        "an id twice": (lambda data: [NBest("u", (Hypothesis("a"),))] * 2, "comes twice"),
        "no file named": (
            lambda data: refused("utterance u: wrong"),
            "does not begin with the file",
        ),
    }
    monkeypatch.setattr("fuzzing.LIMIT_S", 0.2)
    (tmp_path / "x").write_bytes(b"abc")
    for name, (act, expected) in wrong.items():
        monkeypatch.setattr("fuzzing.lookup", lambda *_, act=act: Format("x", reader(act)))
        monkeypatch.setattr("fuzzing.format_of", lambda path: None)
        sample = Sample(tmp_path / "x", [], whole, count=lambda path: 2)
        assert expected in (fault("x", sample, Skipped()) or ""), name


def test_a_message_is_one_line_whatever_it_quotes():
    nbest = NBest("two\nlines\r\n", (Hypothesis("a"),), where="x:1")
    assert str(FormatError(f"{nbest.place()}: wrong")) == "x:1: utterance two\\nlines\\r\\n: wrong"


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_damaged_references_are_read_or_refused_in_one_line(scratch, number):
    lines = "".join(json.dumps(record) + "\n" for record in (SUPERVISION, CUT, MIXED)).encode()
    chance, messages = random.Random(number), []
    for name, data in (
        ("x.jsonl", lines),
        ("x.trn", "a 日本 (u1)\n(u2)\n".encode()),
        ("text", "u1 a 日本\nu2\n".encode()),
    ):
        (scratch / name).write_bytes(damaged(data, chance))
        try:
            read_references(
                scratch / name,
                ids=chance.choice(("id", "supervision", "recording"))
                if name == "x.jsonl"
                else "id",
            )
        except FormatError as error:
            messages.append(str(error))
    assert not {"\n", "\r"} & set("".join(messages))


def test_damage_is_repeatable_and_changes_files():
    data = b'{"id": "u"}\n' * 20
    assert [damaged(data, random.Random(i)) for i in range(50)] == [
        damaged(data, random.Random(i)) for i in range(50)
    ]
    assert sum(damaged(data, random.Random(i)) != data for i in range(50)) > 40


def test_the_long_run_counts_its_cases():
    tried, found = campaign("trn", 40, 1)
    assert tried == 40
    assert found == {}
