"""Texts to scores: one LM family a file, found by name through `rescore.registry.SCORERS`."""

from rescore.interfaces import PlainScorer, Scorer
from rescore.scorers.adapt import adapt
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.loading import built_scorer, command_of, load_scorer, load_vocabulary
from rescore.scorers.options import ScorerKeywords, ScorerOptions, Spec

__all__ = [
    "PlainScorer",
    "Scorer",
    "ScorerFamily",
    "ScorerKeywords",
    "ScorerOptions",
    "Spec",
    "Vocabulary",
    "adapt",
    "built_scorer",
    "command_of",
    "load_scorer",
    "load_vocabulary",
]
