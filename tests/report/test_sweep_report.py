"""The CSV of a sweep holds everything; its plots draw the numbers of the CSV."""

import csv
import io

import numpy as np
import pytest
from tuning_problems import made_up_lists

import rescore
from rescore.errors import RescoreError
from rescore.report import sweep as report
from rescore.report.figures import check_plot
from rescore.report.sweep import plot_sweep, sweep_csv


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, not written."""
    figures = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def swept(axes=1, **options):
    scales = {"mdlm": [0, 0.25, 0.5, 1], "ngram": [0, 0.5, 2]}
    return rescore.sweep(
        made_up_lists(8, 30), dict(list(scales.items())[:axes]), base={"am": 1.0}, **options
    )


def test_the_csv_holds_everything():
    result = swept(2, cross_validate=3, word_bonus=0.5)
    rows = list(csv.DictReader(io.StringIO(sweep_csv(result))))
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
        assert {name: float(row[name]) for name in ("mdlm", "ngram")} == result.weights(index)
        assert (float(row["am"]), float(row["word_bonus"])) == (1.0, 0.5)
        assert (int(row["errors"]), float(row["wer"])) == (result.errors[index], result.wer[index])
        assert (float(row["above_low"]), float(row["above_high"])) == (
            result.above_low[index],
            result.above_high[index],
        )
    [best, *folds] = rows[12:]
    assert (best["point"], int(best["errors"]), float(best["ngram"])) == (
        "line_search",
        result.optimum_errors,
        result.optimum["ngram"],
    )
    assert [row["point"] for row in folds] == ["fold_1", "fold_2", "fold_3"]
    assert (
        sum(int(row["errors"]) for row in folds) / sum(int(row["reference_words"]) for row in folds)
        == result.held_out_wer
    )


def test_a_curve_draws_the_numbers_of_the_csv(drawn):
    result = swept(1, cross_validate=3)
    plot_sweep(sweep_csv(result), "x.png")
    [axes] = drawn[0].axes
    curve, _, optimum, folds = axes.lines
    assert curve.get_xdata().tolist() == [0, 0.25, 0.5, 1]
    assert curve.get_ydata().tolist() == (100 * result.wer).tolist()
    assert (optimum.get_xdata()[0], optimum.get_ydata()[0]) == (
        result.optimum["mdlm"],
        100 * result.optimum_wer,
    )
    assert folds.get_xdata().tolist() == [fold.weights["mdlm"] for fold in result.folds]
    [band] = axes.collections
    reached = band.get_paths()[0].vertices[:, 1]
    assert reached.min() == pytest.approx(
        100 * (result.optimum_wer + result.above_low.min()), abs=1e-12
    )
    assert reached.max() == pytest.approx(
        100 * (result.optimum_wer + result.above_high.max()), abs=1e-12
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scale of mdlm", "WER (%)")
    assert "held: am 1, word bonus 0" in axes.get_title(loc="left")
    assert f"{100 * result.held_out_wer:.2f} % held out (3 folds)" in axes.get_title(loc="left")


def test_a_heat_map_has_the_first_axis_across_and_the_second_up(drawn):
    result = swept(2, unit="char")
    plot_sweep(sweep_csv(result), "x.png")
    axes, bar = drawn[0].axes
    assert axes.collections[0].get_array().tolist() == (100 * result.wer.T).tolist()
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == (
        "scale of mdlm",
        "scale of ngram",
        "CER (%)",
    )
    assert axes.lines[-1].get_xydata().tolist() == [
        [result.optimum["mdlm"], result.optimum["ngram"]]
    ]


def test_more_than_two_axes_show_the_best_slice(drawn):
    result = swept(2, word_bonus=[-1, 0, 1, 2], resamples=0)
    plot_sweep(sweep_csv(result), "x.png")
    best = np.unravel_index(result.errors.argmin(), result.errors.shape)[2]
    assert (
        drawn[0].axes[0].collections[0].get_array().tolist()
        == (100 * result.wer[:, :, best].T).tolist()
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
    with pytest.raises(RescoreError, match=r"plots need matplotlib, .* pip install '.\[plot\]'"):
        check_plot("x.png")
