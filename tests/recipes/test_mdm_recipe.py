"""The scripts of recipes/mdm on tones: curves of every kind of system, truths, other places."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from small_speech import TEXTS, manifest
from small_transcriber import small_transcriber

from rescore.acoustic.recogniser import save_recogniser
from rescore.acoustic.transcriber import save_transcriber
from rescore.models.audio_network import AudioNetwork

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


def test_the_truth_is_put_in_for_one_part_after_the_other(tmp_path, monkeypatch):
    audio = manifest(tmp_path, "dev", TEXTS[:3])
    save_transcriber(small_transcriber(), tmp_path / "mdm")
    save_transcriber(small_transcriber(causal=True), tmp_path / "twin")
    models = [f"--{name}={tmp_path / name}" for name in ("mdm", "twin")]
    run_script("oracle.py", [str(audio), *models, "-o", str(tmp_path / "o.json")], monkeypatch)
    result = json.loads((tmp_path / "o.json").read_text())
    every = {"as decoded", "length", "places", "length, places", "order", "own places"}
    assert every < result["mdm"].keys()
    assert result["twin"].keys() == {"as decoded", "places"}
    assert 0 <= result["lengths"]["utterances with another length"] <= 1


def test_a_command_runs_with_other_places_of_frames(tmp_path, monkeypatch):
    audio = manifest(tmp_path, "dev", TEXTS[:3])
    save_transcriber(small_transcriber(scale=4.0), tmp_path / "mdm")
    monkeypatch.setattr(AudioNetwork, "remember", AudioNetwork.remember)  # restored at the end
    decode = ["decode", str(audio), "--method=mdm", f"--model={tmp_path / 'mdm'}", "-o"]
    features = torch.randn(2, 80, 80, generator=torch.Generator().manual_seed(0))
    memories = []
    for kind in ("emitted", "none"):
        output = tmp_path / f"{kind}.jsonl"
        with pytest.raises(SystemExit) as ended:
            run_script("places.py", [kind, *decode, str(output)], monkeypatch)
        assert ended.value.code == 0
        assert output.exists()
        with torch.no_grad():
            network = small_transcriber(scale=4.0).network
            memories.append(network.hear(features, torch.tensor([80, 60])).memory.states)
    assert not torch.allclose(*memories)
    scaled = runpy.run_path(str(SCRIPT.with_name("places.py")))["places_of"](
        "scaled", torch.tensor([[0.0, 1.0, 2.0], [1.0, 3.0, 9.0]]), torch.tensor([3, 2])
    )
    assert scaled[0].tolist() == pytest.approx([2 / 3, 4 / 3, 2])
    assert scaled[1, :2].tolist() == [1.5, 3.0]


def run_script(name, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(SCRIPT.with_name(name)), run_name="__main__")
