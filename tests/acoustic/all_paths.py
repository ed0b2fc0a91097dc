"""All paths of tiny posteriors, one by one: what every function of CTC is checked against."""

from __future__ import annotations

from itertools import product

import numpy as np

from rescore.acoustic.ctc import collapse


def random_log_probs(seed, frames, symbols, sharpness=1.5):
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(frames, symbols))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def paths(log_probs):
    """(path, its log-probability), V^T of them."""
    frames, symbols = log_probs.shape
    for path in product(range(symbols), repeat=frames):
        yield path, float(sum(log_probs[frame, symbol] for frame, symbol in enumerate(path)))


def texts(log_probs, blank):
    """Labels -> log P(labels | audio), for every text that some path spells."""
    totals = {}
    for path, value in paths(log_probs):
        labels = tuple(collapse(path, blank))
        totals[labels] = np.logaddexp(totals.get(labels, -np.inf), value)
    return totals
