"""`dlmrescore train ngram` and `score --scorer ngram` on the command line."""

from __future__ import annotations

import json
import re
import sys

import pytest
from small import LINES
from small_ngrams import values_of

from rescore.cli import main
from rescore.models.arpa import read_arpa
from rescore.models.ngram import load


@pytest.fixture
def dlm(capsys, monkeypatch, tmp_path):
    """Run a command in a folder with a text; returns status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    (tmp_path / "in.jsonl").write_text(
        json.dumps(
            {
                "id": "a",
                "hyps": [{"text": "the old house", "scores": {"ngram": -3.5}}, {"text": ""}],
            }
        )
        + "\n"
    )

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code, *capsys.readouterr())

    return call


TRAIN = ["train", "ngram", "--text", "text.txt", "--valid", "text.txt", "-o", "run"]


def test_training_and_scoring_on_the_command_line(dlm, tmp_path):
    status, out, err = dlm(
        *TRAIN,
        "--order",
        "2",
        "--prune",
        "0,1",
        "--join",
        "0",
        "--arpa",
        "x.arpa.gz",
        "--card",
        '{"text": "six lines"}',
    )
    assert (status, out) == (0, "")
    cost = load(tmp_path / "run").card["validation"]["lines"]
    assert (
        f"validation (lines): {cost['nats']:.0f} nats, {cost['words']} words, "
        "18 sentence ends, 0 unknown words" in err
    )
    assert f"PPL per word {cost['valid_perplexity_per_word']:.2f}, per word and sentence end" in err
    assert (
        load(tmp_path / "run").card["training"] | {"order": 2, "prune": [0, 1], "join": 0}
        == load(tmp_path / "run").card["training"]
    )
    assert read_arpa(tmp_path / "x.arpa.gz").digest == load(tmp_path / "run").digest
    assert (
        dlm("score", "in.jsonl", "--scorer", "ngram", "--model", "run", "-o", "out.jsonl")[0] == 0
    )
    [record] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = [values_of(load(tmp_path / "run"), text).sum() for text in ("the old house", "")]
    assert [hyp["scores"]["ngram2"] for hyp in record["hyps"]] == pytest.approx(expected, rel=1e-12)
    assert record["hyps"][0]["scores"]["ngram"] == -3.5


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (
            [*TRAIN, "--prune", "1,1"],
            1,
            "--prune 1,1: expected numbers that begin with 0 and never fall, such as 0,0,1",
        ),
        (
            [*TRAIN, "--min-count", "99"],
            1,
            "no word occurs 99 times; give more text or a lower --min-count",
        ),
        (
            [*TRAIN[:-1], "text.txt/run"],
            1,
            "text.txt/run: cannot be written: not a directory; check the path",
        ),
        (
            [*TRAIN, "--arpa", "text.txt"],
            1,
            "text.txt: is also the input (text.txt); write to another file",
        ),
        ([*TRAIN, "--prune", "few"], 2, "got 'few', expected whole numbers such as 0,0,1"),
        ([*TRAIN, "--order", "1"], 2, "1 is not in the range 2<=x<=6"),
        (["score", "in.jsonl", "--scorer", "ngram"], 1, "--scorer ngram needs --model"),
    ],
)
def test_wrong_use_is_explained(dlm, tmp_path, argv, status, message):
    found, out, err = dlm(*argv)
    assert (found, out) == (status, "")
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "run" / "config.json").exists()
    assert (tmp_path / "text.txt").read_text() == "\n".join(LINES)


@pytest.mark.parametrize(("objective", "option"), [("ngram", "--steps"), ("ar", "--order")])
def test_an_option_of_another_objective_is_unknown(dlm, tmp_path, objective, option):
    status, out, err = dlm("train", objective, *TRAIN[2:], option, "3")
    assert (status, out) == (2, "")
    assert re.search(f"No such option.*{option}", err.splitlines()[-1])
