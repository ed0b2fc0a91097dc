"""Small problems for tuning: lists and tables whose scores see the errors through noise."""

from fractions import Fraction
from itertools import combinations

import numpy as np
from hypothesis import strategies as st

from rescore.fusion import ScoreTable
from rescore.fusion.totals import totals, winners
from rescore.types import Hypothesis, NBest

# Few values: many ties, parallel lines and corners that coincide.
small = st.integers(-3, 3)


def lists_of(*columns):
    """Lists of hypotheses, each a tuple with an entry for each column."""
    return st.lists(st.lists(st.tuples(*columns), min_size=1, max_size=5), min_size=1, max_size=6)


def arrays(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return offsets, *(
        np.array(column) for column in zip(*(hyp for hyps in lists for hyp in hyps), strict=True)
    )


def exact_count(lists, step):
    """Errors of the 1-bests, in rational arithmetic; of equal hypotheses the first."""
    return sum(
        max(enumerate(hyps), key=lambda pair: (pair[1][0] + step * pair[1][1], -pair[0]))[1][2]
        for hyps in lists
    )


def crossings(lists):
    """Every step at which two hypotheses of a list cross."""
    return sorted(
        {
            Fraction(p[0] - q[0], q[1] - p[1])
            for hyps in lists
            for p, q in combinations(hyps, 2)
            if p[1] != q[1]
        }
    )


def made_up_table(seed, utterances=40, hypotheses=12, scores=3, whole=False):
    """Scores that each see the errors through noise; `whole` rounds them, for ties."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, hypotheses + 1, utterances)
    errors = [random.poisson(2.0, size) for size in sizes]
    features = [
        np.column_stack([-count + random.normal(0, 1.5, len(count)) for _ in range(scores)])
        for count in errors
    ]
    words = [random.integers(3, 7, size) for size in sizes]
    return ScoreTable.from_arrays(
        [np.round(table) if whole else table for table in features], words
    ), np.concatenate(errors)


def errors_at(table, errors, scales, word_bonus=0.0):
    return int(errors[winners(totals(table, scales, word_bonus), table.offsets)].sum())


def made_up_lists(
    seed: int, utterances: int = 12, longest: int = 9, whole: bool = True
) -> list[NBest]:
    """Lists whose three scores see the errors through noise; `whole` rounds them, for ties."""
    random = np.random.default_rng(seed)
    lists = []
    for number in range(utterances):
        ref = [str(word) for word in random.integers(0, 30, random.integers(2, 9))]
        hyps = []
        for _ in range(random.integers(1, longest + 1)):
            words = [random.choice(["x", "x y", word], p=[0.15, 0.1, 0.75]) for word in ref]
            wrong = sum("x" in word for word in words)
            scores = {
                name: float(-size * wrong + random.normal(0, 2 * size))
                for name, size in (("am", 3), ("ngram", 1), ("mdlm", 2))
            }
            hyps.append(
                Hypothesis(
                    " ".join(words),
                    {name: float(round(value)) for name, value in scores.items()}
                    if whole
                    else scores,
                )
            )
        lists.append(NBest(f"u{number}", tuple(hyps), " ".join(ref)))
    return lists
