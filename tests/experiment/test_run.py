"""The whole experiment: the numbers of its steps, the table, the files."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from small_experiment import record, write

import rescore
from rescore.errors import FormatError, ScoreError
from rescore.experiment.results import axis as sweep_axis
from rescore.fusion import load
from rescore.report.systems import plot_systems


def test_the_numbers_are_those_of_the_steps_one_by_one(specs, models):
    said = []
    results = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs, draws=3, say=said.append)
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
    assert [system.scores for system in results.systems] == [
        (),
        (),
        ("ar",),
        ("usdm_pll",),
        ("again",),
        ("ar", "usdm_pll", "again"),
    ]
    assert results.systems[0].test == rescore.evaluate(rescore.read("test.jsonl"))
    for system, group in zip(
        results.systems[1:], ("base", "ar", "usdm_pll", "again", "all"), strict=True
    ):
        fusion = rescore.tune(halves["dev"], ["am", "ngram", *system.scores], cross_validate=5)
        assert load(f"out/fusion.{group}.json") == fusion
        best = list(rescore.fuse(halves["test"], fusion))
        assert system.test == rescore.evaluate(best, retuned)
        assert (system.dev_wer, system.held_out_wer) == (
            fusion.dev.wer,
            fusion.dev.cross_validated_wer,
        )
        assert [nbest.hyps[0].text for nbest in rescore.read(f"out/best.{group}.jsonl")] == [
            nbest.hyps[0].text for nbest in best
        ]
        retuned = retuned or best
    assert [system.evaluations for system in results.systems] == [None, None, 1, 1, 3, 5]


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
    results = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:2])
    assert Path("out/table.md").read_text() == results.table
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in results.table.splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == [
        "system",
        "WER %",
        "95 % interval",
        "dev CV",
        "kept",
        "first",
        "tuned",
    ]
    added = ["am + ngram, retuned", "+ ar", "+ usdm_pll", "+ all of them"]
    costs = rows[8:]
    assert [row[0] for row in rows[2:8]] == ["first of the list", *added, "oracle of the lists"]
    assert costs[0] == ["system", "closed", "evaluations", "seconds"]
    assert [row[0] for row in costs[2:]] == added
    assert max(len(line) for line in results.table.splitlines()) <= 80
    table = list(csv.DictReader(io.StringIO(Path("out/systems.csv").read_text())))
    for row, cells, system in zip(rows[2:7], table, results.systems, strict=False):
        assert float(row[3]) == round(100 * system.held_out_wer, 2)
        assert (row[1], float(cells["wer"])) == (f"{100 * system.test.wer:.2f}", system.test.wer)
        assert (float(cells["low"]), float(cells["high"])) == system.test.ci95
    with_ar = results.systems[2]
    assert rows[4][4:] == [
        with_ar.kept,
        f"{with_ar.test.first_pass.probability_better:.3f}",
        f"{with_ar.test.comparison.probability_better:.3f}",
    ]
    assert costs[3][1:3] == [f"{round(100 * with_ar.test.first_pass.oracle_gap_closed)} %", "1.0"]
    assert float(table[-1]["wer"]) == results.systems[0].test.oracle_wer
    for name in ("systems.png", "sweep.png"):
        assert Path("out", name).read_bytes().startswith(b"\x89PNG")
    assert list(results.sweep.axes) == sorted(
        ("ar", "usdm_pll"),
        key=lambda name: results.systems[2 + ("ar", "usdm_pll").index(name)].dev_wer,
    )
    assert results.sweep.held.keys() == {"am", "ngram", "word_bonus"}


def test_the_plot_of_the_systems_draws_the_csv(specs, monkeypatch):
    results = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1], unit="char")
    drawn = []
    monkeypatch.setattr(
        "rescore.report.systems.save_figure", lambda figure, path: drawn.append(figure)
    )
    plot_systems(Path("out/systems.csv").read_text(), "x.png")
    [axes] = drawn[0].axes
    assert axes.lines[0].get_xdata().tolist() == [
        100 * system.test.wer for system in results.systems
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        system.name for system in results.systems
    ]
    assert axes.lines[0].get_ydata().tolist() == [2, 1, 0]  # from above
    segments = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert segments == [[100 * end for end in system.test.ci95] for system in results.systems]
    assert axes.lines[1].get_xdata() == [100 * results.systems[0].test.oracle_wer] * 2
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
    results = rescore.run(
        "dev.jsonl",
        "test.jsonl",
        "out",
        scorers=specs[:1],
        refs_dev="dev.txt",
        refs_test="test.txt",
        depth=2,
    )
    assert results.base == ("rank",)
    assert [len(nbest.hyps) for nbest in rescore.read("out/dev.scored.jsonl")] == [2] * 7


def rename_scores(half, **names):
    """Give the scores of a half other names; the empty name removes one."""
    records = []
    for number in range(7):
        item = record(half, number)
        for hyp in item["hyps"]:
            hyp["scores"] = {
                names.get(name, name): value
                for name, value in hyp["scores"].items()
                if names.get(name) != ""
            }
        records.append(item)
    write(f"{half}.jsonl", records)


def test_halves_whose_scores_have_other_names_are_refused(specs):
    rename_scores("test", am="acoustic", ngram="lm")
    with pytest.raises(ScoreError, match="dev has am, ngram; test has acoustic, lm; give the same"):
        rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])


def test_a_score_of_one_half_alone_is_left_out_aloud(specs):
    rename_scores("test", ngram="")
    said = []
    results = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1], say=said.append)
    assert results.base == ("am",)
    assert said[0] == "warning: only dev has the score ngram: it is left out"


def test_without_matplotlib_everything_but_the_plots_is_there(specs, monkeypatch, caplog):
    monkeypatch.setattr("rescore.report.figures.find_spec", lambda name: None)
    rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    assert {"systems.csv", "sweep.csv", "table.md"} <= {path.name for path in Path("out").iterdir()}
    assert not list(Path("out").glob("*.png"))
    assert "pip install '.[plot]'" in caplog.text


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


def test_folds_reach_the_scorers_that_read_them(models):
    specs = (f"mdlm:pll@{models['mdlm']}", f"usdm:pll@{models['usdm']}")
    results = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs, folds=2)
    scored = next(rescore.read("out/dev.scored.jsonl"))
    assert "|folds=2|" in scored.provenance["mdlm_pll"].signature
    assert "folds" not in scored.provenance["usdm_pll"].signature
    assert [system.scores for system in results.systems][2] == ("mdlm_pll",)
