"""The whole experiment: the numbers of its steps, the files after a kill -9, and refusals."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from small import LINES, save_small

import rescore
from rescore.cli import main
from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.experiment.results import axis as sweep_axis
from rescore.fusion import load
from rescore.report.systems import plot_systems


def record(half: str, number: int) -> dict:
    """A list of three: a recogniser that mistakes the last word, and its scores."""
    ref = " ".join(LINES[number % 6].split()[: 3 + number % 4])
    wrong = [ref, ref.rsplit(" ", 1)[0] + " lamp", ref + " the"]
    order = [wrong[(number + k) % 3] for k in range(3)]
    return {
        "id": f"{half}-{number}",
        "ref": ref,
        "hyps": [
            {"text": text, "scores": {"am": -10.0 - 3 * k, "ngram": -float(len(text))}}
            for k, text in enumerate(order)
        ],
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: save_small(root / objective, objective) for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture(scope="module")
def specs(models):
    return (
        f"ar@{models['ar']}",
        f"usdm:pll@{models['usdm']}",
        f"again=mdlm:nelbo@{models['mdlm']}",
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for half in ("dev", "test"):
        write(f"{half}.jsonl", [record(half, number) for number in range(7)])
    return tmp_path


def write(name, records):
    Path(name).write_text("".join(json.dumps(item) + "\n" for item in records))


def contents(folder: str) -> dict[str, bytes]:
    """Every file but the seconds, and the table without its last column."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
    del files["seconds.json"]
    files["table.md"] = re.sub(rb"\| *[\d.]* \|$", b"|", files["table.md"], flags=re.MULTILINE)
    return files


# ------------------------------------------------------------------------------------------------------------------------------- results


def test_the_numbers_are_those_of_the_steps_one_by_one(specs, models):
    said = []
    found = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs, draws=3, say=said.append)
    assert said[0] == "the recogniser's scores: am, ngram (found in the lists)"
    halves = {}
    for half in ("dev", "test"):
        lists = rescore.read(f"{half}.jsonl")
        for scorer, name, settings in (
            ("ar", "ar", {}),
            ("usdm", "usdm_pll", {"estimator": "pll"}),
            ("mdlm", "again", {"estimator": "nelbo", "draws": 3}),
        ):
            model = str(models[scorer])
            lists = rescore.score(lists, scorer, name=name, model=model, **settings)
        halves[half] = list(lists)
        for ours, theirs in zip(
            rescore.read(f"out/{half}.scored.jsonl"), halves[half], strict=True
        ):
            assert ours.provenance == theirs.provenance
            assert [hyp.scores for hyp in ours.hyps] == [hyp.scores for hyp in theirs.hyps]
            assert [hyp.raw.get("std_errors") for hyp in ours.hyps] == [
                hyp.raw.get("std_errors") for hyp in theirs.hyps
            ]
    retuned = None
    assert [system.scores for system in found.systems] == [
        (),
        (),
        ("ar",),
        ("usdm_pll",),
        ("again",),
        ("ar", "usdm_pll", "again"),
    ]
    assert found.systems[0].test == rescore.evaluate(rescore.read("test.jsonl"))
    for system, group in zip(
        found.systems[1:], ("base", "ar", "usdm_pll", "again", "all"), strict=True
    ):
        fusion = rescore.tune(halves["dev"], ["am", "ngram", *system.scores])
        assert load(f"out/fusion.{group}.json") == fusion
        best = list(rescore.fuse(halves["test"], fusion))
        assert system.test == rescore.evaluate(best, retuned)
        assert system.dev_wer == fusion.dev.wer
        assert [nbest.hyps[0].text for nbest in rescore.read(f"out/best.{group}.jsonl")] == [
            nbest.hyps[0].text for nbest in best
        ]
        retuned = retuned or best
    assert [system.evaluations for system in found.systems] == [None, None, 1, 1, 3, 5]


def test_every_dev_list_is_aligned_once(specs, monkeypatch):
    aligned = []

    def recording(nbest, *options, function):
        aligned.append(nbest.id)
        return function(nbest, *options)

    for module in ("rescore.fusion.dev_set", "rescore.wer.evaluation"):
        function = sys.modules[module].list_errors
        monkeypatch.setattr(f"{module}.list_errors", partial(recording, function=function))
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs)
    assert [name for name in aligned if name.startswith("dev-")] == [f"dev-{n}" for n in range(7)]


