"""The label prior of a CTC recogniser: how often it emits each label, whatever the audio.

A recogniser learns a language model of its own from its transcripts. The prior estimates that part
label by label, so that fusion can take it away (prior_scale <= 0): the mean posterior of each label
over all frames, the blank left out, renormalised.

Source: the mean posterior as prior, Manohar et al. 2015, Semi-supervised maximum mutual information
training of deep neural network acoustic models, Interspeech.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rescore.errors import ScoreError

__all__ = ["label_prior"]


def label_prior(posteriors: Iterable[np.ndarray], blank: int) -> np.ndarray:
    """log P(label), (V,) float64 nats, -inf for the blank; the labels sum to 1.

    posteriors: arrays (T_i, V) of log-probabilities, of the frames that the recogniser learned
    from, as a rule. Raises ScoreError if there is no frame, or only blank has probability.
    Exact check: tests/acoustic/test_label_prior.py::test_prior_is_the_mean_without_blank.
    """
    total = None
    for log_probs in posteriors:
        sums = np.logaddexp.reduce(np.asarray(log_probs, np.float64), axis=0)
        total = sums if total is None else np.logaddexp(total, sums)
    if total is None:
        raise ScoreError("there are no posteriors to estimate the label prior from")
    total[blank] = -np.inf
    labels = np.logaddexp.reduce(total)
    if labels == -np.inf:
        raise ScoreError("the posteriors are all blank; a label prior needs speech")
    prior: np.ndarray = total - labels
    return prior
