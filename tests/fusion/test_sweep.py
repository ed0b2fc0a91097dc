"""A sweep against `fuse` and `evaluate` at every setting, its folds and intervals against their definitions, its CSV, plots and command."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import rescore
from rescore.cli import main
from rescore.cli.sweep_command import parse_range
from rescore.errors import FormatError, FusionError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.fusion import Fusion, fuse, recogniser_scores, save, tune
from rescore.report import sweep as report
from rescore.report.figures import check_plot
from rescore.report.sweep import plot_sweep, sweep_csv
from rescore.types import Hypothesis, NBest, Provenance
from rescore.wer import bootstrap_ci, evaluate

grid = sys.modules["rescore.fusion.sweep"]


def made_up(seed: int, utterances: int = 12, longest: int = 9, whole: bool = True) -> list[NBest]:
    """Lists whose three scores see the errors through noise; `whole` rounds them, so that ties and near-ties abound."""
    random = np.random.default_rng(seed)
    lists = []
    for number in range(utterances):
        ref = [str(word) for word in random.integers(0, 30, random.integers(2, 9))]
        hyps = []
        for _ in range(random.integers(1, longest + 1)):
            words = [random.choice(["x", "x y", word], p=[0.15, 0.1, 0.75]) for word in ref]
            wrong = sum("x" in word for word in words)
            scores = {
                name: float(-size * wrong + random.normal(0, 2 * size))
                for name, size in (("am", 3), ("ngram", 1), ("mdlm", 2))
            }
            hyps.append(
                Hypothesis(
                    " ".join(words),
                    {name: float(round(value)) for name, value in scores.items()}
                    if whole
                    else scores,
                )
            )
        lists.append(NBest(f"u{number}", tuple(hyps), " ".join(ref)))
    return lists


def errors_of(lists, fusion):
    return evaluate(fuse(lists, fusion)).errors.errors


# ------------------------------------------------------------------------------------------------------------------------------ counting


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("word_bonus", [None, 0.35, [-0.4, 0.0, 0.1, 0.3]])
def test_every_count_is_that_of_fuse_and_evaluate(seed, word_bonus):
    lists = made_up(seed)
    found = rescore.sweep(
        lists,
        {"ngram": parse_range("0:1:0.1"), "mdlm": parse_range("-0.3:1.2:0.3")},
        base={"am": 0.7},
        word_bonus=word_bonus,
        resamples=0,
    )
    assert found.errors.shape == (11, 6, 4)[: found.errors.ndim]
    counted = np.array(
        [errors_of(lists, found.fusion(index)) for index in np.ndindex(found.errors.shape)]
    )
    assert counted.reshape(found.errors.shape).tolist() == found.errors.tolist()
    assert len(set(counted)) > 2
    assert (
        found.wer.tolist()
        == (found.errors / sum(len(nbest.ref.split()) for nbest in lists)).tolist()
    )
    assert found.errors[found.best] == found.errors.min()


def test_lists_of_all_lengths_are_cut_into_blocks_that_change_nothing(monkeypatch):
    lists = [
        *made_up(0, 6, 60),
        *(NBest(f"v{nbest.id}", nbest.hyps, nbest.ref) for nbest in made_up(1, 20, 3)),
    ]
    scales = {"ngram": [0, 0.5, 1], "mdlm": np.linspace(0, 1, 9)}
    whole = rescore.sweep(lists, scales, base=["am"], cross_validate=3, resamples=50)
    monkeypatch.setattr(grid, "_PADDED", 8)
    monkeypatch.setattr(grid, "_HELD_AT_ONCE", 100)
    pieces = rescore.sweep(lists, scales, base=["am"], cross_validate=3, resamples=50)
    assert pieces.errors.tolist() == whole.errors.tolist()
    assert np.allclose(pieces.above_high, whole.above_high, rtol=0, atol=1e-12)
    assert pieces.folds == whole.folds


def test_the_optimum_is_the_line_search_between_the_ends():
    lists = made_up(3, 60, whole=False)
    found = rescore.sweep(
        lists,
        {"mdlm": np.linspace(0.2, 1.5, 40)},
        base={"am": 1.0, "ngram": 0.5},
        word_bonus=0.1,
        resamples=0,
    )
    assert 0.2 <= found.optimum["mdlm"] <= 1.5
    assert found.optimum_errors == errors_of(
        lists, Fusion({"am": 1.0, "ngram": 0.5, **found.optimum}, 0.1)
    )
    assert found.optimum_errors <= found.errors.min()  # one scale: the search is exact
    two = rescore.sweep(
        lists, {"mdlm": [0.0, 0.1], "word_bonus": [0.0, 0.2]}, base={"am": 1.0}, resamples=0
    )
    assert all(
        0 <= two.optimum[name] <= high for name, high in (("mdlm", 0.1), ("word_bonus", 0.2))
    )


def test_names_are_tuned_and_held_and_a_fusion_is_held_as_it_is():
    lists = made_up(4, 40)
    tuned = tune(lists, ["am", "ngram", "mdlm"])
    by_name = rescore.sweep(lists, {"mdlm": [0, 1]}, base=["am", "ngram"], resamples=0)
    assert by_name.held == {
        "am": 1.0,
        "ngram": tuned.scales["ngram"],
        "word_bonus": tuned.word_bonus,
    }
    assert rescore.sweep(lists, {"mdlm": [0, 1]}, base=tuned, resamples=0).held == by_name.held
    found = rescore.sweep(lists, {"mdlm": [0, 1]}, base=tuned, word_bonus=2, resamples=0)
    assert found.held["word_bonus"] == 2
    one = rescore.sweep(lists, {"mdlm": [0, 1], "ngram": [0.25]}, base=tuned, resamples=0)
    assert one.held["ngram"] == 0.25
    assert list(one.axes) == ["mdlm"]
    assert rescore.sweep(lists, {"mdlm": [0, 1]}, resamples=0).held.keys() == {
        "am",
        "ngram",
        "word_bonus",
    }  # the recogniser's, found; mdlm is swept


# ------------------------------------------------------------------------------------------------------------------------- uncertainty


def test_the_held_out_rate_chooses_each_fold_s_setting_on_the_others():
    lists, folds = made_up(5, 17), 4
    found = rescore.sweep(
        lists,
        {"ngram": [0, 0.2, 0.4, 0.6], "mdlm": [0, 0.3, 0.6]},
        base={"am": 1.0},
        cross_validate=folds,
        seed=3,
        resamples=0,
    )
    dealt = np.random.default_rng(3).permutation(len(lists)) % folds
    for k, fold in enumerate(found.folds):
        inside = [nbest for nbest, at in zip(lists, dealt, strict=True) if at == k]
        outside = [nbest for nbest, at in zip(lists, dealt, strict=True) if at != k]
        chosen = Fusion({"am": 1.0, **fold.weights})
        assert fold.errors == errors_of(inside, chosen)
        assert fold.reference_words == sum(len(nbest.ref.split()) for nbest in inside)
        assert errors_of(outside, chosen) == min(
            errors_of(outside, found.fusion(index)) for index in np.ndindex(4, 3)
        )
    assert found.held_out_wer == sum(fold.errors for fold in found.folds) / found.reference_words
    assert sum(fold.reference_words for fold in found.folds) == found.reference_words
    assert found.held_out_wer >= found.wer.min()


def test_of_equal_settings_the_middle_one_is_chosen():
    assert grid._middle(np.array([3, 1, 1, 1, 2])) == (2,)
    assert grid._middle(np.array([[5, 1, 1], [5, 1, 1], [5, 1, 9]])) == (1, 1)


def test_the_band_is_the_paired_bootstrap_of_the_distance_to_the_optimum():
    lists = made_up(6, 80)
    found = rescore.sweep(lists, {"mdlm": [0, 0.5, 4]}, base={"am": 1.0}, resamples=10_000)
    words = [len(nbest.ref.split()) for nbest in lists]

    def each(weights):
        return np.array(
            [
                evaluate(fuse([nbest], Fusion({"am": 1.0, **weights}))).errors.errors
                for nbest in lists
            ]
        )

    for i in range(3):
        low, high = bootstrap_ci(each(found.weights((i,))) - each(found.optimum), words)
        assert found.above_low[i] == pytest.approx(low, abs=0.05 * (high - low))
        assert found.above_high[i] == pytest.approx(high, abs=0.05 * (high - low))
    assert found.above_high.max() > 0


def test_equal_systems_are_not_told_apart():
    lists = [
        NBest(
            nbest.id,
            tuple(Hypothesis(hyp.text, {**hyp.scores, "none": 1.0}) for hyp in nbest.hyps),
            nbest.ref,
        )
        for nbest in made_up(7)
    ]
    found = rescore.sweep(lists, {"none": [0, 1, 2]}, base={"am": 1.0}, cross_validate=2)
    assert found.above_low.tolist() == found.above_high.tolist() == [0, 0, 0]
    assert found.held_out_wer == found.optimum_wer == found.wer[0]


# ------------------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("scales", "options", "error", "message"),
    [
        ({"mdlm": [1.0]}, {}, FusionError, "nothing is swept"),
        ({"mdlm": []}, {}, FusionError, "expected finite numbers"),
        ({"mdlm": [0, math.nan]}, {}, FusionError, "expected finite numbers"),
        ({"mdlm": [0, 1e308]}, {}, FusionError, "a total is too large for a float"),
        ({"am": [0, 1]}, {"base": {"am": 1.0}}, FusionError, "every score is swept"),
        ({"gone": [0, 1]}, {}, ScoreError, 'utterance u0, hypothesis 1: score "gone" is missing'),
        (
            {"mdlm": np.linspace(0, 1, 4000), "ngram": np.linspace(0, 1, 4000)},
            {},
            FusionError,
            "the grid has 16000000 settings",
        ),
        ({"mdlm": [0, 1]}, {"cross_validate": 13}, FusionError, "got 13 folds for 12 utterances"),
    ],
)
def test_what_cannot_be_swept_is_one_line(scales, options, error, message):
    with pytest.raises(error, match=message) as caught:
        rescore.sweep(made_up(0), scales, **{"base": {"am": 1.0}, **options})
    assert "\n" not in str(caught.value)


def test_lists_have_references_words_and_one_way_of_scoring():
    [first, *others] = made_up(0)
    scales, base = {"mdlm": [0, 1]}, {"am": 1.0}
    with pytest.raises(FormatError, match=r"the reference .* is missing"):
        rescore.sweep([first, NBest("x", first.hyps)], scales, base=base)
    with pytest.raises(FormatError, match="hold no words"):
        rescore.sweep([NBest("x", first.hyps, "")], scales, base=base)
    with pytest.raises(FormatError, match="there are no lists"):
        rescore.sweep([], scales, base=base)
    made = NBest(
        first.id, first.hyps, first.ref, provenance={"mdlm": Provenance({"signature": "a"})}
    )
    with pytest.raises(
        FusionError, match='score "mdlm" was made by "unknown", earlier ones by "a"'
    ):
        rescore.sweep([made, *others], scales, base=base)
    with pytest.raises(FusionError, match='the weights were tuned with "b"'):
        rescore.sweep([made], scales, base=Fusion({"am": 1, "mdlm": 1}, signatures={"mdlm": "b"}))
    assert rescore.sweep([made], scales, base=base).fusion((0,)).signatures == {"mdlm": "a"}


def test_the_recogniser_s_scores_are_those_that_all_have_and_nobody_made():
    def one(*scores, made=()):
        return NBest(
            "u",
            tuple(Hypothesis("x", dict.fromkeys(names, 0.0)) for names in scores),
            provenance={name: Provenance({}) for name in made},
        )

    assert recogniser_scores(
        [one(("am", "ngram", "x"), ("ngram", "am")), one(("am", "ngram"))]
    ) == ("am", "ngram")
    assert recogniser_scores([one(("am", "mdlm_nelbo", "rank"), made=["mdlm_nelbo"])]) == ("am",)
    assert recogniser_scores([one(("rank",)), one(("rank",))]) == ("rank",)
    assert recogniser_scores([one(("am",)), one(())]) == ("rank",)


# ---------------------------------------------------------------------------------------------------------------------- CSV and plots


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, not written."""
    figures = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def swept(axes=1, **options):
    scales = {"mdlm": [0, 0.25, 0.5, 1], "ngram": [0, 0.5, 2]}
    return rescore.sweep(
        made_up(8, 30), dict(list(scales.items())[:axes]), base={"am": 1.0}, **options
    )


