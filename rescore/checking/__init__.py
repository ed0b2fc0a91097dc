"""What to know about lists before a network evaluation is paid for. docs/checking.md explains every figure and finding.

Reading order: `report.py` (what is counted, one list in memory), `findings.py` (the table of what is worth saying), `summary.py` (for people).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rescore.checking.inspection import Report
from rescore.scorers import ScorerOptions, Vocabulary, load_vocabulary
from rescore.types import NBest
from rescore.wer import Unit

__all__ = ["Report", "check"]


def check(
    lists: Iterable[NBest],
    scorer: str | Vocabulary = "mdlm",
    *,
    unit: Unit = "word",
    **options: Any,
) -> Report:
    """Look at every list once and report what a scorer of this name, with `ScorerOptions` as keywords, would see. No network is evaluated.

    `unit` is what errors are counted in. Memory does not grow with the input. `rescore.checking.findings.findings` says what is worth saying.
    Raises RescoreError for an unknown scorer, ModelError for an unusable model, and whatever reading the lists raises.
    """
    report = Report(
        load_vocabulary(scorer, ScorerOptions.of(options)) if isinstance(scorer, str) else scorer,
        unit,
    )
    for nbest in lists:
        report.add(nbest)
    return report
