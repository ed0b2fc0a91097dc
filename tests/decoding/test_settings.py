"""Search for settings: one run that says what as many runs would say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from small import save_small
from small_posteriors import TEXTS, save_posteriors

from rescore.cli import cli
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.settings import search_settings
from rescore.errors import FormatError, ScoreError
from rescore.pipeline.decoding import decode
from rescore.train.tokenizers import tokenizer_of
from rescore.wer.evaluation import evaluate

GRIDS = {
    "joint": {
        "t_start": [0.1, 0.6],
        "steps": [1, 2],
        "lm_scale": [0.0, 3.0],
        "final": ["argmax", "sample"],
        "drafts": [1, 3],
        "edits": [None, 1],
    },
    "joint_mdlm": {"hide_below": [0.3, 0.9], "lm_scale": [0.3, 3.0], "frame": ["first", "peak"]},
    "ctc_beam": {"count": [1, 3], "beam": [6, 8]},
}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_posteriors(tmp_path / "p.safetensors")
    letters = tokenizer_of(tmp_path / "p.safetensors")
    for objective in ("usdm", "mdlm"):
        save_small(tmp_path / objective, objective, tokenizer=letters)
    (tmp_path / "text").write_text("".join(f"{id} {text}\n" for id, text in TEXTS.items()))


def options_of(method):
    model = {"joint": "usdm", "joint_mdlm": "mdlm"}.get(method)
    return DecoderOptions(model=model)


@pytest.mark.parametrize("method", GRIDS)
def test_every_setting_is_a_run_of_its_own(method):
    search = search_settings(method, "p.safetensors", options_of(method), GRIDS[method], TEXTS)
    total = 0
    for result in search.results:
        options = DecoderOptions(**{"model": options_of(method).model, **result.setting})
        lists = list(decode(load_decoder(method, "p.safetensors", options), references=TEXTS))
        evaluation = evaluate(lists)
        assert result.errors == evaluation.errors
        assert result.oracle_errors / result.errors.reference_words == evaluation.oracle_wer
        counts = [nbest.raw.get("evaluations") for nbest in lists]
        assert result.evaluations == (None if method == "ctc_beam" else sum(counts))
        total += result.evaluations or 0
    assert search.best.errors.errors == min(each.errors.errors for each in search.results)
    if method == "ctc_beam":
        assert search.evaluations is None
    else:
        assert search.evaluations < total  # shared


def test_scales_frames_and_decisions_share_one_evaluation():
    grid = {"lm_scale": [0.1, 0.3, 1.0], "frame": ["first", "peak"], "final": ["argmax", "sample"]}
    search = search_settings("joint", "p.safetensors", options_of("joint"), grid, TEXTS)
    assert len(search.results) == 12
    assert search.evaluations == len(TEXTS)


def test_of_equal_settings_the_cheaper_one_is_best():
    grid = {"steps": [3, 1], "lm_scale": [0.0]}
    search = search_settings("joint", "p.safetensors", options_of("joint"), grid, TEXTS)
    assert search.best.setting["steps"] == 1


def test_the_command_writes_all_settings_and_names_the_best():
    arguments = ["--method", "joint", "--model", "usdm", "--refs", "text", "-o", "grid.json"]
    grid = ["--grid", "t-start=0.1,0.6", "--grid", "lm_scale=0.3,3"]
    done = CliRunner().invoke(cli, ["decode", "p.safetensors", *arguments, *grid])
    assert done.exit_code == 0, done.output
    record = json.loads(Path("grid.json").read_text())
    assert len(record["settings"]) == 4
    assert record["best"] in record["settings"]
    assert "4 settings, 4 utterances, 8 network evaluations (16 one by one)" in done.stderr
    assert f"best: {record['command']}" in done.stderr
    command = record["command"].replace("FILE", "p.safetensors").replace("OUTPUT", "best.jsonl")
    done = CliRunner().invoke(cli, [*command.split()[1:], "--refs", "text"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["eval", "best.jsonl", "--json"])
    assert json.loads(done.stdout)["wer"] == record["best"]["wer"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "lm_scale=0.1,x"], "'x' is not a valid float"),
        (["--grid", "lm_scale"], "expected OPTION=VALUE,VALUE"),
        (["--grid", "model=a,b"], "with one of beam, candidates, "),
        (["--grid", "lm_scale=1", "--grid", "lm-scale=2"], "'lm_scale' is given twice"),
        (["--grid", "update=magic"], "'magic' is not one of"),
        (["--grid", "steps=1"], "give --refs"),
        (["--grid", "steps=1", "--refs", "text", "--shard", "0/2"], "leave --shard"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, message):
    command = ["decode", "p.safetensors", "--method", "joint", "--model", "usdm", "-o", "g.json"]
    done = CliRunner().invoke(cli, [*command, *arguments])
    assert done.exit_code in (1, 2)
    assert message in done.output


def test_a_search_needs_every_reference_and_known_options():
    with pytest.raises(FormatError, match="utterance u2: there is no reference"):
        search_settings("joint", "p.safetensors", options_of("joint"), {"steps": [1]}, {"u1": "a"})
    with pytest.raises(ScoreError, match="'model' cannot be searched"):
        search_settings("joint", "p.safetensors", options_of("joint"), {"model": ["a"]}, TEXTS)
    with pytest.raises(ScoreError, match="joint does not read --commit"):
        search_settings("joint", "p.safetensors", DecoderOptions(), {"commit": ["top_k"]}, TEXTS)
    with pytest.raises(ScoreError, match="no values"):
        search_settings("joint", "p.safetensors", options_of("joint"), {"steps": []}, TEXTS)
