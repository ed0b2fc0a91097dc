"""What each part of prior-guided denoising is worth: error rates, work and speed, part by part.

    python ablation.py dev.tsv test.tsv --dllm runs/dllm --scratch runs/scratch --twin runs/twin \
        --mdm runs/mdm -o ablation

Gate, margin and tau of every masked model are chosen on dev (fewest errors, then fewest
multiplications); test is read once. One process, one thread, utterances one by one. Seconds are CPU
seconds: all of them, and those behind the encoder and the projector ("decoding"). Multiplications
are those of the language model, its prompt included; the encoder's are the same for all. Writes
OUTPUT.csv, OUTPUT.json (settings, every utterance's frames and seconds) and OUTPUT.png (latency
against length).
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
from rescore.report.figures import BLUE, ORANGE, new_figure, save_figure
from rescore.types import NBest
from rescore.wer.evaluation import evaluate

GATES, MARGINS, TAUS = (0.9, 0.99, 1.01), (2, 4), (0.7, 0.9, 0.99)
CANVAS = 24
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

    def run(self) -> tuple[list[NBest], np.ndarray]:
        """All lists, and seconds of audio, of hearing and of decoding, (utterances, 3)."""
        lists, seconds = [], []
        for item in self.decoder.inputs():
            started = time.process_time()
            lists += self.decoder.evaluate(self.decoder.prepare([item]))
            whole = time.process_time() - started
            seconds.append((item.seconds, self.heard, whole - self.heard))
        return lists, np.array(seconds)


def work(lists: list[NBest], name: str) -> float:
    """The mean of a field of the records."""
    return float(np.mean([nbest.raw.get(name, 0) for nbest in lists]))


def tuned(path: str, options: DecoderOptions, gates: tuple = GATES) -> DecoderOptions:
    """The options with gate, margin and tau that have the fewest errors on dev."""
    memory: dict = {}
    best: tuple[float, float, DecoderOptions] | None = None
    for gate, margin, tau in itertools.product(gates, MARGINS, TAUS):
        kept = {} if options.draft == "mask" else {"gate": gate}
        chosen = replace(options, margin=margin, tau=tau, **kept)
        lists, _ = Timed(path, chosen, memory).run()
        cost = (evaluate(lists).errors.errors, work(lists, "multiplications"))
        print("dev", gate, margin, tau, *cost, flush=True)
        if best is None or cost < best[:2]:
            best = (*cost, chosen)
    return best[2]


def systems(arguments: argparse.Namespace) -> dict[str, DecoderOptions]:
    """Name -> options, in the order of the table; settings are chosen on dev."""
    full = tuned(arguments.dev, DecoderOptions(model=arguments.dllm))
    mask = replace(full, draft="mask", gate=None, margin=None, canvas=CANVAS)
    rows = {
        "full": full,
        "without draft (masks)": mask,
        "without draft, length of CTC": replace(full, draft="mask", gate=None),
        "without pruning": replace(full, prune=False),
        "without early exit": replace(full, tau=None, prune=False, **CASCADE),
        "early exit alone": replace(mask, prune=False),
        "all computed every round": replace(full, refresh=1),
        "with agreement": replace(full, agree=True),
        "with revocation 0.1": replace(full, revoke=0.1, revoke_draft=True),
        "CTC draft alone": replace(full, gate=0.0, margin=0),
    }
    if arguments.scratch:
        rows["from scratch"] = tuned(arguments.dev, DecoderOptions(model=arguments.scratch))
    if arguments.twin:
        rows["AR twin, greedy"] = DecoderOptions(model=arguments.twin)
        rows["AR twin, beam 10"] = DecoderOptions(model=arguments.twin, beam=10)
    if arguments.mdm:
        rows["MDM-ASR network, full"] = tuned(arguments.dev, DecoderOptions(model=arguments.mdm))
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
        "milliseconds": round(1000 * (hearing + decoding) / len(lists), 1),
        "milliseconds_decoding": round(1000 * decoding / len(lists), 1),
        "rtfx": round(audio / (hearing + decoding), 1),
        "rtfx_decoding": round(audio / decoding, 1),
    }


def plot(path: Path, seconds: dict[str, np.ndarray], words: np.ndarray) -> None:
    """Decoding time against the words of the utterance."""
    figure, axes = new_figure(6, 4)
    for name, colour in (("full", BLUE), ("AR twin, greedy", ORANGE)):
        if name in seconds:
            axes.plot(words, 1000 * seconds[name][:, 2], ".", color=colour, label=name)
    axes.set_xlabel("words of the reference")
    axes.set_ylabel("ms behind the encoder")
    axes.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dev")
    parser.add_argument("test")
    for name in ("dllm", "scratch", "twin", "mdm"):
        parser.add_argument(f"--{name}", required=name == "dllm")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = systems(arguments)
    rows, seconds, slopes = [], {}, {}
    for name, options in chosen.items():
        lists, seconds[name] = Timed(arguments.test, options).run()
        rows.append(row_of(name, lists, seconds[name]))
        words = np.array([len((nbest.ref or "").split()) for nbest in lists])
        slope, start = np.polyfit(words, 1000 * seconds[name][:, 2], 1)
        slopes[name] = {"ms_a_word": round(float(slope), 2), "ms_at_0": round(float(start), 2)}
        print(rows[-1], slopes[name], flush=True)
    output = Path(arguments.output)
    with output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = {
        name: {key: getattr(options, key) for key in sorted(options.changed - {"model"})}
        for name, options in chosen.items()
    }
    record = {
        "settings": settings,
        "latency": slopes,
        "words": words.tolist(),
        "seconds": {name: values.round(5).tolist() for name, values in seconds.items()},
    }
    output.with_suffix(".json").write_text(json.dumps(record, indent=1))
    plot(output.with_suffix(".png"), seconds, words)


if __name__ == "__main__":
    main()
