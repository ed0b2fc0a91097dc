"""The examples and the messages in the pages about formats are what really happens."""

import importlib
import re
from pathlib import Path

import format_samples
import fuzzing
import pytest

from rescore.errors import FormatError
from rescore.formats.base import parse_number
from rescore.formats.jsonl import JSONL
from rescore.registry import FORMATS, lookup

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$",
        (DOCS / page).read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )


def bad_lines():
    rows = re.findall(
        r"^\| `(.*)` \| `dev\.jsonl:12: (.*)` \|$",
        (DOCS / "formats.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [pytest.param(*row, id=row[1]) for row in rows]


def test_the_table_is_found():
    assert len(bad_lines()) > 20


@pytest.mark.parametrize(("line", "message"), bad_lines())
def test_bad_lines_give_the_documented_messages(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    Path("dev.jsonl").write_text(
        '{"id": "first", "hyps": [{"text": "a"}]}' + "\n" * 11 + line + "\n"
    )
    with pytest.raises(FormatError) as caught:
        list(JSONL.read("dev.jsonl"))
    assert str(caught.value) == f"dev.jsonl:12: {message}"


def test_the_native_record_reads_and_writes(tmp_path):
    [record] = blocks("formats.md", "json")
    (tmp_path / "x.jsonl").write_text(record)
    [nbest] = JSONL.read(tmp_path / "x.jsonl")
    assert (nbest.id, nbest.ref, nbest.hyps[0].scores) == (
        "84-121123-0000",
        "go do you hear",
        {"am": -213.4, "ngram": -20.1},
    )


def test_the_table_says_what_the_formats_say():
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \|(.*)\| yes \|(.*)\|$",
        (DOCS / "formats.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    said = [
        (name, proof.strip().replace("\\|", "|"), writes.strip().startswith("yes"))
        for name, proof, writes in rows
    ]
    known = [lookup(FORMATS, name, "format") for name in FORMATS]
    assert sorted(said) == sorted((one.name, one.proof, one.is_writable) for one in known)


def test_the_table_of_fuzzing_has_every_format():
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| yes \|(.*?)\| .+ \| ([0-9,]+) \| [0-9]+.* \|$",
        (DOCS / "formats.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    known = [lookup(FORMATS, name, "format") for name in FORMATS]
    assert sorted((name, "yes" in writes) for name, writes, _ in rows) == sorted(
        (one.name, one.is_writable) for one in known
    )
    assert all(int(tried.replace(",", "")) >= 10_000 for *_, tried in rows)


def test_every_option_is_explained():
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    for one in (lookup(FORMATS, name, "format") for name in FORMATS):
        _, _, section = text.partition(f"\n## {one.name}\n")
        section = section.partition("\n## ")[0]
        for flag, options in (("-O", one.read_options), ("-W", one.write_options)):
            for key in options:
                assert (
                    f"`{flag} {key}=" in section
                    or (one.name, key) == ("nemo-beams", "ids")
                    or key == "score"
                ), (one.name, key)


def test_the_example_of_a_new_format_works(tmp_path, monkeypatch):
    module, registration, test, builder = blocks("adding_a_format.md", "python")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tsv_costs.py").write_text(module)
    (tmp_path / "example_of_a_test.py").write_text(test)
    [(name, target)] = re.findall(r'"(.*)": "rescore\.formats\.(.*)",', registration)
    monkeypatch.setitem(FORMATS, name, target)
    example = importlib.import_module("example_of_a_test")
    example.test_costs_become_scores(tmp_path)
    example.test_bad_lines_are_named(tmp_path)
    (tmp_path / "example_of_a_builder.py").write_text(
        f"from format_samples import *\n\n\n{builder}"
    )
    monkeypatch.setitem(
        format_samples.BUILDERS, name, importlib.import_module("example_of_a_builder").tsv_costs
    )
    assert fuzzing.campaign(name, 200, 1) == (200, {})


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-Infinity", "1_000", "1e999", "", "a", "1,5", "0x10"]
)
def test_numbers_in_texts_are_strict(text):
    with pytest.raises(FormatError) as caught:
        parse_number(text, "x:1", "the cost")
    assert str(caught.value) == f'x:1: the cost is "{text}", expected a finite number'
    with pytest.raises(
        FormatError, match=rf"^x:1: the cost is \"{'9' * 40}\.\.\.\", expected a finite number$"
    ):
        parse_number("9" * 400, "x:1", "the cost")
    assert [parse_number(good, "", "") for good in ("-1.5", "2e3", " 7 ")] == [-1.5, 2000.0, 7.0]
