"""Joint decoding against tables whose reverse process and predictions are known exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tabular import MaskedTable, UniformTable, random_joint

from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import commit_rule, entropy_bound, top_k
from rescore.decoding.driver import run_samplers
from rescore.decoding.joint import (
    Draft,
    Filling,
    JointScales,
    UniformSteps,
    joint_masked,
    joint_uniform,
)
from rescore.diffusion.draws import SamplingDraws
from rescore.diffusion.reverse import reverse_step
from rescore.errors import ScoreError

N, LENGTH = 3, 3
JOINT = random_joint(N, LENGTH, seed=5)
SEQUENCES = list(itertools.product(range(N), repeat=LENGTH))
PREDICTIONS = ["leave_one_out", "posterior"]


def draft(labels=(0, 2, 1), size=N, seed=0, confidence=(0.99, 0.4, 0.6), length=LENGTH):
    """A draft whose labels are the likeliest of CTC, as those of a greedy path are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), size))
    logits[np.arange(len(labels)), labels] = logits.max(axis=1) + 0.1
    logits[:, N:] = -np.inf
    ctc = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    canvas = Canvas.of(np.array(labels), np.ones(length, bool))
    return Draft(canvas, ctc, np.array(confidence))


def table_rows(table, noisy, noise):
    rows = torch.tensor([noisy])
    levels = torch.tensor([noise], dtype=torch.float64)
    return table.log_probs(rows, levels, torch.zeros_like(rows, dtype=torch.bool))[0]


def outcomes(table, scales, steps, count, of=None):
    """The share of every sequence among `count` candidates."""
    samplers = [
        joint_uniform(of or draft(), table, scales, steps, SamplingDraws(1, 7, candidate))
        for candidate in range(count)
    ]
    shares = dict.fromkeys(SEQUENCES, 0.0)
    for canvas in run_samplers(table, samplers):
        shares[tuple(canvas.tokens.tolist())] += 1 / count
    return np.array(list(shares.values()))


def step_to(table, noisy, noise, next_noise, weights=None):
    """The probability of every next sequence: positions step apart."""
    log_probs = table_rows(table, noisy, noise)
    if weights is not None:
        log_probs = torch.log_softmax(weights(log_probs), -1)
    levels = [torch.full((LENGTH,), level, dtype=torch.float64) for level in (noise, next_noise)]
    q = reverse_step(table.prediction, log_probs, torch.tensor(noisy), *levels).numpy()
    return np.array([np.prod(q[np.arange(LENGTH), list(z)]) for z in SEQUENCES])


def close(shares, expected, count):
    """Every share within five standard errors of its probability."""
    return (
        np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / count) + 1e-9
    ).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_without_ctc_it_samples_the_reverse_process(prediction):
    table = UniformTable(JOINT, prediction)
    steps = UniformSteps(t_start=0.8, steps=2, update="ancestral", final="ancestral")
    start, count = (0, 2, 1), 4000
    expected = sum(
        p * step_to(table, z, 0.4, 0.0)
        for z, p in zip(SEQUENCES, step_to(table, start, 0.8, 0.4), strict=True)
    )
    shares = outcomes(table, JointScales(ctc=0.0, lm=1.0), steps, count)
    assert close(shares, expected, count)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_both_together_step_as_their_product_says(prediction):
    table, of, count = UniformTable(JOINT, prediction), draft(seed=3), 4000
    steps = UniformSteps(t_start=0.6, steps=1, update="ancestral", final="ancestral")

    def weighted(log_probs):
        return 0.7 * torch.from_numpy(of.ctc) + 0.5 * log_probs

    expected = step_to(table, (0, 2, 1), 0.6, 0.0, weighted)
    shares = outcomes(table, JointScales(0.7, 0.5), steps, count, of)
    assert close(shares, expected, count)


def test_as_printed_every_step_draws_from_the_combined_distribution():
    table, of, count = UniformTable(JOINT, "leave_one_out"), draft(seed=4), 4000
    steps = UniformSteps(t_start=0.6, steps=2, update="combined", final="sample")

    def drawn(noisy, noise):
        log_probs = torch.from_numpy(of.ctc) + 0.3 * table_rows(table, noisy, noise)
        p = torch.softmax(log_probs, -1).numpy()
        return np.array([np.prod(p[np.arange(LENGTH), list(z)]) for z in SEQUENCES])

    expected = sum(p * drawn(z, 0.3) for z, p in zip(SEQUENCES, drawn((0, 2, 1), 0.6), strict=True))
    assert close(outcomes(table, JointScales(), steps, count, of), expected, count)


def test_a_noised_start_is_the_forward_process():
    table, count = UniformTable(JOINT, "leave_one_out"), 4000
    steps = UniformSteps(t_start=0.9, final="ancestral", start="noised")
    kernel = 0.1 * np.eye(N) + 0.9 / N
    noised = [np.prod(kernel[[0, 2, 1], list(z)]) for z in SEQUENCES]
    expected = sum(p * step_to(table, z, 0.9, 0.0) for z, p in zip(SEQUENCES, noised, strict=True))
    shares = outcomes(table, JointScales(0.0, 1.0), steps, count)
    assert close(shares, expected, count)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("start", ["clean", "noised"])
