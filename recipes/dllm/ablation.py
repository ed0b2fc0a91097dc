"""What each part of prior-guided denoising is worth: error rates, work and speed, part by part.

    python ablation.py dev.tsv test.tsv --dllm runs/dllm --scratch runs/scratch --twin runs/twin \
        --mdm runs/mdm -o ablation

Gate, margin and tau of the two masked models, and the bound of revocation, are chosen on dev
(fewest errors, then fewest multiplications); the model from scratch has those of the first. Test is
read once. One process, one thread, utterances one by one. Seconds are CPU seconds: all of them, and
those behind the encoder and the projector ("decoding"). Multiplications are those of the language
model, its prompt included; the encoder's are the same for all. Writes OUTPUT.csv, OUTPUT.json (what
dev chose), and latency against the words of an utterance: OUTPUT_latency.csv, OUTPUT_latency.png.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.prior_guided_method import PriorGuidedDecoder
from rescore.report.figures import BLUE, GREY, ORANGE, new_figure, save_figure
from rescore.types import NBest
from rescore.wer.evaluation import evaluate

GATES, MARGINS, TAUS = (0.7, 0.9, 0.99), (2, 4), (0.7, 0.9, 0.99)
REVOKE = (0.05, 0.1, 0.3, 0.5)
#: The systems of the figure of latency.
LATENCY = {"full": BLUE, "AR twin, greedy": ORANGE, "MDM-ASR network, full": GREY}
CASCADE = {"commit": "top_k", "commit_value": 1.0, "refresh": 1}


class Timed:
    """A decoder whose utterances are timed; with a memory, what the encoder made is kept."""

    def __init__(self, path: str, options: DecoderOptions, memory: dict | None = None) -> None:
        decoder = load_decoder("prior_guided", path, options)
        if not isinstance(decoder, PriorGuidedDecoder):
            raise TypeError("no decoder of prior_guided")
        self.decoder, self.memory, self.heard = decoder, memory, 0.0
        self._hear = decoder.guide.hear
        decoder.guide.hear = self.hear

    def hear(self, condition: Any) -> Any:
        """What the model makes of an utterance, timed."""
        key = condition.utterance.id
        if self.memory is not None and key in self.memory:
            return self.memory[key]
        started = time.process_time()
        heard = self._hear(condition)
        self.heard = time.process_time() - started
        if self.memory is not None:
            self.memory[key] = heard
        return heard

    def run(self, limit: int | None = None) -> tuple[list[NBest], np.ndarray]:
        """The first lists, and seconds of audio, of hearing and of decoding, (utterances, 3)."""
        lists, seconds = [], []
        for item in itertools.islice(self.decoder.inputs(), limit):
            started = time.process_time()
            lists += self.decoder.evaluate(self.decoder.prepare([item]))
            whole = time.process_time() - started
            seconds.append((item.seconds, self.heard, whole - self.heard))
        return lists, np.array(seconds)


def work(lists: list[NBest], name: str) -> float:
    """The mean of a field of the records."""
    return float(np.mean([nbest.raw.get(name, 0) for nbest in lists]))


class Dev:
    """The choice of settings on dev."""

    def __init__(self, path: str, limit: int | None) -> None:
        self.path, self.limit = path, limit
        self.memories: dict[str | None, dict] = {}

    def best(self, settings: list[DecoderOptions]) -> DecoderOptions:
        """The options with the fewest errors, then the fewest multiplications."""
        costs = []
        if len(settings) == 1:
            return settings[0]
        for options in settings:
            memory = self.memories.setdefault(options.model, {})
            lists, _ = Timed(self.path, options, memory).run(self.limit)
            costs.append((evaluate(lists).errors.errors, work(lists, "multiplications")))
            print("dev", shown(options), *costs[-1], flush=True)
        return settings[costs.index(min(costs))]

    def tuned(self, model: str) -> DecoderOptions:
        """Gate, margin and tau of a masked model."""
        grid = itertools.product(GATES, MARGINS, TAUS)
        return self.best([DecoderOptions(model=model, gate=g, margin=m, tau=t) for g, m, t in grid])

    def revoked(self, options: DecoderOptions) -> DecoderOptions:
        """The bound below which tokens open again, of the draft too or not."""
        grid = itertools.product(REVOKE, (False, True))
        return self.best([replace(options, revoke=r, revoke_draft=d) for r, d in grid])


def shown(options: DecoderOptions) -> dict[str, Any]:
    """The options that are given, but for the model."""
    return {key: getattr(options, key) for key in sorted(options.changed - {"model"})}


def systems(arguments: argparse.Namespace) -> dict[str, DecoderOptions]:
    """Name -> options, in the order of the table; settings are chosen on dev."""
    dev = Dev(arguments.dev, arguments.limit)
    full = dev.tuned(arguments.dllm)
    mask = replace(full, draft="mask", gate=None, margin=None, canvas=arguments.canvas)
    rows = {
        "full": full,
        "without draft (masks)": mask,
        "without draft, length of CTC": replace(full, draft="mask", gate=None),
        "without pruning": replace(full, prune=False),
        "without early exit": replace(full, tau=None, prune=False, **CASCADE),
        "early exit alone": replace(mask, prune=False),
        "all computed every round": replace(full, refresh=1),
        "with agreement": replace(full, agree=True),
        "with revocation": dev.revoked(full),
        "CTC draft alone": replace(full, gate=0.0, margin=0),
    }
    if arguments.scratch:
        rows["from scratch"] = replace(full, model=arguments.scratch)
    if arguments.twin:
        rows["AR twin, greedy"] = DecoderOptions(model=arguments.twin)
        rows["AR twin, beam 10"] = DecoderOptions(model=arguments.twin, beam=10)
    if arguments.mdm:
        rows["MDM-ASR network, full"] = dev.tuned(arguments.mdm)
        rows["MDM-ASR network, no early exit"] = replace(
            rows["MDM-ASR network, full"], tau=None, prune=False, **CASCADE
        )
    return rows


def row_of(name: str, lists: list[NBest], seconds: np.ndarray) -> dict[str, Any]:
    """A row of the table."""
    result = evaluate([replace(nbest, hyps=nbest.hyps[:1]) for nbest in lists])
    audio, hearing, decoding = seconds.sum(0)
    return {
        "system": name,
        "wer": round(100 * result.wer, 2),
        "low": round(100 * result.ci95[0], 2),
        "high": round(100 * result.ci95[1], 2),
        "rounds": round(work(lists, "rounds"), 2),
        "evaluations": round(work(lists, "evaluations"), 2),
        "positions": round(work(lists, "positions"), 1),
        "million_multiplications": round(work(lists, "multiplications") / 1e6, 1),
        "milliseconds": round(float(1000 * (hearing + decoding) / len(lists)), 1),
        "milliseconds_decoding": round(float(1000 * decoding / len(lists)), 1),
        "rtfx": round(float(audio / (hearing + decoding)), 1),
        "rtfx_decoding": round(float(audio / decoding), 1),
    }


def slope(words: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Milliseconds behind the encoder that a word costs, and those of a text without words.

    Least squares; 0 a word where all utterances have as many.
    """
    spread, milliseconds = words - words.mean(), 1000 * seconds[:, 2]
    squares = float(spread @ spread)
    per_word = float(spread @ milliseconds) / squares if squares else 0.0
    start = float(milliseconds.mean()) - per_word * float(words.mean())
    return round(per_word, 2), round(start, 2)


