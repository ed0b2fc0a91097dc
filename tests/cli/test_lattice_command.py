"""`dlmrescore lattice`: k2, Kaldi and HTK lattices to N-best lists, ids from manifests."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from small import save_small

import rescore
from rescore.cli import main
from rescore.errors import FormatError
from rescore.lattice import Lattice
from rescore.lattice.formats import kaldi_compact, slf
from rescore.lattice.lists import METHODS, Choice, nbest_of

DATA = Path(__file__).parents[1] / "data" / "k2"


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("batch", "by_cut", "single", "no_lm_scores", "no_aux_labels"):
        shutil.copy(DATA / f"{name}.pt", f"{name}.pt")
    Path("words.txt").write_text("<eps> 0\nthe 1\ncat 2\nhat 3\nsat 4\n")


@pytest.fixture
def dlm(capsys, monkeypatch):
    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", "lattice", *map(str, argv)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr()

    return call


def supervisions(path, ids, texts):
    rows = [
        {"id": name, "recording_id": name, "start": 0, "duration": 1, "text": text}
        for name, text in zip(ids, texts, strict=True)
    ]
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_a_batch_of_k2_takes_ids_and_references_from_its_manifest(dlm):
    supervisions("sups.jsonl.gz", ["c1", "c2", "c3"], ["the hat", "", "cat sat"])
    status, printed = dlm(
        "batch.pt",
        "--words",
        "words.txt",
        "--supervisions",
        "sups.jsonl.gz",
        "--lm-name",
        "ngram",
        "-o",
        "nbest.jsonl",
    )
    assert (status, printed.err) == (0, "3 utterances\n")
    first, second, third = rescore.read("nbest.jsonl")
    assert [(nbest.id, nbest.ref) for nbest in (first, second, third)] == [
        ("c1", "the hat"),
        ("c2", ""),
        ("c3", "cat sat"),
    ]
    assert [(hyp.text, dict(hyp.scores)) for hyp in first.hyps] == [
        ("the", {"am": -0.375, "ngram": -1.5}),
        ("the hat", {"am": -1.375, "ngram": -2.0}),
    ]
    assert [hyp.text for hyp in second.hyps] == [""]  # an empty lattice keeps its utterance
    assert [hyp.text for hyp in third.hyps] == ["cat sat"]


def test_lattices_with_ids_of_their_own_are_joined_by_them(dlm):
    ids = [lattice.id for lattice in rescore.lattice.read_lattices("by_cut.pt", words="words.txt")]
    Path("text").write_text("".join(f"{name} words of {name}\n" for name in reversed(ids)))
    assert (
        dlm("by_cut.pt", "--words", "words.txt", "--supervisions", "text", "-o", "nbest.jsonl")[0]
        == 0
    )
    assert [(nbest.id, nbest.ref) for nbest in rescore.read("nbest.jsonl")] == [
        (name, f"words of {name}") for name in ids
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_lm_scores.pt", "--words", "words.txt"], "lm_scores"),
        (["no_aux_labels.pt", "--words", "words.txt"], "aux_labels"),
        (["batch.pt"], "its labels are numbers; give the table that names them, words=words.txt"),
        (["batch.pt", "--words", "short.txt"], "is not in the word table short.txt"),
        (
            ["batch.pt", "--words", "words.txt", "--supervisions", "two.jsonl.gz"],
            "there are more lattices than the 2 ids of their manifest",
        ),
        (
            ["batch.pt", "--words", "words.txt", "--supervisions", "four.jsonl.gz"],
            "there are 3 lattices and 4 ids in their manifest",
        ),
        (
            ["by_cut.pt", "--words", "words.txt", "--supervisions", "two.jsonl.gz"],
            "the manifest has no such id",
        ),
        (
            ["batch.pt", "--words", "words.txt", "--supervisions", "twice.jsonl.gz"],
            "this id was already at twice.jsonl.gz:1",
        ),
        (["code.pt", "--words", "words.txt", "--from", "k2"], "code.pt: "),
        (["gone.pt"], "gone.pt: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_no_output(dlm, arguments, message):
    supervisions("two.jsonl.gz", ["a", "b"], ["x", "y"])
    supervisions("four.jsonl.gz", "abcd", "wxyz")
    supervisions("twice.jsonl.gz", "aa", "xy")
    Path("short.txt").write_text("<eps> 0\nthe 1\n")
    Path("code.pt").write_bytes(b"cos\nsystem\n(S'touch touched'\ntR.")
    status, printed = dlm(*arguments, "-o", "nbest.jsonl")
    assert status == 1, printed
    [line] = printed.err.splitlines()
    assert message in line
    assert not Path("nbest.jsonl").exists()
    assert not Path("touched").exists()


def diamond() -> Lattice:
    #   a -1/-0.5    c -1/-0.25
    # 0 ---------> 1 ---------> 2
    #   \_b -3/-0.25_/\_d -4/0_/
    # four sequences (am + lm): a c -2.75, a d -5.5, b c -4.5, b d -7.25
    source, target, word = np.array([0, 0, 1, 1]), np.array([1, 1, 2, 2]), np.array([1, 2, 3, 4])
    am, lm = np.array([-1.0, -3.0, -1.0, -4.0]), np.array([-0.5, -0.25, -0.25, 0.0])
    return Lattice.from_arcs(
        "u", source, target, word, am, lm, ["", "a", "b", "c", "d"], start=0, ends=np.array([2])
    )


@pytest.mark.parametrize(
    ("choice", "texts"),
    [
        (Choice(), ["a c", "b c", "a d", "b d"]),
        (Choice(count=2), ["a c", "b c"]),
        (Choice(lm_scale=20.0), ["b d", "b c", "a d", "a c"]),
        (Choice("cover"), ["a c", "b d"]),
        (Choice("sample", count=1000, sample_scale=1e-3), ["a c", "b c", "a d", "b d"]),
        (Choice("sample", count=1, sample_scale=100.0), ["a c"]),
        (Choice(posterior=0.2), ["a c"]),
    ],
)
def test_the_choice_says_which_paths_become_hypotheses(choice, texts):
    assert [hyp.text for hyp in nbest_of(diamond(), choice).hyps] == texts


def test_a_list_has_the_sums_of_its_paths_and_the_names_asked_for():
    assert [
        dict(hyp.scores) for hyp in nbest_of(diamond(), Choice(count=1, lm_name="graph")).hyps
    ] == [{"am": -2.0, "graph": -0.75}]
    assert [
        dict(hyp.scores) for hyp in nbest_of(diamond(), Choice(count=1, lm_name=None)).hyps
    ] == [{"am": -2.0}]
    with pytest.raises(FormatError, match="scale"):
        nbest_of(diamond(), Choice("sample", sample_scale=0.0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("writer", [slf, kaldi_compact])
def test_every_format_and_method_goes_through_the_command(dlm, method, writer):
    known = writer.SLF if writer is slf else writer.KALDI_COMPACT
    name = "u.slf" if writer is slf else "lats.txt"
    known.write([diamond()], name)
    Path("text").write_text("u a d\n")
    status, printed = dlm(name, "--method", method, "--supervisions", "text", "-o", "nbest.jsonl")
    assert status == 0, printed
    [nbest] = rescore.read("nbest.jsonl")
    assert (nbest.id, nbest.ref) == ("u", "a d")
    assert {"a c"} <= {hyp.text for hyp in nbest.hyps} <= {"a c", "a d", "b c", "b d"}


@pytest.fixture(scope="module")
def usdm(tmp_path_factory):
    return str(save_small(tmp_path_factory.mktemp("model") / "usdm", "usdm"))


def test_a_lattice_is_searched_with_a_scorer(dlm, usdm):
    supervisions("sups.jsonl.gz", ["c1", "c2", "c3"], ["the hat", "", "cat sat"])
    command = [
        "batch.pt",
        "--words",
        "words.txt",
        "--supervisions",
        "sups.jsonl.gz",
        "--rescore",
        f"x=usdm:pll@{usdm}",
    ]
    status, printed = dlm(*command, "--new-scale", "0.5", "--lm-name", "ngram", "-o", "best.jsonl")
    assert status == 0, printed
    lists = list(rescore.read("best.jsonl"))
    assert [(nbest.id, nbest.ref) for nbest in lists] == [
        ("c1", "the hat"),
        ("c2", ""),
        ("c3", "cat sat"),
    ]
    for nbest in lists:
        totals = [
            hyp.scores["am"] + hyp.scores["ngram"] + 0.5 * hyp.scores["x"] for hyp in nbest.hyps
        ]
        assert totals == sorted(totals, reverse=True)
        assert nbest.raw["meta"]["scores"]["x"]["signature"].startswith("usdm.pll|")
    [alone] = rescore.score(
        [nbest for nbest in rescore.read("best.jsonl") if nbest.id == "c1"],
        "usdm",
        model=usdm,
        name="again",
    )
    assert [hyp.scores["x"] for hyp in alone.hyps] == pytest.approx(
        [hyp.scores["again"] for hyp in alone.hyps], abs=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--rescore", "usdm"], 2, "--rescore needs --new-scale"),
        (["--new-scale", "1"], 2, "--new-scale is the scale of the scorer of --rescore"),
        (
            ["--rescore", "usdm", "--new-scale", "1", "--method", "cover"],
            2,
            "works with neither --method",
        ),
        (["--rescore", "us dm!", "--new-scale", "1"], 1, "is not written as [NAME=]SCORER"),
    ],
)
def test_a_search_that_cannot_be_is_refused(dlm, arguments, status, message):
    exit_status, printed = dlm("batch.pt", "--words", "words.txt", *arguments, "-o", "best.jsonl")
    assert exit_status == status
    assert message in printed.err
    assert not Path("best.jsonl").exists()
