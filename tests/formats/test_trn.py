"""trn as 1-best lists, so that others' results can be evaluated.

The writers are tested in tests/formats/test_references.py.
"""

import json

import pytest
from click.testing import CliRunner

from rescore.cli import cli
from rescore.errors import FormatError
from rescore.formats import Skipped
from rescore.formats.trn import TRN


def save(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_line_is_a_list_of_one(tmp_path):
    path = save(tmp_path / "hyp.trn", "a (b) nan (u-1)\n(u2)\n\n  日本 { a / b }\t( u3 ) \n")
    lists = list(TRN.read(path))
    assert [
        (nbest.id, nbest.where, [(hyp.text, hyp.scores) for hyp in nbest.hyps]) for nbest in lists
    ] == [
        ("u-1", f"{path}:1", [("a (b) nan", {})]),
        ("u2", f"{path}:2", [("", {})]),
        ("u3", f"{path}:4", [("日本 { a / b }", {})]),
    ]


def test_bad_lines_are_named_or_skipped(tmp_path):
    path = save(tmp_path / "x", "a (u)\nb\nc (u)\nd (v)\n")
    with pytest.raises(FormatError) as caught:
        list(TRN.read(path))
    assert (
        str(caught.value) == f"{path}:2: there is no id at the end of the line, expected words (id)"
    )
    skipped = Skipped()
    assert [nbest.id for nbest in TRN.read(path, skipped=skipped)] == ["u", "v"]
    assert (
        skipped.messages[1]
        == f"{path}:3: utterance u: this id was already at {path}:1; every utterance needs its own"
    )


def test_results_of_others_are_evaluated(tmp_path):
    hyp, ref = (
        save(tmp_path / "hyp.trn", "a c (u)\n(v)\n"),
        save(tmp_path / "ref.trn", "a b (u)\nd d (v)\n"),
    )
    done = CliRunner().invoke(
        cli,
        ["eval", str(hyp), "--from", "trn", "--refs", str(ref), "-o", str(tmp_path / "out.json")],
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out.json").read_text())["wer"] == 0.75
