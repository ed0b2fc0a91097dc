"""Texts to scores: one LM family a file, found by name through `rescore.registry.SCORERS`."""

from rescore.interfaces import PlainScorer, Scorer
from rescore.scorers.adapt import adapt
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.loading import load_scorer, load_vocabulary, scorer_of
from rescore.scorers.options import ScorerOptions

__all__ = [
    "PlainScorer",
    "Scorer",
    "ScorerFamily",
    "ScorerOptions",
    "Vocabulary",
    "adapt",
    "load_scorer",
    "load_vocabulary",
    "scorer_of",
]