def test_the_csv_holds_everything():
    found = swept(2, cross_validate=3, word_bonus=0.5)
    rows = list(csv.DictReader(io.StringIO(sweep_csv(found))))
    assert list(rows[0]) == [
        "point",
        "am",
        "mdlm",
        "ngram",
        "word_bonus",
        "errors",
        "reference_words",
        "wer",
        "above_low",
        "above_high",
    ]
    cells = [row for row in rows if row["point"] == "grid"]
    for index, row in zip(np.ndindex(4, 3), cells, strict=True):
        assert {name: float(row[name]) for name in ("mdlm", "ngram")} == found.weights(index)
        assert (float(row["am"]), float(row["word_bonus"])) == (1.0, 0.5)
        assert (int(row["errors"]), float(row["wer"])) == (found.errors[index], found.wer[index])
        assert (float(row["above_low"]), float(row["above_high"])) == (
            found.above_low[index],
            found.above_high[index],
        )
    [best, *folds] = rows[12:]
    assert (best["point"], int(best["errors"]), float(best["ngram"])) == (
        "line_search",
        found.optimum_errors,
        found.optimum["ngram"],
    )
    assert [row["point"] for row in folds] == ["fold_1", "fold_2", "fold_3"]
    assert (
        sum(int(row["errors"]) for row in folds) / sum(int(row["reference_words"]) for row in folds)
        == found.held_out_wer
    )


