"""Texts to scores: one LM family a file, found by name through `rescore.registry.SCORERS`."""

from rescore.scorers.options import ChunkScorer, Scorer, ScorerOptions, load_scorer

__all__ = ["ChunkScorer", "Scorer", "ScorerOptions", "load_scorer"]
