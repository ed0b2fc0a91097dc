"""Where joint decoding loses: one part after the other is replaced by the truth.

    confidence   labels that are right stay, those that are wrong may change
    length       the draft has the reference's length: at each of its labels' frames (the Viterbi
                 alignment of the reference) the label that CTC finds likeliest
    lm P         a stronger language model: at every label of the draft that the reference has or
                 replaces, the truth has probability P + (1 - P) P_lm

Nothing is tuned here. Writes JSON: word errors of each on the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from rescore.acoustic.ctc_paths import LabelledPath, align
from rescore.acoustic.posterior_file import read_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import entropy_bound
from rescore.decoding.ctc import greedy_transcript
from rescore.decoding.driver import Sampler, run_samplers
from rescore.decoding.joint import (
    Draft,
    Filling,
    JointScales,
    UniformSteps,
    joint_masked,
    joint_uniform,
)
from rescore.decoding.joint_search import ctc_draft
from rescore.decoding.vocabulary import JointVocabulary, joint_vocabulary
from rescore.diffusion.draws import SamplingDraws, utterance_key
from rescore.diffusion.masked import mask_symbol
from rescore.errors import ScoreError
from rescore.formats.references import read_references
from rescore.scorers.denoising import DenoisingModel, open_denoiser
from rescore.scorers.options import ScorerOptions
from rescore.types import ErrorCounts
from rescore.wer.counts import count_errors

SHARES = (0.1, 0.3, 0.5, 0.9)


@dataclass(frozen=True)
class InformedScales(JointScales):
    """Scales whose language model knows `truth` (S,), -1 where there is none, with `share`."""

    truth: np.ndarray | None = None
    share: float = 0.0

    def combined(self, ctc, lm):
        """As JointScales, with the language model mixed with the truth."""
        known = np.flatnonzero(self.truth >= 0)
        informed = lm.copy()
        informed[known] += np.log1p(-self.share)
        at = (known, self.truth[known])
        informed[at] = np.logaddexp(informed[at], np.log(self.share))
        return super().combined(ctc, informed)


@dataclass(frozen=True)
class Case:
    """An utterance: its draft, and what the reference has at each label of the draft."""

    posteriors: Posteriors
    ref: str
    draft: Draft
    truth: np.ndarray  #: (S,) tokens, -1 where the reference has no label


def truth_of(tokens: Sequence[int], reference: Sequence[int]) -> np.ndarray:
    """The token of the reference at each of `tokens`, -1 where it has none."""
    truth = np.full(len(tokens), -1)
    for op in Levenshtein.opcodes(tokens, reference):
        if op.tag in ("equal", "replace"):
            truth[op.src_start : op.src_end] = reference[op.dest_start : op.dest_end]
    return truth


def case_of(posteriors: Posteriors, ref: str, vocabulary: JointVocabulary, known: bool) -> Case:
    """The case of an utterance; `known`: the draft has the reference's length."""
    labels = posteriors.symbols.encode(ref)
    path = of_length(posteriors, labels) if known else greedy_transcript(posteriors)
    draft = ctc_draft(posteriors, path, vocabulary, "peak")
    if known:
        draft = replace(draft, canvas=draft.canvas.filled(draft.ctc.argmax(axis=1)))
    tokens = draft.canvas.tokens[draft.canvas.editable].tolist()
    truth = vocabulary.to_tokens(labels)[1:-1].tolist()
    return Case(posteriors, ref, draft, truth_of(tokens, truth))


def of_length(posteriors: Posteriors, labels: Sequence[int]) -> LabelledPath:
    """The alignment of the reference; the greedy path where CTC cannot emit it."""
    try:
        return align(posteriors.log_probs, labels, posteriors.symbols.blank)
    except ScoreError:
        return greedy_transcript(posteriors)


def confident(case: Case) -> Case:
    """The case where only wrong labels may change, and those are what CTC is unsure of."""
    canvas = case.draft.canvas
    wrong = canvas.tokens[canvas.editable] != case.truth
    editable = canvas.editable.copy()
    editable[canvas.editable] = wrong
    draft = Draft(
        Canvas.of(canvas.tokens, editable), case.draft.ctc[wrong], np.zeros(int(wrong.sum()))
    )
    return replace(case, draft=draft, truth=case.truth[wrong])


@dataclass(frozen=True)
class Side:
    """A language model, the vocabulary that it shares with the recogniser, and its scale."""

    model: DenoisingModel
    vocabulary: JointVocabulary
    scale: float


