"""What a decoder that listens is worth: error rates, evaluations and speed, setting by setting.

    python curves.py test.tsv --mdm runs/mdm --twin runs/twin --ctc runs/ctc -o curves

One process, one thread of a CPU unless --device says otherwise. Each system transcribes the whole
manifest once, in chunks of 16; --limit utterances are timed one by one (batch 1). Seconds are CPU
seconds, on a GPU those of the clock, audio and encoder included, loading not. Lists of several
candidates are judged by their first hypothesis, by MBR (all alike), by the network's own NELBO and
by their best hypothesis. Writes OUTPUT.csv, OUTPUT.json (with the calibration) and OUTPUT.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rescore.acoustic.ctc import collapse
from rescore.acoustic.listening import AudioDenoiser, Listened, hear_all
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.recogniser import load_recogniser
from rescore.acoustic.transcriber import load_transcriber
from rescore.cli.decode_command import decoder_of
from rescore.decoding.base import Decoder
from rescore.formats import jsonl
from rescore.fusion.decisions import mbr_choice
from rescore.scorers.loading import load_scorer
from rescore.scorers.options import ScorerOptions
from rescore.types import Hypothesis, NBest
from rescore.wer.evaluation import evaluate

CHUNK = 16
STEPS = (1, 2, 4, 8, 16, 32)
MASK_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
RULES = {
    "top_k": "--commit top_k",
    "threshold": "--commit threshold --commit-value 0.9",
    "entropy_bound": "--commit entropy_bound --commit-value 0.05",
    "position_biased": "--commit position_biased --commit-value 0.05",
}
REMASK = "--commit threshold --commit-value 0 --remask 0.9,0.8"


def systems(candidates: list[int]) -> dict[str, str]:
    """Name -> options of `decode --method mdm` with the masked model."""
    rows = {f"mdm {rule} {n}": f"{how} --steps {n}" for rule, how in RULES.items() for n in STEPS}
    for gamma in (0.01, 0.2, 1.0):
        rows[f"mdm position_biased gamma {gamma}"] = f"--commit-value {gamma}"
    for decay in (0.0, 0.05, 1.0):
        rows[f"mdm position_biased decay {decay}"] = f"--position-decay {decay}"
    rows["mdm position_biased absolute"] = "--position-index absolute"
    rows["mdm guidance 0.5"] = "--guidance 0.5 --steps 8"
    for share in (0.9, 0.99):
        rows[f"mask-ctc {share}"] = f"--commit top_k --steps 10 --hide-below {share}"
    for count in candidates:
        rows[f"mdm random_remask x{count}"] = f"{REMASK} --candidates {count}"
    return rows


def clock(device: str) -> float:
    """CPU seconds, or, of a GPU, those of the clock once it is idle."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def run(decoder: Decoder, limit: int, device: str) -> tuple[list[NBest], float, float]:
    """All lists, and the real-time factors (audio / seconds) of chunks and of batch 1."""
    items = list(decoder.inputs())
    decoder.evaluate(decoder.prepare(items[:1]))  # warm
    lists, speeds = [], []
    for chunk, part in ((CHUNK, items), (1, items[:limit])):
        started, made = clock(device), []
        for start in range(0, len(part), chunk):
            made += decoder.evaluate(decoder.prepare(part[start : start + chunk]))
        speeds.append(sum(item.seconds for item in part) / max(1e-9, clock(device) - started))
        lists = lists or made
    return lists, speeds[0], speeds[1]


def row(name: str, lists: list[NBest], **more: Any) -> dict[str, Any]:
    """WER with its interval, in %, and evaluations an utterance."""
    result = evaluate(lists)
    low, high = result.ci95
    evaluations = [nbest.raw.get("evaluations", 0) for nbest in lists]
    return {
        "system": name,
        "wer": round(100 * result.errors.wer, 2),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
        "evaluations": round(float(np.mean(evaluations)), 2),
        **{key: round(value, 2) for key, value in more.items()},
    }


def greedy_rows(given: argparse.Namespace) -> list[dict[str, Any]]:
    """CTC greedy: of the encoder before joint training, and after it."""
    transcriber = load_transcriber(given.mdm)
    heard = [Listened(one, transcriber.sampling_rate) for one in read_utterances(given.audio)]
    rows = []
    for name in ("ctc greedy, encoder alone", "ctc greedy, jointly trained"):
        if name.endswith("alone"):
            if given.ctc is None:
                continue
            network = replace_encoder(transcriber, given.ctc)
        else:
            network = transcriber = load_transcriber(given.mdm)
        network.network.to(given.device)
        lists, symbols = [], transcriber.symbols
        for one, of_one in zip(heard, hear_all(network, heard, given.device), strict=True):
            labels = collapse(of_one.log_probs.argmax(-1).tolist(), symbols.blank)
            lists.append(texts_of(one, [symbols.decode(labels)]))
        rows.append(row(name, lists))
    return rows


def replace_encoder(transcriber: Any, directory: Path) -> Any:
    """The transcriber with the encoder of a recogniser."""
    transcriber.network.encoder.load_state_dict(load_recogniser(directory).network.state_dict())
    return transcriber


def texts_of(condition: Listened, texts: list[str]) -> NBest:
    """A list of texts."""
    utterance = condition.utterance
    return NBest(utterance.id, tuple(Hypothesis(text) for text in texts), ref=utterance.text)


