"""`ctc_greedy` and `ctc_beam`: hypotheses of CTC posteriors, with exact scores.

    ctc_greedy  the text of the most likely path
    ctc_beam    the texts of the prefixes that a beam search ends with, the best `count` of them;
                an n-gram model may steer the search

`rescore.decoding.posterior_decoder` makes the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from rescore.acoustic.ctc_paths import LabelledPath, greedy_path
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.acoustic.prefix_ngram import NgramFusion
from rescore.decoding.base import DecoderFamily, DecoderOptions
from rescore.decoding.posterior_decoder import PosteriorDecoder, Proposal, Proposals, ctc_scorer
from rescore.errors import ScoreError
from rescore.scorers.ctc import CtcScorer
from rescore.scorers.ngram import open_ngram

__all__ = ["BEAM", "GREEDY", "greedy_transcript"]

#: Hypotheses of a list by default; by default the beam is wider, for some prefixes spell one text.
COUNT, BEAM_PER_COUNT = 100, 2


def greedy_transcript(posteriors: Posteriors) -> LabelledPath:
    """The most likely path without special symbols."""
    symbols, log_probs = posteriors.symbols, posteriors.log_probs
    hidden = sorted(symbols.special - {symbols.blank})
    if hidden:
        log_probs = log_probs.copy()
        log_probs[:, hidden] = -np.inf
    return greedy_path(log_probs, symbols.blank)


def _build_greedy(path: str, options: DecoderOptions) -> PosteriorDecoder:
    scorer = ctc_scorer(path, options)
    return PosteriorDecoder("ctc_greedy", scorer, _greedy, {}, 1, spans=options.spans)


def _greedy(utterances: Sequence[Posteriors]) -> list[Proposals]:
    paths = map(greedy_transcript, utterances)
    return [Proposals([Proposal(tuple(path.labels.tolist()), "ctc_greedy")]) for path in paths]


def _build_beam(path: str, options: DecoderOptions) -> PosteriorDecoder:
    scorer = ctc_scorer(path, options)
    count = options.count or COUNT
    beam = BeamOptions(
        options.beam or BEAM_PER_COUNT * count,
        BeamOptions.min_log_prob if options.min_log_prob is None else options.min_log_prob,
    )
    if beam.beam < count:
        raise ScoreError(
            f"--beam {beam.beam} cannot give {count} hypotheses; widen it, or lower --count"
        )
    fusion = _fusion(scorer, options)
    symbols = scorer.posteriors.symbols
    search = partial(
        _beam,
        blank=symbols.blank,
        options=beam,
        fusion=fusion,
        never=sorted(symbols.special),
    )
    settings: dict[str, object] = {"beam": beam.beam, "min_log_prob": beam.min_log_prob}
    if fusion is not None:
        settings |= {
            "ngram": fusion.model.digest,
            "unit": fusion.unit,
            "scale": fusion.scale,
            "bonus": fusion.bonus,
        }
    return PosteriorDecoder("ctc_beam", scorer, search, settings, count, fusion, options.spans)


def _beam(
    utterances: Sequence[Posteriors],
    blank: int,
    options: BeamOptions,
    fusion: NgramFusion | None,
    never: Sequence[int],
) -> list[Proposals]:
    rows = [posteriors.log_probs for posteriors in utterances]
    beams = prefix_beam_search(rows, blank, options, fusion, never)
    return [
        Proposals([Proposal(prefix.labels, "ctc_beam") for prefix in prefixes])
        for prefixes in beams
    ]


def _fusion(scorer: CtcScorer, options: DecoderOptions) -> NgramFusion | None:
    if options.ngram is None:
        return None
    return NgramFusion(
        open_ngram(Path(options.ngram)),
        scorer.spelling.symbols,
        options.ngram_unit or "word",
        1.0 if options.ngram_scale is None else options.ngram_scale,
        options.ngram_bonus or 0.0,
    )


GREEDY = DecoderFamily("ctc_greedy", _build_greedy, frozenset({"bpe", "spans"}))

BEAM = DecoderFamily(
    "ctc_beam",
    _build_beam,
    frozenset(
        {
            "bpe",
            "beam",
            "count",
            "min_log_prob",
            "ngram",
            "ngram_bonus",
            "ngram_scale",
            "ngram_unit",
            "spans",
        }
    ),
    (("ngram_unit", "ngram"), ("ngram_scale", "ngram"), ("ngram_bonus", "ngram")),
)