#: The cases of a side; True: drafts have the reference's length.
Cases = Callable[[Side, bool], list[Case]]


@dataclass(frozen=True)
class Joint:
    """How the two methods decode."""

    steps: UniformSteps
    hide_below: float

    def joint(self, side: Side, case: Case, share: float = 0.0) -> Sampler[Canvas]:
        """Joint decoding with a USDM that knows the truth with `share`."""
        scales = JointScales(lm=side.scale)
        if share:
            scales = InformedScales(lm=side.scale, truth=case.truth, share=share)
        draws = SamplingDraws(0, utterance_key(case.posteriors.id))
        denoiser, window = side.model.denoiser, side.model.vocabulary.window
        return joint_uniform(case.draft, denoiser, scales, self.steps, draws, window)

    def masked(self, side: Side, case: Case) -> Sampler[Canvas]:
        """Joint decoding with an MDLM."""
        denoiser, window = side.model.denoiser, side.model.vocabulary.window
        filling = Filling(mask_symbol(denoiser), entropy_bound(0.1), (), window)
        draws = SamplingDraws(0, utterance_key(case.posteriors.id))
        scales = JointScales(lm=side.scale)
        return joint_masked(case.draft, scales, filling, self.hide_below, draws)


def errors_of(
    side: Side, cases: Sequence[Case], make: Callable[[Case], Sampler[Canvas]]
) -> dict[str, float]:
    """The word errors of what a sampler makes of every case."""
    canvases = run_samplers(side.model.denoiser, [make(case) for case in cases])
    total = ErrorCounts()
    for case, canvas in zip(cases, canvases, strict=True):
        labels = side.vocabulary.to_labels(canvas.tokens[1:-1])
        total += count_errors(case.ref, case.posteriors.symbols.decode(labels))
    return {"errors": total.errors, "wer": total.wer}


def experiments(how: Joint, usdm: Side, mdlm: Side, of: Cases) -> dict[str, dict[str, float]]:
    """Every experiment by its name."""
    rows = {}
    for known, suffix in ((False, ""), (True, " + length")):
        cases = of(usdm, known)
        rows[f"draft{suffix}"] = errors_of(usdm, cases, lambda case: unchanged(case.draft))
        rows[f"joint{suffix}"] = errors_of(usdm, cases, lambda case: how.joint(usdm, case))
        rows[f"joint + confidence{suffix}"] = errors_of(
            usdm, cases, lambda case: how.joint(usdm, confident(case))
        )
        for share in SHARES:
            rows[f"joint + lm {share}{suffix}"] = errors_of(
                usdm, cases, lambda case, share=share: how.joint(usdm, case, share)
            )
        cases = of(mdlm, known)
        rows[f"mdlm{suffix}"] = errors_of(mdlm, cases, lambda case: how.masked(mdlm, case))
        rows[f"mdlm + confidence{suffix}"] = errors_of(
            mdlm, cases, lambda case: how.masked(mdlm, confident(case))
        )
    return rows


def unchanged(draft: Draft) -> Sampler[Canvas]:
    """A sampler that asks nothing."""
    yield from ()
    return draft.canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("posteriors")
    parser.add_argument("--refs", required=True)
    parser.add_argument("--usdm", required=True)
    parser.add_argument("--mdlm", required=True)
    parser.add_argument(
        "--grids", nargs=2, type=Path, required=True, help="what --grid wrote: joint, joint_mdlm"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    file, references = read_posteriors(given.posteriors), dict(read_references(given.refs))

    def side(objective: str, directory: str, scale: float) -> Side:
        model = open_denoiser(objective, ScorerOptions(model=directory))
        size = model.denoiser.vocab_size
        pieces = model.vocabulary.tokenizer
        return Side(model, joint_vocabulary(file.symbols, pieces, size, file.name), scale)

    def cases(of: Side, known: bool) -> list[Case]:
        return [case_of(file[name], references[name], of.vocabulary, known) for name in file]

    best = [json.loads(grid.read_text())["best"]["setting"] for grid in given.grids]
    usdm = side("usdm", given.usdm, best[0]["lm_scale"])
    mdlm = side("mdlm", given.mdlm, best[1]["lm_scale"])
    how = Joint(UniformSteps(best[0]["t_start"]), best[1]["hide_below"])
    rows = experiments(how, usdm, mdlm, cases)
    given.output.write_text(json.dumps(rows, indent=2) + "\n")
    for name, row in rows.items():
        print(f"{100 * row['wer']:6.2f}  {name}")


if __name__ == "__main__":
    main()