def latency(output: Path, seconds: dict[str, np.ndarray], words: np.ndarray) -> None:
    """Decoding time against the words of the utterance, a point an utterance, and its line."""
    names = [name for name in LATENCY if name in seconds]
    with output.with_name(output.name + "_latency.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["words", *(f"{name}, ms" for name in names)])
        columns = [(1000 * seconds[name][:, 2]).round(2).tolist() for name in names]
        writer.writerows(zip(words.tolist(), *columns, strict=True))
    figure, axes = new_figure(6.4, 4)
    longest = np.array([words.min(), words.max()])
    for name in names:
        per_word, start = slope(words, seconds[name])
        axes.plot(words, 1000 * seconds[name][:, 2], ".", color=LATENCY[name], alpha=0.45)
        label = f"{name}: {per_word:.1f} ms a word"
        axes.plot(longest, start + per_word * longest, color=LATENCY[name], label=label)
    axes.set_xlabel("words of the reference")
    axes.set_ylabel("CPU ms behind the encoder")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    save_figure(figure, output.with_name(output.name + "_latency.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dev")
    parser.add_argument("test")
    for name in ("dllm", "scratch", "twin", "mdm"):
        parser.add_argument(f"--{name}", required=name == "dllm")
    parser.add_argument("--limit", type=int, help="the first utterances of dev and test alone")
    parser.add_argument("--canvas", type=int, default=24, help="places without a draft")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = systems(arguments)
    rows, seconds = [], {}
    for name, options in chosen.items():
        lists, seconds[name] = Timed(arguments.test, options).run(arguments.limit)
        words = np.array([len((nbest.ref or "").split()) for nbest in lists])
        row = row_of(name, lists, seconds[name])
        rows.append({**row, "milliseconds_a_word": slope(words, seconds[name])[0]})
        print(rows[-1], flush=True)
    output = arguments.output
    with output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = {name: shown(options) for name, options in chosen.items()}
    output.with_suffix(".json").write_text(json.dumps(settings, indent=1) + "\n")
    latency(output, seconds, words)


if __name__ == "__main__":
    main()
