"""From scores to decisions: weights, totals, decisions, the line search, tuning, sweeps."""

from rescore.fusion.descent import Optimum, SearchSettings
from rescore.fusion.dev_set import DevSet
from rescore.fusion.sweep import Base, Fold, Sweep, SweepSettings, sweep
from rescore.fusion.table import RANK, TOTAL, WORD_BONUS, ScoreTable, recogniser_scores
from rescore.fusion.totals import fuse
from rescore.fusion.tuning import tune, tune_arrays
from rescore.fusion.weights import DevResult, Fusion, digest, load, save

__all__ = [
    "RANK",
    "TOTAL",
    "WORD_BONUS",
    "Base",
    "DevResult",
    "DevSet",
    "Fold",
    "Fusion",
    "Optimum",
    "ScoreTable",
    "SearchSettings",
    "Sweep",
    "SweepSettings",
    "digest",
    "fuse",
    "load",
    "recogniser_scores",
    "save",
    "sweep",
    "tune",
    "tune_arrays",
]
