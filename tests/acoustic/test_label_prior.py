"""The label prior against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from all_paths import random_log_probs

from rescore.acoustic.label_prior import label_prior
from rescore.errors import ScoreError


@pytest.mark.parametrize("blank", [0, 3])
def test_prior_is_the_mean_without_blank(blank):
    utterances = [random_log_probs(seed, 5 + seed, 4) for seed in range(3)]
    mean = np.exp(np.concatenate(utterances)).mean(axis=0)
    mean[blank] = 0
    prior = label_prior(iter(utterances), blank)
    assert np.exp(prior) == pytest.approx(mean / mean.sum(), rel=1e-12)
    assert prior[blank] == -np.inf


def test_rare_labels_keep_a_finite_prior():
    """exp(-1000) is no float64, its logarithm is."""
    prior = label_prior([np.array([[0.0, -1000.0, -1001.0]])], 0)
    assert prior.tolist()[1:] == pytest.approx([-np.log1p(np.exp(-1)), -1 - np.log1p(np.exp(-1))])


def test_a_prior_needs_frames_and_labels():
    with pytest.raises(ScoreError, match="no posteriors"):
        label_prior([], 0)
    with pytest.raises(ScoreError, match="all blank"):
        label_prior([np.array([[0.0, -np.inf]])], 0)