def test_the_table_and_the_csv_say_what_was_found(specs):
    found = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:2])
    assert Path("out/table.md").read_text() == found.table
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in found.table.splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == [
        "system",
        "WER %",
        "95 % interval",
        "better",
        "closed",
        "evaluations",
        "seconds",
    ]
    assert [row[0] for row in rows[2:]] == [
        "first of the list",
        "am + ngram, retuned",
        "+ ar",
        "+ usdm_pll",
        "+ all of them",
        "oracle of the lists",
    ]
    table = list(csv.DictReader(io.StringIO(Path("out/systems.csv").read_text())))
    for row, cells, system in zip(rows[2:], table, found.systems, strict=False):
        assert (row[1], float(cells["wer"])) == (f"{100 * system.test.wer:.2f}", system.test.wer)
        assert (float(cells["low"]), float(cells["high"])) == system.test.ci95
    assert rows[4][3:6] == [
        f"{found.systems[2].test.comparison.probability_better:.3f}",
        rows[4][4],
        "1.0",
    ]
    assert float(table[-1]["wer"]) == found.systems[0].test.oracle_wer
    for name in ("systems.png", "sweep.png"):
        assert Path("out", name).read_bytes().startswith(b"\x89PNG")
    assert list(found.sweep.axes) == sorted(
        ("ar", "usdm_pll"),
        key=lambda name: found.systems[2 + ("ar", "usdm_pll").index(name)].dev_wer,
    )
    assert found.sweep.held.keys() == {"am", "ngram", "word_bonus"}


def test_the_plot_of_the_systems_draws_the_csv(specs, monkeypatch):
    found = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1], unit="char")
    drawn = []
    monkeypatch.setattr(
        "rescore.report.systems.save_figure", lambda figure, path: drawn.append(figure)
    )
    plot_systems(Path("out/systems.csv").read_text(), "x.png")
    [axes] = drawn[0].axes
    assert axes.lines[0].get_xdata().tolist() == [100 * system.test.wer for system in found.systems]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        system.name for system in found.systems
    ]
    assert axes.lines[0].get_ydata().tolist() == [2, 1, 0]  # from above
    segments = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert segments == [[100 * end for end in system.test.ci95] for system in found.systems]
    assert axes.lines[1].get_xdata() == [100 * found.systems[0].test.oracle_wer] * 2
    assert axes.get_xlabel() == "CER on the test lists (%)"


def test_lists_without_scores_have_rank_and_references_come_from_files(specs):
    for half in ("dev", "test"):
        bare = [record(half, number) for number in range(7)]
        Path(f"{half}.txt").write_text("".join(f"{item['id']} {item['ref']}\n" for item in bare))
        write(
            f"{half}.jsonl",
            [
                {"id": item["id"], "hyps": [{"text": hyp["text"]} for hyp in item["hyps"]]}
                for item in bare
            ],
        )
    with pytest.raises(
        FormatError, match=r'dev.jsonl:1: utterance dev-0: the reference \("ref"\) is missing'
    ):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    found = rescore.run(
        "dev.jsonl",
        "test.jsonl",
        "out",
        scorers=specs[:1],
        refs_dev="dev.txt",
        refs_test="test.txt",
        depth=2,
    )
    assert found.base == ("rank",)
    assert [len(nbest.hyps) for nbest in rescore.read("out/dev.scored.jsonl")] == [2] * 7


def test_without_matplotlib_everything_but_the_plots_is_there(specs, monkeypatch, caplog):
    monkeypatch.setattr("rescore.report.figures.find_spec", lambda name: None)
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    assert {"systems.csv", "sweep.csv", "table.md"} <= {path.name for path in Path("out").iterdir()}
    assert not list(Path("out").glob("*.png"))
    assert "pip install 'dlmrescore[plot]'" in caplog.text


def test_a_scorer_warns_once_for_all_chunks(specs, monkeypatch, caplog):
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 3)
    odd = [
        {
            **record("dev", number),
            "hyps": [{"text": "the \u0432\u0441\u0435", "scores": {"am": -1}}],
        }
        for number in range(4)
    ]
    write("dev.jsonl", odd)
    with caplog.at_level(logging.WARNING, "rescore"):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    [first, *_] = [
        entry for entry in caplog.messages if "unknown to the model's vocabulary" in entry
    ]
    alone = [entry for entry in caplog.messages if entry == first]
    assert len(alone) == 1
    unknown, tokens = map(int, re.findall(r"\d+", first)[:2])
    assert (unknown % 4, tokens % 4) == (0, 0)  # of all four lists, not of the last
    assert unknown >= 4


@pytest.mark.parametrize(
    ("top", "end"),
    [(0, 1), (1, 1), (1.01, 2), (37.4, 40), (61, 80), (0.013, 0.02), (99, 100), (2.2e-8, 4e-8)],
)
def test_an_axis_ends_at_a_round_number(top, end):
    axis = sweep_axis(top)
    assert (axis[0], axis[-1], len(axis)) == (0, pytest.approx(end), 41)