def candidate_rows(
    name: str, lists: list[NBest], given: argparse.Namespace
) -> list[dict[str, Any]]:
    """What the list is worth by MBR, by the network's NELBO, and at best."""
    options = ScorerOptions(
        model=str(given.mdm), audio=given.audio, estimator="nelbo", device=given.device
    )
    scores = list(load_scorer("mdm", options).score(lists))
    by_nelbo = [
        nbest.only([int(np.argmax(score.values))])
        for nbest, score in zip(lists, scores, strict=True)
    ]
    by_mbr = []
    for nbest, score in zip(lists, scores, strict=True):
        texts = [hyp.text for hyp in nbest.hyps]
        by_mbr.append(nbest.only([mbr_choice(texts, np.array(score.values))]))
    oracle = evaluate(lists).oracle_wer
    return [
        row(f"{name}, MBR", by_mbr),
        row(f"{name}, own NELBO", by_nelbo),
        {"system": f"{name}, oracle", "wer": round(100 * oracle, 2)},
    ]


def calibration(given: argparse.Namespace) -> list[dict[str, float]]:
    """Mean confidence and accuracy of the likeliest token, by the share of masks."""
    denoiser = AudioDenoiser(load_transcriber(given.mdm), given.device)
    chance = np.random.default_rng(0)
    heard = [Listened(one, 16_000) for one in read_utterances(given.audio) if one.text]
    sums = {share: np.zeros(3) for share in MASK_SHARES}
    for start in range(0, len(heard), CHUNK):
        part = heard[start : start + CHUNK]
        denoiser.hear(part)
        for one in part:
            for share in MASK_SHARES:
                sums[share] += guesses(denoiser, one, share, chance)
    return [
        {
            "mask_ratio": share,
            "confidence": round(confidence / count, 4),
            "accuracy": round(right / count, 4),
        }
        for share, (count, confidence, right) in sums.items()
    ]


def guesses(
    denoiser: AudioDenoiser, condition: Listened, share: float, chance: np.random.Generator
) -> np.ndarray:
    """Of a share of the reference's tokens that is hidden: their number, confidence and hits."""
    rows, text = denoiser.rows, condition.utterance.text or ""
    tokens = np.array([rows.bos, *denoiser.transcriber.symbols.encode(text), rows.eos])
    hidden = 1 + chance.permutation(len(tokens) - 1)[: max(1, round(share * (len(tokens) - 1)))]
    noisy = tokens.copy()
    noisy[hidden] = rows.mask
    padding = torch.zeros(1, len(tokens), dtype=torch.bool, device=denoiser.device)
    inputs = torch.from_numpy(noisy)[None].to(denoiser.device), torch.ones(1), padding
    best = denoiser.log_probs(*inputs, [condition])[0, hidden].max(-1)
    hits = best.indices.cpu().numpy() == tokens[hidden]
    return np.array([len(hidden), float(best.values.exp().sum()), hits.sum()])


def plot(rows: list[dict[str, Any]], output: Path) -> None:
    """Draw WER over evaluations: a line for each rule, a point for every other system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for rule in RULES:
        line = [one for one in rows if re.fullmatch(rf"mdm {rule} \d+", one["system"])]
        if line:
            places = [one["evaluations"] for one in line]
            axes.plot(places, [one["wer"] for one in line], marker=".", label=f"MDM, {rule}")
    for one in rows:
        name = one["system"]
        if re.match(r"twin|mask-ctc", name):
            axes.plot(one["evaluations"], one["wer"], "x", color="black")
            axes.annotate(name, (one["evaluations"], one["wer"]), fontsize=7)
        elif name == "ctc greedy, jointly trained":
            axes.axhline(one["wer"], color="grey", linewidth=0.8, label="CTC greedy")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("evaluations of the decoder, an utterance")
    axes.set_ylabel("WER %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    FigureCanvasAgg(figure).print_figure(output, format="png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", help="manifest with texts")
    parser.add_argument("--mdm", type=Path, required=True)
    parser.add_argument("--other", action="append", default=[], metavar="NAME=MODEL")
    parser.add_argument("--twin", type=Path, help="of `train mdm --causal`")
    parser.add_argument("--ctc", type=Path, help="the recogniser that training began with")
    parser.add_argument("--candidates", type=int, nargs="*", default=[1, 5, 10])
    parser.add_argument("--only", default="", help="systems whose name matches this")
    parser.add_argument("--limit", type=int, default=20, help="utterances timed one by one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = greedy_rows(given)
    plans = [(name, given.mdm, how) for name, how in systems(given.candidates).items()]
    for text in given.other:  # another masked model, such as one without self-correction
        name, _, model = text.partition("=")
        plans += [(f"{name} position_biased {n}", Path(model), f"--steps {n}") for n in (2, 8, 32)]
    if given.twin is not None:
        plans += [("twin greedy", given.twin, ""), ("twin beam 10", given.twin, "--beam 10")]
    for name, model, how in plans:
        if not re.search(given.only, name):
            continue
        where = shlex.join(["--method", "mdm", "--model", str(model), "--device", given.device])
        decoder = decoder_of(given.audio, f"{where} {how}")
        lists, batched, single = run(decoder, given.limit, given.device)
        rows.append(row(name, lists, rtfx_batched=batched, rtfx_single=single))
        print(rows[-1], flush=True)
        count = how.partition("--candidates ")[2]
        if count and int(count) > 1:
            rows += candidate_rows(name, lists, given)
            jsonl.write(lists, f"{given.output}.{name.split()[-1]}.jsonl")
    columns = list(dict.fromkeys(key for one in rows for key in one))
    with open(f"{given.output}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, Path(f"{given.output}.png"))
    result = {"rows": rows, "calibration": calibration(given)}
    Path(f"{given.output}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
