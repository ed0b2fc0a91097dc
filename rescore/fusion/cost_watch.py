"""Notice scores that look like costs, as tables of scores pass by.

Every score is higher is better. A recogniser's cost that comes in unsigned is the commonest way to
fuse nonsense, and tuning hides it: it sets the scale to 0.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from rescore.fusion.table import ScoreTable

__all__ = ["NEARLY_ALL", "NOT_LOG_PROBS", "CostWatch", "warn_of_costs"]

logger = logging.getLogger("rescore")

#: Names of scores that are not sums of log-probabilities: positions, totals, means, probabilities,
#: lengths.
NOT_LOG_PROBS = re.compile(
    r"^rank$|^total$|_per_token$|conf|posterior|count|word|length|duration|bonus|^(?!.*log).*prob"
)
#: The share of lists whose first hypothesis has the lowest score, from which that is no accident.
NEARLY_ALL = 0.9

_ENOUGH_LISTS = 20


def warn_of_costs(table: ScoreTable) -> None:
    """Log a warning for each score of a table that looks like a cost."""
    watch = CostWatch(table.names)
    watch.add(table)
    for line in watch.warnings():
        logger.warning("%s", line)


class CostWatch:
    """Counts, for each name, what tells a cost: its sign, and where the recogniser's best lies."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._hypotheses = 0
        self._positive = np.zeros(len(names), dtype=np.int64)
        self._varied = np.zeros(len(names), dtype=np.int64)  # lists whose values differ
        self._first_lowest = np.zeros(len(names), dtype=np.int64)  # of them

    def add(self, table: ScoreTable) -> None:
        """Count a table of these names, in their order."""
        starts = table.offsets[:-1]
        lowest = np.minimum.reduceat(table.features, starts, axis=0)
        is_varied = lowest < np.maximum.reduceat(table.features, starts, axis=0)
        self._hypotheses += len(table.words)
        self._positive += (table.features > 0).sum(0)
        self._varied += is_varied.sum(0)
        self._first_lowest += (is_varied & (table.features[starts] == lowest)).sum(0)

    def warnings(self) -> list[str]:
        """One line for each score that looks like a cost."""
        lines = []
        for k, name in enumerate(self._names):
            is_log_prob = not NOT_LOG_PROBS.search(name)
            is_tested = self._varied[k] >= _ENOUGH_LISTS
            if is_log_prob and self._positive[k] > self._hypotheses / 2:
                share = _percent(self._positive[k], self._hypotheses)
                evidence = f"is positive on {share} of the hypotheses"
            elif is_tested and self._first_lowest[k] > NEARLY_ALL * self._varied[k]:
                share = _percent(self._first_lowest[k], self._varied[k])
                evidence = f"is lowest on the first hypothesis in {share} of the lists"
            else:
                continue
            lines.append(f'score "{name}" {evidence}: {_ADVICE}')
        return lines


_ADVICE = "higher is better here; negate it if it is a cost"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"
