"""Errors: counts, significance, evaluation."""

from rescore.wer.counts import (
    UNIT_NAMES,
    UNITS,
    Unit,
    count_errors,
    edit_distances,
    list_errors,
    oracle,
    reference,
    reference_length,
    units,
)
from rescore.wer.evaluation import Comparison, Evaluation, evaluate
from rescore.wer.significance import bootstrap_ci, probability_of_improvement

__all__ = [
    "UNITS",
    "UNIT_NAMES",
    "Comparison",
    "Evaluation",
    "Unit",
    "bootstrap_ci",
    "count_errors",
    "edit_distances",
    "evaluate",
    "list_errors",
    "oracle",
    "probability_of_improvement",
    "reference",
    "reference_length",
    "units",
]
