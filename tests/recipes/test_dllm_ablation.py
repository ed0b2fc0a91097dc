"""recipes/dllm and recipes/decoders on tones: every system has its row, the files are written."""

from __future__ import annotations

import csv
import json
import sys

import ablation
import compare
import numpy as np
import pytest
from small import save_small
from small_prompted import small_prompted
from small_speech import TEXTS, manifest
from small_transcriber import small_transcriber
from test_an4 import commands_of, run

from rescore.acoustic.prompted import save_prompted
from rescore.acoustic.recogniser import save_recogniser
from rescore.acoustic.transcriber import save_transcriber

pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path):
    """Recordings, and a model of every kind that hears."""
    for part in ("dev", "test"):
        manifest(tmp_path, part, TEXTS[:3])
    save_prompted(small_prompted(), tmp_path / "dllm")
    save_prompted(small_prompted(causal=True), tmp_path / "dllm_twin")
    transcriber = small_transcriber()
    save_transcriber(transcriber, tmp_path / "mdm")
    save_transcriber(small_transcriber(causal=True), tmp_path / "mdm_twin")
    save_recogniser(transcriber.recogniser, tmp_path / "ctc")
    return tmp_path


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_word_costs_the_slope_of_the_line():
    words, seconds = np.array([1, 2, 4]), np.zeros((3, 3))
    seconds[:, 2] = (0.03, 0.05, 0.09)
    assert ablation.slope(words, seconds) == (20.0, 10.0)
    assert ablation.slope(np.array([2, 2, 2]), seconds)[0] == 0.0


@pytest.mark.slow
def test_the_ablation_has_a_row_for_every_part(folder, monkeypatch):
    for name, values in {"GATES": (0.9,), "MARGINS": (2,), "TAUS": (0.7, 0.9)}.items():
        monkeypatch.setattr(ablation, name, values)
    monkeypatch.setattr(ablation, "REVOKE", (0.3,))
    monkeypatch.chdir(folder)
    arguments = ["dev.tsv", "test.tsv", "--dllm", "dllm", "--twin", "dllm_twin", "--mdm", "mdm"]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments, "--limit", "2", "-o", "parts"])
    ablation.main()
    rows = {row["system"]: row for row in rows_of(folder / "parts.csv")}
    assert {"full", "without early exit", "with revocation", "AR twin, beam 10"} < rows.keys()
    assert float(rows["without early exit"]["rounds"]) >= float(rows["full"]["rounds"])
    chosen = json.loads((folder / "parts.json").read_text())
    assert chosen["with revocation"]["revoke"] == 0.3
    latency = rows_of(folder / "parts_latency.csv")
    assert [row["words"] for row in latency] == [str(len(text.split())) for text in TEXTS[:2]]
    assert (folder / "parts_latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_all_decoders_are_in_one_table_and_figure(folder, monkeypatch):
    for objective in ("ar", "usdm"):
        save_small(folder / objective, objective)
    models = [f"--model={name}={folder / name}" for name in ("ar", "usdm", "mdm", "mdm_twin")]
    models += [f"--model={name}={folder / name}" for name in ("dllm", "dllm_twin")]
    start = [str(folder), f"--recogniser={folder / 'ctc'}", *models, "--limit=2"]
    output = folder / "decoders"
    monkeypatch.setattr(sys, "argv", ["compare", *start, "-o", str(output)])
    compare.main()
    rows = rows_of(output / "decoders.csv")
    titles = list(dict.fromkeys(row["system"] for row in rows))
    assert titles[:2] == ["CTC greedy", "CTC beam"]
    assert "CTC beam + 3-gram" not in titles  # its model is not given
    assert [row["rescored"] for row in rows] == ["no", *["no", "yes"] * (len(titles) - 1)]
    assert all(float(row["rtfx"]) > 0 for row in rows)
    assert (output / "decoders.png").read_bytes().startswith(b"\x89PNG")
    seconds = json.loads((output / "timing.json").read_text())["cpu_seconds"]
    assert {"encoder", "greedy", "mdm_list", "dllm", "dllm_scores"} < seconds.keys()


@pytest.mark.slow
def test_the_stages_train_and_compare(folder):
    """`train_dllm` and `dllm_ablation` of run.sh, on the first two utterances."""
    (folder / "data").mkdir()
    for part in ("dev", "test"):
        (folder / "data" / f"{part}.tsv").write_text((folder / f"{part}.tsv").read_text())
    train = manifest(folder, "train", TEXTS)
    speech = [f"--audio={train}", f"--valid={folder / 'dev.tsv'}", "--speeds=1"]
    sizes = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24", "--steps=1"]
    where = [f"--corpus={folder / 'features'}", "-o", str(folder / "model")]
    run("dlmrescore", "train", "ctc", *speech, *sizes, "--float32", *where)
    variables = {
        "STAGES": "train_dllm dllm_ablation",
        "MODEL": str(folder / "model"),
        "DLLM_FIRST": "--stride 4 --steps 1 --float32",
        "DLLM": "--steps 1 --float32",
        "DLLM_LIMIT": "2",
    }
    for command in commands_of(folder, folder, folder, **variables):
        run(*command)
    rows = {row["system"] for row in rows_of(folder / "dllm_ablation.csv")}
    assert {"full", "from scratch", "AR twin, beam 10", "MDM-ASR network, full"} < rows
