"""Log every estimator of the embedded MDLM and USDM, draw by draw, for `curve.py` to plot.

    python recipes/bench/curve_log.py --dev dev.jsonl.gz --test test.jsonl.gz --output log

A fixed subset: every second utterance, the first `--utterances` of them, `--depth` hypotheses each.
One file for each part, group of estimators and utterance, written whole: a run that was stopped
goes on where it was. An array (hypotheses, draws) holds for each draw what it adds to the mean;
`size` (hypotheses,) is the number of scored tokens.
Random numbers are those of the scorers: aligned tokens of a list share them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import rescore
from rescore import NBest
from rescore.diffusion import masked, published, uniform
from rescore.diffusion.draws import Draws, Stream, utterance_key
from rescore.diffusion.hidden_sets import HiddenSet
from rescore.diffusion.plans import Plan, sums, token_values
from rescore.diffusion.queries import Query, evaluate_queries
from rescore.diffusion.readouts import Readings
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.denoising import DenoisingScorer
from rescore.scorers.sequences import TokenSequence

FOLDS, FEW_FOLDS, DEFAULT = (1, 2, 3, 4, 6, 8), (2, 3, 4), (2,)
#: K of the other patterns of folds, and how many random patterns.
PATTERN_FOLDS, RANDOM_PATTERNS = 4, 4
NOISE_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
#: Draws of the NELBOs: the default's, other samplers', pairs', the uniform one's. Their seed is 0.
DRAWS, OTHER_DRAWS, PAIRS, UNIFORM_DRAWS = 32, 8, 4, 8
#: Draws of the published estimators, and of those with the complements, each with its seed.
CODED, CODED_MORE, PRINTED, COMPLEMENTS = 64, 256, 8, 8
CODED_SEED, PRINTED_SEED = 1, 2


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis, with the one that its list is aligned to and the key of its draws."""

    window: TokenSequence
    first: TokenSequence
    utterance: int

    def random(self, seed: int) -> Draws:
        return Draws(seed, self.utterance, self.window.anchors, self.window.offsets)


# ------------------------------------------------------------------------------ K-fold PLL


