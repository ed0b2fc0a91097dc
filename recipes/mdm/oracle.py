"""Where a masked decoder that listens loses: one part after the other is replaced by the truth.

    python oracle.py dev.tsv --mdm runs/mdm --twin runs/twin -o oracle.json

    length    the canvas has places for the reference and EOS, no more
    places    frames stand where the reference, aligned by CTC, puts them, not where CTC expects
    order     a token a round: nothing is decided in parallel

No truth: `own places` are those by which the decoder's own first text is aligned, and it decodes
again; `order` is a bound on what better rules can gain.

Nothing is tuned here. Writes JSON: word errors of each, of the greedy twin as it is and with true
places, and in how many utterances CTC expects another number of symbols than are spoken.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rescore.acoustic.ctc_paths import align
from rescore.acoustic.listening import (
    AudioDenoiser,
    HeardUtterance,
    Listened,
    features_of,
    hear_all,
)
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.transcriber import Transcriber, load_transcriber
from rescore.acoustic.transcription import until_end
from rescore.decoding.autoregressive import ListeningPrefixes, beam_search
from rescore.decoding.commit import CommitRule, threshold, top_k
from rescore.decoding.driver import run_samplers
from rescore.decoding.mdm import EVALUATIONS, MdmSampling, open_canvas, transcribe
from rescore.diffusion.draws import SamplingDraws
from rescore.errors import ScoreError
from rescore.models.speech_network import normalised
from rescore.types import Hypothesis, NBest
from rescore.wer.evaluation import evaluate

#: Utterances that are decoded together.
CHUNK = 16

#: Places of a canvas besides the expected symbols and EOS, as `decode --method mdm` has it.
MARGIN = 8


@dataclass(frozen=True)
class Setting:
    """What is the truth, whether the own text places frames, and a token a round is decided."""

    length: bool = False
    places: bool = False
    order: bool = False
    own_places: bool = False


SETTINGS = {
    "as decoded": Setting(),
    "length": Setting(length=True),
    "places": Setting(places=True),
    "length, places": Setting(length=True, places=True),
    "order": Setting(order=True),
    "length, places, order": Setting(length=True, places=True, order=True),
    "own places": Setting(own_places=True),
}


def reference_of(transcriber: Transcriber, condition: Listened) -> list[int]:
    """The symbols of the reference."""
    return transcriber.symbols.encode(condition.utterance.text or "")


@torch.no_grad()
def with_places(
    transcriber: Transcriber, condition: Listened, heard: HeardUtterance, labels: list[int]
) -> HeardUtterance:
    """The same with frames where a text puts them, if CTC can emit it at all."""
    log_probs = heard.log_probs.double().numpy()
    try:
        first = align(log_probs, labels, transcriber.symbols.blank).first
    except ScoreError:
        return heard
    begun = np.searchsorted(first, np.arange(len(log_probs)), side="right")
    features = features_of(condition, transcriber.recogniser)[None]
    frames = torch.tensor([features.shape[1]])
    network = transcriber.network
    hidden, lengths = network.encoder.hidden(normalised(features, frames), frames)
    places = torch.from_numpy(begun)[None].to(hidden.dtype)
    return replace(heard, memory=network.decoder.listen(hidden, places, lengths))


def masked_rows(
    denoiser: AudioDenoiser, conditions: list[Listened], setting: Setting, value: float
) -> list[list[int]]:
    """The symbols that a masked decoder makes, at a threshold or a token a round."""
    placing: list[list[int]] = []
    if setting.own_places:
        placing = masked_rows(denoiser, conditions, Setting(), value)
    elif setting.places:
        placing = [reference_of(denoiser.transcriber, one) for one in conditions]
    transcriber, heard = denoiser.transcriber, denoiser.hear(conditions)
    rule = top_k(1) if setting.order else threshold(value)
    rounds = 10_000 if setting.order else EVALUATIONS

    def rule_of(_count: int) -> CommitRule:
        return rule

    sampling = MdmSampling(rule_of, denoiser.rows, rounds)
    samplers = []
    for number, condition in enumerate(conditions):
        one = heard[condition.key]
        if placing:
            heard[condition.key] = with_places(transcriber, condition, one, placing[number])
        places = round(one.expected) + 1 + MARGIN
        if setting.length:
            places = len(reference_of(transcriber, condition)) + 1
        canvas = open_canvas(places, denoiser.rows)
        samplers.append(transcribe(canvas, sampling, condition, SamplingDraws(0, 0, 0)))
    canvases = run_samplers(denoiser, samplers)
    return [until_end(one.tokens[1:].tolist(), denoiser.rows) for one in canvases]


def masked_texts(
    denoiser: AudioDenoiser, conditions: list[Listened], setting: Setting, value: float
) -> list[str]:
    """The texts that a masked decoder makes."""
    rows = masked_rows(denoiser, conditions, setting, value)
    return [denoiser.transcriber.symbols.decode(row) for row in rows]


def twin_texts(transcriber: Transcriber, conditions: list[Listened], places: bool) -> list[str]:
    """The greedy texts of an autoregressive twin."""
    heard = hear_all(transcriber, conditions)
    if places:
        heard = [
            with_places(transcriber, one, of_one, reference_of(transcriber, one))
            for one, of_one in zip(conditions, heard, strict=True)
        ]
    longest = [round(one.expected) + MARGIN for one in heard]
    prefixes = ListeningPrefixes(transcriber.network, heard)
    results = beam_search(prefixes, 1, longest)
    return [transcriber.symbols.decode(list(result.texts[0].tokens)) for result in results]


def word_errors(
    conditions: list[Listened], texts_of: Callable[[list[Listened]], list[str]]
) -> float:
    """The word error rate in %, of texts that are made chunk by chunk."""
    lists = []
    for start in range(0, len(conditions), CHUNK):
        part = conditions[start : start + CHUNK]
        for one, text in zip(part, texts_of(part), strict=True):
            lists.append(NBest(one.utterance.id, (Hypothesis(text),), ref=one.utterance.text))
    return round(100 * evaluate(lists).errors.wer, 2)


def lengths(transcriber: Transcriber, conditions: list[Listened]) -> dict[str, float]:
    """How far the rounded number of symbols that CTC expects is from the reference's."""
    heard = hear_all(transcriber, conditions)
    spoken = np.array([len(reference_of(transcriber, one)) for one in conditions])
    off = np.array([round(one.expected) for one in heard]) - spoken
    return {
        "utterances with another length": round(float((off != 0).mean()), 3),
        "mean absolute difference": round(float(np.abs(off).mean()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", help="manifest with texts")
    parser.add_argument("--mdm", type=Path, required=True)
    parser.add_argument("--twin", type=Path, help="of `train mdm --causal`")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transcriber = load_transcriber(options.mdm)
    every = read_utterances(options.audio)
    conditions = [Listened(one, transcriber.sampling_rate) for one in every if one.text]
    result: dict[str, Any] = {"lengths": lengths(transcriber, conditions), "mdm": {}, "twin": {}}
    denoiser = AudioDenoiser(transcriber)
    for name, setting in SETTINGS.items():
        result["mdm"][name] = word_errors(
            conditions,
            lambda part, setting=setting: masked_texts(denoiser, part, setting, options.threshold),
        )
        print(name, result["mdm"][name], flush=True)
    if options.twin is not None:
        twin = load_transcriber(options.twin)
        for name, places in (("as decoded", False), ("places", True)):
            result["twin"][name] = word_errors(
                conditions, lambda part, places=places: twin_texts(twin, part, places)
            )
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
