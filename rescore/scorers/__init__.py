"""Texts to scores: one LM family a file, found by name through `rescore.registry.SCORERS`."""

from rescore.scorers.options import Scorer, ScorerOptions, load_scorer

__all__ = ["Scorer", "ScorerOptions", "load_scorer"]