def fold_patterns(hypothesis: Hypothesis) -> dict[str, np.ndarray]:
    """Ways to deal tokens to folds: name -> fold numbers (length,)."""
    window, first = hypothesis.window, hypothesis.first
    length, count = len(window.tokens), PATTERN_FOLDS
    patterns = {"contiguous": np.minimum(window.anchors * count // len(first.tokens), count - 1)}
    patterns["words"] = first.words[np.maximum(window.anchors, 0)] % count
    patterns["from_end"] = (length - np.arange(length)) % count
    for seed in range(RANDOM_PATTERNS):
        u = hypothesis.random(seed).tokens(length, 1, Stream.HIDE)[0]
        patterns[f"random{seed}"] = (count * u).astype(np.int64)
    return patterns


def fold_plans(counts: Sequence[int], hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """K-fold PLLs as the scorer makes them, for each K of `counts`."""
    window = hypothesis.window
    aligned = window.anchors + window.offsets
    return {
        f"folds{folds}": masked.plan_kfold_pll(window.scored_sequence, mask_id, aligned % folds)
        for folds in counts
    }


def pattern_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """K-fold PLLs with other patterns of folds."""
    sequence = hypothesis.window.scored_sequence
    return {
        name: masked.plan_kfold_pll(sequence, mask_id, folds)
        for name, folds in fold_patterns(hypothesis).items()
    }


def pll_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """The PLL."""
    return {"pll": masked.plan_pll(hypothesis.window.scored_sequence, mask_id)}


# ------------------------------------------------------------------------------ masked draws


def sampler_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """NELBOs by each set sampler, in strata."""
    random = hypothesis.random(0)
    sequence = hypothesis.window.scored_sequence
    return {
        name: masked.plan_nelbo(
            sequence,
            mask_id,
            random,
            draws=draws_of(name),
            set_sampler=sampler,
        )
        for name, sampler in published.SET_SAMPLERS.items()
    }


def nelbo_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """The NELBO as the scorer makes it."""
    sequence, random = hypothesis.window.scored_sequence, hypothesis.random(0)
    return {"nelbo": masked.plan_nelbo(sequence, mask_id, random)}


def draws_of(sampler: str) -> int:
    """Draws of a set sampler."""
    if sampler == "exact_count":
        return DRAWS
    return PAIRS if sampler.startswith("pair") else OTHER_DRAWS


def set_plan(hypothesis: Hypothesis, sets: Sequence[np.ndarray], mask_id: int) -> Plan:
    """One draw a set: the sum of the hidden tokens' log-probabilities."""
    weighted = [HiddenSet(draw, hidden, 1.0) for draw, hidden in enumerate(sets)]
    sequence = hypothesis.window.scored_sequence
    return masked.plan_of_sets(sequence, weighted, mask_id, draws=len(sets), strata=False)


def bernoulli_sets(hypothesis: Hypothesis, seed: int, levels: np.ndarray) -> list[np.ndarray]:
    """Every scored token hidden with probability t, for each t of `levels`."""
    window = hypothesis.window
    u = hypothesis.random(seed).tokens(len(window.tokens), len(levels), Stream.HIDE)
    return list(u[:, window.scored] < levels[:, None])


def coded_sets(hypothesis: Hypothesis, draws: int) -> list[np.ndarray]:
    """The sets of the published code, t drawn anew."""
    levels = hypothesis.random(CODED_SEED).levels(draws, strata=False)
    return bernoulli_sets(hypothesis, CODED_SEED, levels)


def published_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """What the published scores are made of: sums over hidden sets and over their complements."""
    coded = coded_sets(hypothesis, CODED)
    printed = bernoulli_sets(hypothesis, PRINTED_SEED, np.full(PRINTED, 0.5))
    return {
        "coded": set_plan(hypothesis, coded, mask_id),
        "coded_complement": set_plan(hypothesis, [~x for x in coded[:COMPLEMENTS]], mask_id),
        "printed": set_plan(hypothesis, printed, mask_id),
        "printed_complement": set_plan(hypothesis, [~x for x in printed[:COMPLEMENTS]], mask_id),
    }


def more_plans(hypothesis: Hypothesis, mask_id: int) -> dict[str, Plan]:
    """The rest of the published code's draws, up to the paper's 256."""
    sets = coded_sets(hypothesis, CODED_MORE)[CODED:]
    return {"coded_more": set_plan(hypothesis, sets, mask_id)}


MaskedPlans = Callable[[Hypothesis, int], dict[str, Plan]]


def log_masked(
    plans_of: MaskedPlans, scorer: DenoisingScorer, hypotheses: Sequence[Hypothesis]
) -> dict[str, np.ndarray]:
    """The values of each plan, draw by draw, (hypotheses, draws): scores, not costs."""
    mask_id = masked.mask_symbol(scorer.denoiser)
    named = [plans_of(hypothesis, mask_id) for hypothesis in hypotheses]
    plans = [plan for by_name in named for plan in by_name.values()]
    values = token_values(scorer.denoiser, plans, masked.read_token, budget=scorer.budget)
    estimates = iter(
        plan.combine(sums(of_plan)) for plan, of_plan in zip(plans, values, strict=True)
    )
    logged: dict[str, list[tuple[float, ...]]] = {name: [] for name in named[0]}
    for by_name in named:
        for name in by_name:
            estimate = next(estimates)
            is_score = not estimate.draws
            logged[name].append((estimate.value,) if is_score else negated(estimate.draws))
    return {name: np.array(rows) for name, rows in logged.items()}


def negated(costs: Sequence[float]) -> tuple[float, ...]:
    return tuple(-cost for cost in costs)


def log_published(
    scorer: DenoisingScorer, hypotheses: Sequence[Hypothesis]
) -> dict[str, np.ndarray]:
    """Sums of log-probabilities, and how many tokens each set hides."""
    logged = log_masked(published_plans, scorer, hypotheses)
    for name, seed, levels in (
        ("coded", CODED_SEED, None),
        ("printed", PRINTED_SEED, np.full(PRINTED, 0.5)),
    ):
        logged[f"{name}_counts"] = np.array(
            [
                [hidden.sum() for hidden in bernoulli_sets(hypothesis, seed, levels)]
                if levels is not None
                else [hidden.sum() for hidden in coded_sets(hypothesis, CODED_MORE)]
                for hypothesis in hypotheses
            ]
        )
    return logged


# ------------------------------------------------------------------------------ uniform states


def log_uniform(scorer: DenoisingScorer, hypotheses: Sequence[Hypothesis]) -> dict[str, np.ndarray]:
    """One-pass PLLs at several t; the NELBO, and the PLL of the same noisy sequences; the paper's
    loss at t = 0.5, and the PLL there.
    """
    prediction, vocab_size = scorer.denoiser.prediction, scorer.denoiser.vocab_size
    read_loss, read_token = uniform.read_loss(prediction), uniform.read_token(prediction)

    def read_both(readings: Readings) -> Tensor:
        return torch.stack((read_loss(readings), read_token(readings)), -1)

    plans: list[Plan] = []
    for hypothesis in hypotheses:
        sequence = hypothesis.window.scored_sequence
        plans += [uniform.plan_pll(sequence, t) for t in NOISE_LEVELS]
        plans.append(
            uniform.plan_nelbo(sequence, vocab_size, hypothesis.random(0), draws=UNIFORM_DRAWS)
        )
        plans.append(printed_uniform_plan(hypothesis, vocab_size))
    queries = [query for plan in plans for query in plan.queries]
    values = evaluate_queries(scorer.denoiser, queries, read_both, budget=scorer.budget)
    totals = iter([value.sum(0) for value in values])  # (2,): loss and log-probability
    logged: dict[str, list[np.ndarray]] = {}
    for hypothesis_plans in np.array_split(np.arange(len(plans)), len(hypotheses)):
        *one_pass, nelbo, printed = (plans[number] for number in hypothesis_plans)
        for t, plan in zip(NOISE_LEVELS, one_pass, strict=True):
            logged.setdefault(f"pll_t{t}", []).append(read(plan, totals)[:, 1])
        both = read(nelbo, totals)
        logged.setdefault("usdm_nelbo", []).append(-nelbo.weights * both[:, 0])
        logged.setdefault("renoised_pll", []).append(both[:, 1])
        both = read(printed, totals)
        logged.setdefault("usdm_printed", []).append(-both[:, 0])
        logged.setdefault("renoised_pll_t0.5", []).append(both[:, 1])
    return {name: np.array(rows) for name, rows in logged.items()}


def read(plan: Plan, totals: object) -> np.ndarray:
    """The next totals, one row for each query of a plan, (Q, 2)."""
    return np.array([next(totals) for _ in plan.queries])  # type: ignore[call-overload]


def printed_uniform_plan(hypothesis: Hypothesis, vocab_size: int) -> Plan:
    """The sequences of `published.usdm_as_printed`, with the random numbers of the list."""
    window, random = hypothesis.window, hypothesis.random(PRINTED_SEED)
    levels = np.full(UNIFORM_DRAWS, 0.5)
    noisy = uniform.corrupt_uniform(window.tokens, levels, random, vocab_size, window.fixed)
    positions = np.flatnonzero(window.scored)
    queries = [Query(row, 0.5, positions, window.tokens[positions]) for row in noisy]
    return Plan(queries, np.ones(UNIFORM_DRAWS), np.arange(UNIFORM_DRAWS), UNIFORM_DRAWS)


# ------------------------------------------------------------------------------ the run

Log = Callable[[DenoisingScorer, Sequence[Hypothesis]], dict[str, np.ndarray]]

#: Group -> (scorer, what it logs).
GROUPS: dict[str, tuple[str, Log]] = {
    "folds": ("mdlm", partial(log_masked, partial(fold_plans, FOLDS))),
    "few_folds": ("mdlm", partial(log_masked, partial(fold_plans, FEW_FOLDS))),
    "default": ("mdlm", partial(log_masked, partial(fold_plans, DEFAULT))),
    "nelbo": ("mdlm", partial(log_masked, nelbo_plans)),
    "patterns": ("mdlm", partial(log_masked, pattern_plans)),
    "uniform": ("usdm", log_uniform),
    "samplers": ("mdlm", partial(log_masked, sampler_plans)),
    "published": ("mdlm", log_published),
    "pll": ("mdlm", partial(log_masked, pll_plans)),
    "published_more": ("mdlm", partial(log_masked, more_plans)),
}


def subset(path: str, utterances: int, depth: int, every: int = 2) -> list[NBest]:
    """Every second utterance, the first so many, with the first `depth` hypotheses of each."""
    lists = list(rescore.read(path))[::every][:utterances]
    return [nbest.only(range(min(depth, len(nbest.hyps)))) for nbest in lists]


def hypotheses_of(scorer: DenoisingScorer, nbest: NBest) -> list[Hypothesis]:
    """The hypotheses of a list, each in one window."""
    windows = [of_hypothesis for (of_hypothesis,) in scorer.sequencer(nbest)]
    return [Hypothesis(window, windows[0], utterance_key(nbest.id)) for window in windows]


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dev", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the log")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--every", type=int, default=2, help="1: also the odd utterances")
    parser.add_argument(
        "--groups",
        default=",".join(f"{part}:{group}" for part in ("dev", "test") for group in GROUPS),
        help="PART:GROUP in this order (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    scorers = {name: load_scorer(name, ScorerOptions()) for name in ("mdlm", "usdm")}
    for part, _, group in (name.partition(":") for name in options.groups.split(",")):
        family, log = GROUPS[group]
        scorer = scorers[family]
        started = time.process_time()
        path_of_lists = getattr(options, part)
        for nbest in subset(path_of_lists, options.utterances, options.depth, options.every):
            path = options.output / part / group / f"{nbest.id}.npz"
            if not path.exists():
                hypotheses = hypotheses_of(scorer, nbest)
                sizes = np.array([hypothesis.window.scored.sum() for hypothesis in hypotheses])
                write(path, {"size": sizes, **log(scorer, hypotheses)})
        print(part, group, f"{time.process_time() - started:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
