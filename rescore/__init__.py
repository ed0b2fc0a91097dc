"""dlmrescore: rescore ASR N-best lists with diffusion language models.

The Python interface: `read`, `nbest`, `check`, `score`, `tune`, `fuse`, `evaluate` and `write` for
lists, `score_texts` for plain texts, `load_scorer` and `scorer_of` for scorers that stay loaded,
`save_weights` and `load_weights`, `sweep` to look at the scales around the tuned ones, `run` for
all of it at once, `tune_arrays` for scores in arrays. docs/python.md shows it; `rescore.registry`
is the map of everything else. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rescore.api.experiments import run
    from rescore.api.lists import evaluate, from_transformers, nbest, read, write
    from rescore.api.scoring import check, load_scorer, score, score_texts, scorer_of
    from rescore.api.weights import (
        fuse,
        load_weights,
        pool,
        save_weights,
        sweep,
        tune,
        tune_arrays,
    )
    from rescore.fusion import Fusion
    from rescore.scorers import ScorerOptions
    from rescore.types import Hypothesis, NBest

__all__ = [
    "Fusion",
    "Hypothesis",
    "NBest",
    "ScorerOptions",
    "check",
    "evaluate",
    "from_transformers",
    "fuse",
    "load_scorer",
    "load_weights",
    "nbest",
    "pool",
    "read",
    "run",
    "save_weights",
    "score",
    "score_texts",
    "scorer_of",
    "sweep",
    "tune",
    "tune_arrays",
    "write",
]

_HOME = {
    "Fusion": "rescore.fusion",
    "Hypothesis": "rescore.types",
    "NBest": "rescore.types",
    "ScorerOptions": "rescore.scorers",
    "check": "rescore.api.scoring",
    "evaluate": "rescore.api.lists",
    "from_transformers": "rescore.api.lists",
    "fuse": "rescore.api.weights",
    "load_scorer": "rescore.api.scoring",
    "load_weights": "rescore.api.weights",
    "nbest": "rescore.api.lists",
    "pool": "rescore.api.weights",
    "read": "rescore.api.lists",
    "run": "rescore.api.experiments",
    "save_weights": "rescore.api.weights",
    "score": "rescore.api.scoring",
    "score_texts": "rescore.api.scoring",
    "scorer_of": "rescore.api.scoring",
    "sweep": "rescore.api.weights",
    "tune": "rescore.api.weights",
    "tune_arrays": "rescore.api.weights",
    "write": "rescore.api.lists",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rescore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
