"""The prefix beam search against flashlight-text, where it is installed (pip: 0.0.7)."""

from __future__ import annotations

import numpy as np
import pytest
from all_paths import random_log_probs

from rescore.acoustic.ctc import collapse, text_log_probs
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search

decoder = pytest.importorskip("flashlight.lib.text.decoder")


def theirs(log_probs, beam):
    """Texts, best first: the lexicon-free decoder adds up the paths of a prefix (`log_add`)."""
    frames, symbols = log_probs.shape
    options = decoder.LexiconFreeDecoderOptions(
        beam_size=beam,
        beam_size_token=symbols,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )
    search = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), -1, 0, [])
    emissions = np.ascontiguousarray(log_probs, dtype=np.float32)
    results = search.decode(emissions.ctypes.data, frames, symbols)
    texts = [tuple(collapse(result.tokens[1 : frames + 1], 0)) for result in results]
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("seed", range(5))
def test_our_list_has_what_theirs_has(seed):
    """Same best text; every text of their ten best is in ours, which has the same or better sum."""
    log_probs = random_log_probs(seed, 25, 6, sharpness=3).astype(np.float32)
    ours = [p.labels for p in prefix_beam_search([log_probs], 0, BeamOptions(200, -1e9))[0]]
    reference = theirs(log_probs, 200)[:10]
    assert ours[0] == reference[0]
    assert set(reference) <= set(ours)
    best = text_log_probs(log_probs, ours[:10], 0).sum()
    assert best >= text_log_probs(log_probs, reference, 0).sum() - 1e-9