def test_a_curve_draws_the_numbers_of_the_csv(drawn):
    found = swept(1, cross_validate=3)
    plot_sweep(sweep_csv(found), "x.png")
    [axes] = drawn[0].axes
    curve, _, optimum, folds = axes.lines
    assert curve.get_xdata().tolist() == [0, 0.25, 0.5, 1]
    assert curve.get_ydata().tolist() == (100 * found.wer).tolist()
    assert (optimum.get_xdata()[0], optimum.get_ydata()[0]) == (
        found.optimum["mdlm"],
        100 * found.optimum_wer,
    )
    assert folds.get_xdata().tolist() == [fold.weights["mdlm"] for fold in found.folds]
    [band] = axes.collections
    reached = band.get_paths()[0].vertices[:, 1]
    assert reached.min() == pytest.approx(
        100 * (found.optimum_wer + found.above_low.min()), abs=1e-12
    )
    assert reached.max() == pytest.approx(
        100 * (found.optimum_wer + found.above_high.max()), abs=1e-12
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scale of mdlm", "WER (%)")
    assert "held: am 1, word bonus 0" in axes.get_title(loc="left")
    assert f"{100 * found.held_out_wer:.2f} % held out (3 folds)" in axes.get_title(loc="left")


def test_a_heat_map_has_the_first_axis_across_and_the_second_up(drawn):
    found = swept(2, unit="char")
    plot_sweep(sweep_csv(found), "x.png")
    axes, bar = drawn[0].axes
    assert axes.collections[0].get_array().tolist() == (100 * found.wer.T).tolist()
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == (
        "scale of mdlm",
        "scale of ngram",
        "CER (%)",
    )
    assert axes.lines[-1].get_xydata().tolist() == [[found.optimum["mdlm"], found.optimum["ngram"]]]


def test_more_than_two_axes_show_the_best_slice(drawn):
    found = swept(2, word_bonus=[-1, 0, 1, 2], resamples=0)
    plot_sweep(sweep_csv(found), "x.png")
    best = np.unravel_index(found.errors.argmin(), found.errors.shape)[2]
    assert (
        drawn[0].axes[0].collections[0].get_array().tolist()
        == (100 * found.wer[:, :, best].T).tolist()
    )
    assert f"word bonus {[-1, 0, 1, 2][best]} (best of the grid: word bonus)" in drawn[0].axes[
        0
    ].get_title(loc="left")


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
@pytest.mark.parametrize("axes", [1, 2])
def test_equal_plots_are_equal_bytes(tmp_path, suffix, start, axes):
    text = sweep_csv(swept(axes, cross_validate=2))
    for name in ("a", "b"):
        plot_sweep(text, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_missing_matplotlib_is_one_line(monkeypatch):
    monkeypatch.setattr("rescore.report.figures.find_spec", lambda name: None)
    with pytest.raises(
        RescoreError, match=r"plots need matplotlib, .* pip install 'dlmrescore\[plot\]'"
    ):
        check_plot("x.png")


# -------------------------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def dlm(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jsonl.write(made_up(9, 20), "dev.jsonl")

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", "sweep", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:0.2:0.05", [0, 0.05, 0.1, 0.15, 0.2]),
        ("0:1:0.3", [0, 0.3, 0.6, 0.9]),
        ("-1:1:1", [-1, 0, 1]),
        ("2", [2]),
        ("1:1:1", [1]),
        ("0:2e1:1e1", [0, 10, 20]),
    ],
)
def test_a_range_holds_both_ends_in_decimal(text, values):
    assert parse_range(text) == values


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scale", "mdlm=0:2"], "got '0:2', expected low:high:step"),
        (["--scale", "mdlm=0:2:x"], "got '0:2:x', expected low:high:step"),
        (["--scale", "mdlm=0:2:0"], "expected a step above 0"),
        (["--scale", "mdlm=2:0:1"], "an end that is not below the start"),
        (["--scale", "mdlm=0:inf:1"], "got '0:inf:1', expected low:high:step"),
        (["--scale", "mdlm=0:2:1e-9"], "which has more than 1000000 values"),
        (["--scale", "mdlm"], "expected NAME=low:high:step"),
        (["--scale", "=0:1:1"], "expected NAME=low:high:step"),
        (["--scale", "mdlm=0:1:1", "--scale", "mdlm=0:2:1"], "the score 'mdlm' is there twice"),
        (["--scale", "mdlm=0:1:1", "--base", "am,am"], "expected different names"),
        (["--scale", "mdlm=0:1:1", "--base", "am=1,ngram"], "all with scales"),
        (["--scale", "mdlm=0:1:1", "--base", "am=one"], "a scale is not a number"),
        (["--scale", "mdlm=0:1:1", "--word-bonus", "low"], "got 'low'"),
        (
            ["--scale", "mdlm=0:1:1", "--base", "am", "--fusion", "f.json"],
            "--base and --fusion both say",
        ),
        ([], "Missing option '--scale'"),
    ],
)
def test_a_range_that_is_none_is_a_usage_error_of_one_line(dlm, argv, message):
    status, out, err = dlm("dev.jsonl", *argv)
    assert (status, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert message in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scale", "mdlm=1"], "nothing is swept"),
        (["--scale", "mdlm=0:1:1", "--plot", "x.jpg"], "x.jpg: not a name for a plot"),
        (
            ["--scale", "mdlm=0:1:1", "--plot", "out.svg", "-o", "out.svg"],
            "out.svg: is also the input",
        ),
        (["--scale", "mdlm=0:1:1", "--fusion", "gone.json"], "gone.json: cannot be read"),
        (
            ["--scale", "gone=0:1:1", "--base", "am"],
            'dev.jsonl:1: utterance u0, hypothesis 1: score "gone" is missing',
        ),
    ],
)
def test_an_input_error_is_one_line_and_leaves_nothing(dlm, argv, message):
    status, out, err = dlm("dev.jsonl", *argv)
    assert (status, out) == (1, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["dev.jsonl"]


def test_the_command_writes_the_csv_and_the_plot_of_the_python_call(dlm):
    lists = list(rescore.read("dev.jsonl"))
    status, out, err = dlm(
        "dev.jsonl",
        "--scale",
        "mdlm=0:1:0.25",
        "--scale",
        "ngram=0:1:0.5",
        "--base",
        "am",
        "--cross-validate",
        4,
        "--plot",
        "x.png",
    )
    found = rescore.sweep(
        lists,
        {"mdlm": parse_range("0:1:0.25"), "ngram": parse_range("0:1:0.5")},
        base=["am"],
        cross_validate=4,
    )
    assert (status, out) == (0, sweep_csv(found))
    assert err.startswith(f"lowest error rate {100 * found.wer.min():.2f} % at mdlm ")
    assert (
        f"{100 * found.held_out_wer:.2f} held out (line search {100 * found.optimum_wer:.2f}); held: am 1, word_bonus"
        in err
    )
    assert "; 15 settings, " in err
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")

    save(tune(lists, ["am", "ngram", "mdlm"]), "fusion.json")
    assert (
        dlm("dev.jsonl", "--scale", "mdlm=0:1:0.5", "--fusion", "fusion.json", "-o", "sweep.csv")[0]
        == 0
    )
    weights = json.loads(Path("fusion.json").read_text())
    [row, *_] = csv.DictReader(io.StringIO(Path("sweep.csv").read_text()))
    assert (float(row["ngram"]), float(row["word_bonus"])) == (
        weights["scales"]["ngram"],
        weights["word_bonus"],
    )