def test_without_a_language_model_it_is_greedy(steps, start):
    table = UniformTable(JOINT, "leave_one_out")
    for seed in range(5):
        of = draft(seed=seed)
        settings = UniformSteps(0.5, steps, start=start)
        [canvas] = run_samplers(
            table, [joint_uniform(of, table, JointScales(1.0, 0.0), settings, SamplingDraws(0, 1))]
        )
        assert canvas.tokens.tolist() == of.canvas.tokens.tolist()


def by_hand(table, of, scales, rule_size, hide_below):
    """Fill by argmax of the sum, `rule_size` most confident positions a round."""
    tokens = [
        table.mask_id if c < hide_below else t
        for t, c in zip(of.canvas.tokens.tolist(), of.confidence, strict=True)
    ]
    while table.mask_id in tokens:
        hidden = [i for i, token in enumerate(tokens) if token == table.mask_id]
        rows = table_rows(table, tokens, len(hidden) / (LENGTH - 1)).numpy()
        best = []
        for i in hidden:
            total = scales.ctc * of.ctc[i, :N] + scales.lm * rows[i, :N]
            p = np.exp(total - np.logaddexp.reduce(total))
            best.append((-p.max(), i, int(p.argmax())))
        for _, i, token in sorted(best)[:rule_size]:
            tokens[i] = token
    return tokens


@pytest.mark.parametrize("size", [1, 2, 3])
def test_masked_filling_is_the_rule_by_hand(size):
    for seed in range(10):
        table = MaskedTable(random_joint(N, LENGTH, seed=seed))
        of = draft(size=N + 1, seed=seed, confidence=(0.3, 0.4, 0.6))
        sampler = joint_masked(
            of, JointScales(1.0, 2.0), Filling(table.mask_id, top_k(size)), 0.9, SamplingDraws(0, 1)
        )
        [canvas] = run_samplers(table, [sampler])
        assert canvas.tokens.tolist() == by_hand(table, of, JointScales(1.0, 2.0), size, 0.9)


def asked_by(sampler, asked):
    """The sampler; `asked` gets the positions of each of its queries."""
    answer = None
    while True:
        try:
            queries = sampler.send(answer)
        except StopIteration as end:
            return end.value
        asked += [query.positions.tolist() for query in queries]
        answer = yield queries


@pytest.mark.parametrize(("rule", "rounds"), [(entropy_bound(1e-9), 3), (entropy_bound(99.0), 1)])
def test_a_tight_bound_fills_one_position_a_round_and_a_loose_one_all(rule, rounds):
    table = MaskedTable(JOINT)
    of = draft(size=N + 1, confidence=(0.1, 0.1, 0.1))
    asked = []
    filling = Filling(table.mask_id, rule)
    sampler = joint_masked(of, JointScales(1, 1), filling, 0.9, SamplingDraws(0, 1))
    run_samplers(table, [asked_by(sampler, asked)])
    assert list(map(len, asked)) == {3: [3, 2, 1], 1: [3]}[rounds]


def test_remasking_opens_a_share_of_what_was_filled_and_fills_it_again():
    table, of = MaskedTable(JOINT), draft(size=N + 1, confidence=(0.99, 0.4, 0.6))
    asked = []
    filling = Filling(N, entropy_bound(99.0), (1.0, 0.5))
    sampler = joint_masked(of, JointScales(1, 1), filling, 0.9, SamplingDraws(0, 1))
    [canvas] = run_samplers(table, [asked_by(sampler, asked)])
    assert asked[:2] == [[1, 2], [1, 2]]
    assert asked[2] in ([1], [2])
    assert len(asked) == 3
    assert canvas.tokens[0] == of.canvas.tokens[0]
    changed = {
        tuple(
            run_samplers(
                table,
                [joint_masked(of, JointScales(1, 9), filling, 2.0, SamplingDraws(0, 1, candidate))],
            )[0].tokens
        )
        for candidate in range(20)
    }
    assert len(changed) > 1  # what is masked anew is drawn for every candidate


def test_what_ctc_is_sure_of_stays_and_costs_nothing():
    table = MaskedTable(JOINT)
    of = draft(size=N + 1, confidence=(0.95, 0.95, 0.95))
    [canvas] = run_samplers(
        table, [joint_masked(of, JointScales(), Filling(N, top_k(1)), 0.9, SamplingDraws(0, 1))]
    )
    assert canvas.tokens.tolist() == [0, 2, 1]
    assert table.evaluations == 0


def test_only_symbols_of_ctc_are_proposed():
    table = UniformTable(random_joint(5, LENGTH, seed=1), "leave_one_out")
    of = draft(size=5)  # 3 and 4 stand for padding and BOS
    for final, start in itertools.product(("argmax", "sample", "ancestral"), ("clean", "noised")):
        steps = UniformSteps(0.9, 2, update="ancestral", final=final, start=start)
        samplers = [
            joint_uniform(of, table, JointScales(0.2, 1), steps, SamplingDraws(0, 1, candidate))
            for candidate in range(50)
        ]
        assert max(canvas.tokens.max() for canvas in run_samplers(table, samplers)) < N


def test_numbers_out_of_range_are_refused():
    for build in (
        lambda: JointScales(0, 0),
        lambda: JointScales(-1, 1),
        lambda: UniformSteps(t_start=0),
        lambda: UniformSteps(t_start=1.5),
        lambda: UniformSteps(steps=0),
        lambda: commit_rule("top_k", -1),
    ):
        with pytest.raises(ScoreError, match="expected"):
            build()
