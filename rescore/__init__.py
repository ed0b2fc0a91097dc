"""dlmrescore: rescore ASR N-best lists with diffusion language models.

The Python interface: `read`, `check`, `score`, `tune`, `fuse` and `evaluate` for lists, `sweep` to
look at the scales around the tuned ones, `run` for all of it at once, `tune_arrays` for scores in
arrays. `rescore.registry` is the map of everything else. Nothing heavy is imported before it is
used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rescore.checking import check
    from rescore.experiment import run
    from rescore.fusion import Fusion, fuse, sweep, tune, tune_arrays
    from rescore.pipeline import read, score
    from rescore.scorers import ScorerOptions, load_scorer
    from rescore.types import Hypothesis, NBest
    from rescore.wer import evaluate

__all__ = [
    "Fusion",
    "Hypothesis",
    "NBest",
    "ScorerOptions",
    "check",
    "evaluate",
    "fuse",
    "load_scorer",
    "read",
    "run",
    "score",
    "sweep",
    "tune",
    "tune_arrays",
]

_HOME = {
    "Fusion": "rescore.fusion",
    "Hypothesis": "rescore.types",
    "NBest": "rescore.types",
    "ScorerOptions": "rescore.scorers",
    "check": "rescore.checking",
    "evaluate": "rescore.wer",
    "fuse": "rescore.fusion",
    "load_scorer": "rescore.scorers",
    "read": "rescore.pipeline",
    "run": "rescore.experiment",
    "score": "rescore.pipeline",
    "sweep": "rescore.fusion",
    "tune": "rescore.fusion",
    "tune_arrays": "rescore.fusion",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rescore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
