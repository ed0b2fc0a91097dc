"""recipes/mdm/curves.py on tones: every kind of system has its row, and the files are written."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest
from small_speech import TEXTS, manifest
from small_transcriber import small_transcriber

from rescore.acoustic.recogniser import save_recogniser
from rescore.acoustic.transcriber import save_transcriber

pytest.importorskip("matplotlib")
SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "mdm" / "curves.py"


def test_every_kind_of_system_is_measured(tmp_path, monkeypatch):
    audio = manifest(tmp_path, "dev", TEXTS[:3])
    transcriber = small_transcriber()
    save_transcriber(transcriber, tmp_path / "mdm")
    save_transcriber(small_transcriber(causal=True), tmp_path / "twin")
    save_recogniser(transcriber.recogniser, tmp_path / "ctc")
    models = [f"--{name}={tmp_path / name}" for name in ("mdm", "twin", "ctc")]
    output = tmp_path / "curves"
    chosen = r"top_k [28]$|mask-ctc 0.9$|x3|twin"
    options = ["--candidates", "3", "--limit", "1", "--only", chosen, "-o", str(output)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(audio), *models, *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    result = json.loads((tmp_path / "curves.json").read_text())
    rows = {row["system"]: row for row in result["rows"]}
    alone, joint = rows["ctc greedy, encoder alone"], rows["ctc greedy, jointly trained"]
    assert alone["wer"] == joint["wer"]  # the encoder is the same here
    assert rows["mdm top_k 2"]["evaluations"] <= 2 < rows["mdm top_k 8"]["evaluations"] <= 8
    assert rows["mdm random_remask x3, oracle"]["wer"] <= rows["mdm random_remask x3"]["wer"]
    assert {"mdm random_remask x3, MBR", "mask-ctc 0.9", "twin greedy"} < rows.keys()
    assert rows["twin beam 10"]["evaluations"] > rows["twin greedy"]["evaluations"]
    assert all(row["rtfx_batched"] > 0 for row in rows.values() if "rtfx_batched" in row)
    assert [part["mask_ratio"] for part in result["calibration"]] == [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
    with (tmp_path / "curves.csv").open() as file:
        assert [line["system"] for line in csv.DictReader(file)] == list(rows)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