# ------------------------------------------------------------------------------------------------------------------------------ resuming

KILL = """
import os, signal, sys
from importlib import import_module
from rescore.cli import main
where, count = sys.argv.pop(1), int(sys.argv.pop(1))
module, name = where.rsplit(":", 1)
owner = import_module(module)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
whole, seen = getattr(owner, name.split(".")[-1]), []
def killing(*arguments, **options):
    seen.append(1)
    if len(seen) == count:
        if where.endswith("Journal.add"):  # in the middle of a line
            with arguments[0].path.open("ab") as file:
                file.write(b'0a1b2c3d {"chunk":"0123","values":[-1.2')
        if where.endswith("write"):  # in the middle of a file
            open(os.path.join(os.path.dirname(arguments[1]), ".dev.scored.jsonl.0123.part"), "w").write("half")
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **options)
setattr(owner, name.split(".")[-1], killing)
main()
"""


def process(*argv):
    return subprocess.run(
        [sys.executable, "-c", KILL, *map(str, argv)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def command(specs):
    return [
        "run",
        "--dev",
        "dev.jsonl",
        "--test",
        "test.jsonl",
        "--scorers",
        ",".join(specs[::2]),
        "--draws",
        "2",
    ]


@pytest.fixture
def whole(command, shared):
    """The files of a run that nobody killed."""
    if not shared:
        done = process("rescore.experiment:run", 0, *command, "-o", "whole")
        assert done.returncode == 0, done.stderr
        shared.update(contents("whole"))
        assert (
            len(shared) == 4 + 4 + 4 + 2 + 1 + 5
        )  # journals, weights, best lists, scored lists, run.json; two plots, their CSV, the table
    return shared


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.mark.parametrize(
    ("where", "count", "chunks"),
    [
        ("rescore.experiment.scoring:Journal.add", 1, 0),
        ("rescore.experiment.scoring:Journal.add", 3, 2),
        ("rescore.experiment.scoring:Journal.add", 10, 9),
        ("rescore.experiment.scoring:jsonl.write", 1, 26),
        ("rescore.experiment.results:plot_systems", 1, 26),
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(command, whole, where, count, chunks):
    killed = process(where, count, *command, "-o", "again")
    assert killed.returncode == -signal.SIGKILL
    assert not Path("again/systems.png").exists()
    assert (
        sum(path.read_bytes().count(b"\n") - 1 for path in Path("again/scores").glob("*")) == chunks
    )  # the first line says whose they are
    resumed = process("rescore.experiment:run", 0, *command, "-o", "again")
    assert resumed.returncode == 0, resumed.stderr
    assert contents("again") == whole


def test_a_finished_run_scores_nothing_again(specs, monkeypatch):
    first = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    monkeypatch.setattr(
        "rescore.scorers.ar.CausalScorer.evaluate",
        lambda *arguments: pytest.fail("a list was scored again"),
    )
    assert rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1]).table == first.table
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_a_damaged_journal_is_named_and_what_it_held_is_scored_again(specs, caplog):
    first = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    journal = Path("out/scores/dev.ar.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    for damaged in (
        b"[]\n",
        b"broken\n",
        b"".join([*lines[:2], lines[2].replace(b"values", b"valves"), *lines[3:]]),
        lines[0] + lines[1][:40] + b"\n",
    ):
        journal.write_bytes(damaged)
        caplog.clear()
        assert rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1]).table == first.table
        assert re.search(r"out/scores/dev.ar.journal(:\d+)?: (the header is )?damaged", caplog.text)


# ------------------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 2}, "with depth null and not 2"),
        ({"unit": "char"}, 'with unit "word" and not "char"'),
        ({"dtype": "float64"}, "with scorers "),
        ({"base": ("am",)}, r'with base \["am", "ngram"\] and not \["am"\]'),
    ],
)
def test_a_folder_of_other_settings_is_refused(specs, change, message):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    before = contents("out")
    with pytest.raises(
        FormatError, match=f"^out: belongs to another experiment, {message}.*; use another folder$"
    ):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1], **change)
    assert contents("out") == before


def test_a_folder_of_other_lists_is_refused(specs):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    write("dev.jsonl", [record("dev", number) for number in range(6)])
    with pytest.raises(FormatError, match=r"^out: belongs to another experiment, with dev lists "):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])


