"""Which of several systems to keep: a guard against fitting noise.

Tuned weights never make more errors on the lists they were tuned on than the first score alone, so
that an improvement there proves nothing. Here a system counts by its errors on held-out folds, and
it is kept if it beats a simpler one there with enough probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FusionError
from rescore.fusion.cost_watch import warn_of_costs
from rescore.fusion.descent import SearchSettings
from rescore.fusion.dev_set import DevSet
from rescore.fusion.table import RANK
from rescore.fusion.tuning import Tuned, tune_and_validate
from rescore.fusion.weights import Fusion
from rescore.wer.significance import probability_of_improvement

__all__ = ["ORIGINAL", "Choice", "Verdict", "choose", "first_pass", "tune_kept"]

IntArray: TypeAlias = NDArray[np.int64]

#: What the recogniser's own order is called among the systems.
ORIGINAL = "first pass"


@dataclass(frozen=True)
class Verdict:
    """Whether a system is kept: `probability` that it makes fewer errors than `simpler`."""

    simpler: str
    probability: float
    is_kept: bool


@dataclass(frozen=True)
class Choice:
    """The system to use, `ORIGINAL` or a name, and the verdict on every system."""

    system: str
    verdicts: Mapping[str, Verdict]


def first_pass() -> Fusion:
    """The weights that leave every list in the recogniser's order."""
    return Fusion({RANK: 1.0})


def choose(
    dev: DevSet,
    systems: Mapping[str, Tuned],
    simpler: Mapping[str, Sequence[str]],
    keep: float,
    seed: int = 0,
) -> Choice:
    """Decide which systems are kept, and choose one of them.

    `simpler` names for each system those it has to beat if they are kept: it is compared with the
    best of them, or with the first pass. It is kept if it makes fewer errors on held-out folds in
    `keep` of the paired bootstrap resamples or more. Simpler systems come first in `systems`. The
    kept system with the fewest held-out errors is chosen; ties go to the simpler one.
    Raises FusionError unless `keep` is a probability.
    Exact check: tests/fusion/test_selection.py::test_a_system_is_kept_if_it_beats_a_simpler_one.
    """
    if not 0 <= keep <= 1:
        raise FusionError(f"got a probability of {keep}, expected 0 to 1")
    errors = {ORIGINAL: dev.errors[dev.offsets[:-1]]}
    verdicts: dict[str, Verdict] = {}
    for name, tuned in systems.items():
        rivals = [ORIGINAL, *(other for other in simpler[name] if other in errors)]
        rival = _fewest(errors, rivals)
        probability = probability_of_improvement(tuned.held_out_errors, errors[rival], seed=seed)
        verdicts[name] = Verdict(rival, probability, probability >= keep)
        if verdicts[name].is_kept:
            errors[name] = tuned.held_out_errors
    return Choice(_fewest(errors, list(errors)), verdicts)


def tune_kept(
    dev: DevSet,
    names: Sequence[str],
    *,
    keep: float,
    folds: int = 5,
    settings: SearchSettings | None = None,
) -> tuple[Choice, Fusion]:
    """Tune the first score, the first two, and so on; return the choice and its weights.

    So a score that adds nothing on held-out folds is left out, and the recogniser's order stays
    where no score improves it. Raises as `tune` and `choose` do.
    """
    warn_of_costs(dev.table(names))
    systems: dict[str, Tuned] = {}
    simpler: dict[str, tuple[str, ...]] = {}
    for count in range(1, len(names) + 1):
        name = ",".join(names[:count])
        simpler[name] = tuple(systems)
        systems[name] = tune_and_validate(dev, names[:count], folds, settings)
    choice = choose(dev, systems, simpler, keep, (settings or SearchSettings()).seed)
    if choice.system == ORIGINAL:
        return choice, first_pass()
    return choice, systems[choice.system].fusion


def _fewest(errors: Mapping[str, IntArray], names: Sequence[str]) -> str:
    """The system with the fewest errors; ties go to the first."""
    return min(names, key=lambda name: int(errors[name].sum()))
