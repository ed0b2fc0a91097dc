"""What every masked estimator tells the network, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tabular import MaskedTable, UniformTable, random_joint

from rescore.diffusion import masked
from rescore.diffusion.draws import Draws
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked.nelbo(TABLE, (0, 1, 2, 0), draws=0), "draws must be at least 1"),
        (
            lambda: masked.nelbo(TABLE, scored_sequence((0, 1, 2, 0)), scored=np.ones(4, bool)),
            "a ScoredSequence says itself what is scored and fixed",
        ),
        (lambda: masked.nelbo(TABLE, (0, 1, 2, 9)), "token ids must lie in 0..3"),
        (lambda: masked.nelbo(TABLE, ()), "tokens must be integers"),
        (lambda: masked.nelbo(TABLE, np.zeros(0, dtype=int)), "no token is scored"),
        (lambda: masked.nelbo(TABLE, (0.5, 1.0)), "tokens must be integers"),
        (lambda: masked.pll(TABLE, (0, 1, 2, 0), scored=np.zeros(4, bool)), "no token is scored"),
        (
            lambda: masked.pll(TABLE, (0, 1, 2, 0), scored=np.ones(3, bool)),
            "scored must be bool of shape",
        ),
        (lambda: masked.pll(TABLE, (0, 1, 2, 0), words=np.zeros(2)), "words must have shape"),
        (
            lambda: masked.chain(TABLE, (0, 1, 2, 0), order=[0, 0, 1, 2]),
            "order must be a permutation",
        ),
        (
            lambda: masked.chain(TABLE, (0, 1, 2, 0), order="backwards"),
            "order 'backwards' is unknown",
        ),
        (lambda: masked.chain(TABLE, (0, 1, 2, 0), block=0), "block must be at least 1"),
        (lambda: masked.nelbo_exact(TABLE, np.zeros(17, dtype=int)), "at most 16 tokens"),
        (
            lambda: masked.pll(UniformTable(JOINT, "posterior"), (0, 1, 2, 0)),
            "need a denoiser with a mask symbol",
        ),
    ],
)
def test_bad_calls_say_what_was_wrong(call, message):
    with pytest.raises(ScoreError, match=message.replace("(", r"\(")):
        call()


def test_nan_from_the_network_is_an_error_never_a_score():
    class Broken(MaskedTable):
        def log_probs(self, noisy, noise, padding):
            return super().log_probs(noisy, noise, padding) * math.nan

    with pytest.raises(ScoreError, match="NaN"):
        masked.nelbo(Broken(JOINT), (0, 1, 2, 0))


def test_scored_tokens_alone_are_hidden_and_counted():
    tokens, scored = (2, 0, 1, 1), np.array([False, True, True, False])
    conditional = JOINT[2, 0, 1, 1] / JOINT[2, :, :, 1].sum()
    assert masked.nelbo_exact(TABLE, tokens, scored=scored).value == pytest.approx(
        -math.log(conditional), abs=1e-10
    )
    assert masked.pll(TABLE, tokens, scored=scored).evaluations == 2


PLANS = {
    "nelbo": lambda sequence: masked.plan_nelbo(sequence, 3, Draws(1), draws=3),
    "pll": lambda sequence: masked.plan_pll(sequence, 3),
    "pll_within_word": lambda sequence: masked.plan_pll(sequence, 3, np.array([0, 1, 1, 2])),
    "chain": lambda sequence: masked.plan_chain(sequence, 3, np.arange(2)),
}


@pytest.mark.parametrize("plan_of", list(PLANS.values()), ids=list(PLANS))
@pytest.mark.parametrize(("fixed", "seen"), [(None, 4), ([True, False, False, False], 3)])
def test_the_network_is_told_the_hidden_share_of_the_tokens_it_sees(plan_of, fixed, seen):
    """A window of four tokens, two of them scored: n / 4, or n / 3 where the first one is BOS."""
    scored = np.array([False, True, True, False])
    sequence = scored_sequence(
        (2, 0, 1, 1), scored, fixed=None if fixed is None else np.array(fixed)
    )
    queries = plan_of(sequence).queries
    assert len(queries) in (2, 3)
    for query in queries:
        assert query.noise == (query.noisy == 3).sum() / seen