def test_a_folder_with_other_files_is_refused(specs):
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    for name, message in (
        ("full", "full: holds other files and no run.json"),
        ("dev.jsonl", "dev.jsonl: holds other files"),
    ):
        with pytest.raises(FormatError, match=message):
            rescore.run("dev.jsonl", "test.jsonl", name, scorers=specs[:1])
    Path("full/run.json").write_text("{")
    with pytest.raises(FormatError, match=r"full/run.json: broken JSON"):
        rescore.run("dev.jsonl", "test.jsonl", "full", scorers=specs[:1])
    assert sorted(path.name for path in Path("full").iterdir()) == ["run.json", "thesis.tex"]


def test_a_folder_in_use_is_refused(specs):
    fcntl = pytest.importorskip("fcntl")
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    with Path("out/run.json").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FormatError, match=r"^out: another run is at work in this folder"):
            rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])


def test_utterances_in_both_sets_are_refused(specs):
    write("test.jsonl", [record("test", 0), record("dev", 3), record("dev", 5)])
    with pytest.raises(
        FormatError,
        match=r"^test.jsonl:2: utterance dev-3: this utterance is also in the dev lists, as are 2 of the 3 test utterances;",
    ):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("scorers", "error", "message"),
    [
        (["ar", "ar"], RescoreError, 'two scores would be called "ar"; name one of them'),
        (["am=ar"], RescoreError, 'two scores would be called "am"'),
        (["all=ar"], RescoreError, 'two scores would be called "all"'),
        (["ar:"], RescoreError, "scorer 'ar:' is not written as"),
        (["../x=ar"], RescoreError, "scorer '../x=ar' is not written as"),
        (["magic"], RescoreError, "scorer 'magic' is unknown"),
        (["mdlm:magic"], ScoreError, "estimator 'magic' of --scorer mdlm is unknown"),
        (["mdlm@nowhere"], RescoreError, "nowhere: no such checkpoint directory"),
        ([], RescoreError, "there is no scorer"),
    ],
)
def test_scorers_that_cannot_work_are_one_line(scorers, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=tuple(scorers))
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_lists_that_were_scored_before_keep_their_scores_apart(specs):
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    halves = ("out/dev.scored.jsonl", "out/test.scored.jsonl")
    with pytest.raises(
        ScoreError, match=r'out/dev.scored.jsonl:1: utterance dev-0: score "ar" already exists'
    ):
        rescore.run(*halves, "more", scorers=specs[:2])
    assert rescore.run(*halves, "more", scorers=specs[1:2]).base == ("am", "ngram")


# ---------------------------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def dlm(capsys, monkeypatch):
    def call(*argv):
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "dlmrescore",
                "run",
                "--dev",
                "dev.jsonl",
                "--test",
                "test.jsonl",
                "-o",
                "out",
                *map(str, argv),
            ],
        )
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


def test_the_command_prints_the_table_and_says_what_it_does(dlm, specs):
    status, out, err = dlm("--scorers", specs[0], "--base", "am", "--depth", 2)
    assert (status, out) == (0, Path("out/table.md").read_text())
    assert err.splitlines()[0] == "the recogniser's scores: am"
    warnings = [line for line in err.splitlines() if ": warning: " in line]  # what `check` warns of
    assert [line[:31] for line in warnings] == [
        "dev: warning: tokens_unknown: 3",
        "test: warning: tokens_unknown: ",
    ]
    assert [
        re.sub(r"\d+ s$", "", line) for line in err.splitlines()[1:] if line not in warnings
    ] == [
        "ar on dev: 7 utterances, 14 hypotheses, ",
        "ar on test: 7 utterances, 14 hypotheses, ",
        "scored lists, weights, tables and plots are in out",
    ]


def test_fast_is_one_evaluation_a_hypothesis(dlm):
    assert dlm("--fast")[0] == 0
    chosen = json.loads(Path("out/run.json").read_text())
    assert (list(chosen["scorers"]), chosen["depth"]) == (["ar", "usdm_pll"], 20)
    rows = list(csv.DictReader(io.StringIO(Path("out/systems.csv").read_text())))
    assert [row["evaluations"] for row in rows] == ["", "", "1.0", "1.0", "2.0", ""]


@pytest.mark.parametrize(
    "argv",
    [["--fast", "--scorers", "ar"], ["--base", "am,am"], ["--depth", "0"], ["--dtype", "float8"]],
    ids=" ".join,
)
def test_a_usage_error_has_status_2(dlm, argv):
    status, out, err = dlm(*argv)
    assert (status, out) == (2, "")
    assert "Error: " in err
    assert not Path("out").exists()


def test_an_input_error_is_one_line_of_status_1(dlm):
    status, out, err = dlm("--base", "gone", "--fast")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        'dev.jsonl:1: utterance dev-0, hypothesis 1: score "gone" is missing'
    )
