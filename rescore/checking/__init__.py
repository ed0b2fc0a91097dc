"""What to know about lists before you spend compute. docs/checking.md explains every figure.

Reading order: `counts.py` (what is counted of one kind), `inspection.py` (all counts, list by
list), `findings.py` (the table of what is worth saying), `summary.py` (text and JSON).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rescore.checking.inspection import Inspection
from rescore.scorers import ScorerOptions, Vocabulary, load_vocabulary
from rescore.types import NBest
from rescore.wer import Unit

__all__ = ["Inspection", "check"]


def check(
    lists: Iterable[NBest],
    scorer: str | Vocabulary = "mdlm",
    *,
    unit: Unit = "word",
    **options: Any,
) -> Inspection:
    """Inspect every list once, as a scorer of this name would see it. No network is evaluated.

    `options` are `ScorerOptions` as keywords. `unit` is the unit in which errors are counted.
    Memory does not grow with the input. `rescore.checking.findings.findings` lists what is worth
    knowing.

    Raises RescoreError for an unknown scorer, ModelError for an unusable model, ScoreError for a
    scorer without a tokenizer or an option that it does not read, and whatever reading the lists
    raises.
    Exact check: tests/checking/test_findings.py::test_every_finding_has_an_example.
    """
    vocabulary = (
        load_vocabulary(scorer, ScorerOptions.of(options)) if isinstance(scorer, str) else scorer
    )
    inspection = Inspection(vocabulary, unit)
    for nbest in lists:
        inspection.add(nbest)
    return inspection
