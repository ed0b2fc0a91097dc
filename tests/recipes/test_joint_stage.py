"""Stage `joint` of the speech recipes, command by command in this process, on small posteriors."""

from __future__ import annotations

import json

import numpy as np
import oracle
import pytest
import report
import setting
from small import save_small
from small_posteriors import save_posteriors
from test_an4 import commands_of, run

from rescore.models.tokenizer import Tokenizer
from rescore.train.tokenizers import tokenizer_of

DEV = {"d1": "the old house", "d2": "she wrote a letter"}
TEST = {"t1": "no light", "t2": "we walked along"}


@pytest.fixture
def experiment(tmp_path):
    """What the stages before make: posteriors, references, an n-gram; and two language models."""
    (tmp_path / "data").mkdir()
    for part, texts in (("dev", DEV), ("test", TEST)):
        save_posteriors(tmp_path / f"{part}.safetensors", texts)
        lines = [f"{id} {text}\n" for id, text in texts.items()]
        (tmp_path / "data" / f"{part}.text").write_text("".join(lines))
    letters = tokenizer_of(tmp_path / "dev.safetensors")
    for objective in ("usdm", "mdlm", "ar"):
        save_small(tmp_path / objective, objective, tokenizer=letters)
    (tmp_path / "text").write_text("the old house\nno light\nwe walked along\n")
    text = str(tmp_path / "text")
    run("dlmrescore", "train", "ngram", "--text", text, "--valid", text, "-o", f"{tmp_path}/ngram")
    return tmp_path


@pytest.mark.slow
def test_the_stage_makes_its_table_and_plots(experiment):
    variables = {
        "STAGES": "decode joint",
        "STEPS": "1 2",
        "TIMES": "0.8",
        "SCALES": "0.3",
        "LIMIT": "2",
        "USDM": f"{experiment}/usdm",
        "MDLM": f"{experiment}/mdlm",
        "AR": f"{experiment}/ar",
    }
    for command in commands_of(experiment, experiment, experiment, **variables):
        run(*command)
    table = (experiment / "joint" / "joint.md").read_text()
    for _, title, _ in report.SYSTEMS:
        assert f"| {title} |" in table
    assert "| joint CTC-USDM, L = 2, t_start 0.8 |" in table
    assert "| joint + lm 0.9 |" in table
    for name in ("wer_evaluations.png", "wer_speed.png"):
        assert (experiment / "joint" / name).stat().st_size > 5000
    timing = json.loads((experiment / "joint" / "timing.json").read_text())
    assert set(timing["cpu_seconds"]) >= {"greedy", "joint", "+usdm", "steps2"}


def test_the_best_setting_becomes_options():
    record = {"best": {"setting": {"t_start": 0.3, "lm_scale": 1.0, "frame": "peak"}}}
    assert setting.options(record, [], []) == "--t-start 0.3 --lm-scale 1.0 --frame peak"
    assert setting.options(record, ["frame"], []) == "--frame peak"
    assert setting.options(record, [], ["frame"]) == "--t-start 0.3 --lm-scale 1.0"


def test_the_truth_of_a_draft_is_what_the_reference_has_there():
    assert oracle.truth_of([1, 2, 3], [1, 5, 3]).tolist() == [1, 5, 3]
    assert oracle.truth_of([1, 2, 3], [1, 3]).tolist() == [1, -1, 3]
    assert oracle.truth_of([1, 3], [1, 2, 3]).tolist() == [1, 3]
    assert oracle.truth_of([], [1]).tolist() == []


def test_a_language_model_that_knows_the_truth_gives_it_its_share():
    lm = np.log([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    ctc = np.zeros((2, 3))
    scales = oracle.InformedScales(0.0, 1.0, np.array([1, -1]), 0.4)
    expected = [[0.3, 0.55, 0.15], [0.2, 0.3, 0.5]]
    np.testing.assert_allclose(scales.combined(ctc, lm).exp(), expected, rtol=1e-12)


def test_with_the_truth_alone_nothing_is_wrong(experiment):
    """All oracles together leave no error: the draft has the length, the model knows the rest."""
    path = str(experiment / "test.safetensors")
    file = oracle.read_posteriors(path)
    model = oracle.open_denoiser("usdm", oracle.ScorerOptions(model=str(experiment / "usdm")))
    assert isinstance(model.vocabulary.tokenizer, Tokenizer)
    shared = oracle.joint_vocabulary(
        file.symbols, model.vocabulary.tokenizer, model.denoiser.vocab_size, path
    )
    side = oracle.Side(model, shared, 50.0)
    cases = [oracle.case_of(file[name], TEST[name], shared, known=True) for name in file]
    how = oracle.Joint(oracle.UniformSteps(0.3), 0.9)
    row = oracle.errors_of(side, cases, lambda case: how.joint(side, case, 0.999999))
    assert row["errors"] == 0
