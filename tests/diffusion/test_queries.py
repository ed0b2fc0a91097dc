"""Batched queries: who shares a pass, what a denoiser is passed, and what company changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tabular import ConditionedTable, MaskedTable, Topic, UniformTable, random_joint

from rescore.batching import Budget
from rescore.diffusion import masked, queries
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import estimates
from rescore.diffusion.queries import Query, evaluate_queries, shared_passes
from rescore.diffusion.readouts import read_choice, read_rows, read_token
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError
from rescore.interfaces import Condition, SparseDenoiser

JOINT = random_joint(3, 4, seed=1)
JOINTS = {key: random_joint(3, 4, seed=seed) for seed, key in enumerate(("", "a", "b"))}
MASK = 3


def query(noisy, positions, clean=None, *, noise=0.5, topic=None) -> Query:
    return Query(
        np.array(noisy),
        noise,
        np.array(positions),
        None if clean is None else np.array(clean),
        None if topic is None else Topic(topic),
    )


def conditional(topic, noisy, position) -> np.ndarray:
    """p(x_position | visible tokens) by summing the joint distribution of the topic."""
    joint = JOINTS[topic]
    probabilities = np.zeros(3)
    for tokens in itertools.product(range(3), repeat=4):
        if all(z in (MASK, x) for z, x in zip(noisy, tokens, strict=True)):
            probabilities[tokens[position]] += joint[tokens]
    return probabilities / probabilities.sum()


MIXED = [
    query((2, MASK, MASK, 1), (1, 2), (0, 1)),
    query((2, MASK, MASK, 1), (1, 2), (0, 1), topic="a"),
    query((2, MASK, MASK, 1), (2,), (2,), topic="b"),
    query((2, MASK, MASK, 1), (2, 1), (0, 0), topic="a"),
    query((0, 1, MASK, 1), (2,), (1,), topic="b"),
    query((0, 1, MASK, 1), (2,), (1,)),
    query((2, MASK, MASK, 1), (1,), (2,)),
]


def test_equal_tokens_with_different_conditions_never_share_a_pass():
    assert shared_passes(MIXED) == [[0, 6], [1, 3], [2], [4], [5]]
    table = ConditionedTable(JOINTS)
    evaluate_queries(table, MIXED, read_token)
    assert table.evaluations == 5
    assert sorted(itertools.chain(*table.batches)) == ["", "", "a", "b", "b"]


def test_conditions_are_equal_iff_their_keys_are():
    assert isinstance(Topic("a"), Condition)
    same = [query((2, MASK, 1, 1), (1,), (0,), topic="a") for _ in range(2)]
    assert same[0].condition is not same[1].condition
    assert shared_passes(same) == [[0, 1]]


@pytest.mark.parametrize("tokens", [4, 8, 1024])
def test_batches_mix_conditions_and_every_row_is_read_under_its_own(tokens):
    table = ConditionedTable(JOINTS)
    values = evaluate_queries(table, MIXED, read_token, budget=Budget(tokens))
    assert max(map(len, table.batches)) == min(5, tokens // 4)
    for asked, log_probs in zip(MIXED, values, strict=True):
        topic = "" if asked.condition is None else asked.condition.key
        expected = [
            conditional(topic, asked.noisy, position)[token]
            for position, token in zip(asked.positions, asked.clean, strict=True)
        ]
        assert np.exp(log_probs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("readout", [read_token, read_choice, read_rows])
def test_together_and_one_by_one_give_the_same(readout, monkeypatch):
    together = evaluate_queries(ConditionedTable(JOINTS), MIXED, readout)
    monkeypatch.setattr(queries, "readout_rows", lambda device: 2)
    in_pieces = evaluate_queries(ConditionedTable(JOINTS), MIXED, readout, budget=Budget(8))
    for asked, values, pieces in zip(MIXED, together, in_pieces, strict=True):
        [alone] = evaluate_queries(ConditionedTable(JOINTS), [asked], readout)
        assert values.shape == alone.shape
        assert len(values) == len(asked.positions)
        assert np.array_equal(values, alone)
        assert np.array_equal(values, pieces)


def test_text_alone_is_passed_no_condition():
    """A denoiser of three arguments goes on working; one batch of text alone in a mixed set too."""
    text = [asked for asked in MIXED if asked.condition is None]
    values = evaluate_queries(MaskedTable(JOINTS[""]), text, read_token)
    mixed = evaluate_queries(ConditionedTable(JOINTS), MIXED, read_token)
    expected = [v for asked, v in zip(MIXED, mixed, strict=True) if asked.condition is None]
    assert all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True))
    with pytest.raises(TypeError, match="condition"):
        evaluate_queries(MaskedTable(JOINTS[""]), MIXED, read_token)


def test_a_conditioned_plan_estimates_under_its_condition():
    plan = masked.plan_chain(scored_sequence((2, 0, 1, 1)), MASK, np.arange(4))
    table = ConditionedTable(JOINTS)
    plans = [plan, plan.conditioned(Topic("a")), plan.conditioned(Topic("b"))]
    for key, result in zip(("", "a", "b"), estimates(table, plans, read_token), strict=True):
        assert result.value == pytest.approx(np.log(JOINTS[key][2, 0, 1, 1]), abs=1e-12)


class Sparse:
    """A table as hidden states with a head: `encode` gives rows of log-probabilities."""

    vocab_size, mask_id, prediction = 4, MASK, "masked"

    def __init__(self) -> None:
        self.table = ConditionedTable(JOINTS)
        self.read = 0

    def encode(self, noisy, noise, padding, condition=None):
        return self.table.log_probs(noisy, noise, padding, condition)

    def readout(self, hidden):
        self.read += len(hidden)
        return hidden

    def log_probs(self, noisy, noise, padding, condition=None):
        raise AssertionError("the dense tensor is not needed")


def test_a_sparse_denoiser_is_read_at_each_position_once():
    sparse = Sparse()
    assert isinstance(sparse, SparseDenoiser)
    assert not isinstance(sparse.table, SparseDenoiser)
    values = evaluate_queries(sparse, MIXED, read_token)
    dense = evaluate_queries(sparse.table, MIXED, read_token)
    assert all(np.array_equal(a, b) for a, b in zip(values, dense, strict=True))
    different = {
        (asked.pass_key, int(position), int(token))
        for asked in MIXED
        for position, token in zip(asked.positions, asked.clean, strict=True)
    }
    assert sparse.read == len(different) < sum(len(asked.positions) for asked in MIXED)


def test_clean_tokens_are_optional_where_the_read_out_needs_none():
    without = [query(asked.noisy, asked.positions) for asked in MIXED[:1]]
    [rows] = evaluate_queries(MaskedTable(JOINTS[""]), without, read_rows)
    assert np.exp(rows[0, :3]) == pytest.approx(conditional("", (2, MASK, MASK, 1), 1))
    with pytest.raises(ScoreError, match="needs the clean tokens of every query"):
        evaluate_queries(MaskedTable(JOINTS[""]), without, read_token)
    with pytest.raises(ScoreError, match="some queries name their clean tokens and some do not"):
        evaluate_queries(MaskedTable(JOINTS[""]), [*without, MIXED[5]], read_rows)


def test_no_query_costs_nothing():
    table = MaskedTable(JOINT)
    assert evaluate_queries(table, [], read_token) == []
    assert table.evaluations == 0


def test_noise_levels_reach_the_denoiser_unrounded():
    levels = []

    class Listening(UniformTable):
        def log_probs(self, noisy, noise, padding):
            assert noise.dtype == torch.float64
            levels.extend(noise.tolist())
            return super().log_probs(noisy, noise, padding)

    table = Listening(JOINT, "leave_one_out")
    evaluate_queries(table, [query((0, 1, 2, 0), (1,), (1,), noise=1 - 2**-40)], read_token)
    assert levels == [1 - 2**-40]


def test_hypotheses_whose_differences_are_hidden_share_a_pass():
    table = MaskedTable(JOINT)
    rows = ((2, 0, 1, 1), (2, 0, 2, 1), (2, 0, 2, 1), (1, 0, 1, 1))
    plans = [masked.plan_pll(scored_sequence(row), table.mask_id) for row in rows]
    together = estimates(table, plans, read_token)
    # the third place of rows 1 and 2, the first of rows 1 and 4; row 3 is row 2
    assert table.evaluations == 3 * 4 - 1 - 1
    assert together == [estimates(table, [plan], read_token)[0] for plan in plans]


def test_random_numbers_in_common_make_passes_in_common():
    table = MaskedTable(JOINT)
    plans = [
        masked.plan_nelbo(scored_sequence(row), table.mask_id, Draws(seed=3), draws=64)
        for row in ((2, 0, 1, 1), (2, 0, 2, 1))
    ]
    together = estimates(table, plans, read_token)
    # of 128: half of them hide the place that differs, and few tokens have few hidden sets
    assert table.evaluations < 64
    for plan, result in zip(plans, together, strict=True):
        alone = estimates(table, [plan], read_token)[0]
        assert result.draws == pytest.approx(alone.draws, abs=1e-14)
