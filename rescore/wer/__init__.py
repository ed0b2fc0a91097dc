"""Errors: counts, alignments, significance, evaluation, what changes between systems."""

from rescore.wer.alignment import Edit, align
from rescore.wer.changes import Change, Changes, changes
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
    "Change",
    "Changes",
    "Comparison",
    "Edit",
    "Evaluation",
    "Unit",
    "align",
    "bootstrap_ci",
    "changes",
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
