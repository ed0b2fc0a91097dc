"""What a scorer makes of a text before its network sees it: normaliser, tokenizer, window, without loading the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rescore.errors import ModelError, ScoreError
from rescore.models.checkpoint import Objective
from rescore.models.embedded import open_vocabulary
from rescore.models.hub import load_tokenizer
from rescore.scorers.ar import is_ours
from rescore.scorers.options import ScorerOptions, load_scorer
from rescore.scorers.sequences import Encoder, Sequencer
from rescore.scorers.signature import WINDOW
from rescore.text import Normalizer, normalizer

__all__ = ["Vocabulary", "load_vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a model, the normaliser in front of it, and the longest sequence its network sees at once, BOS and EOS included."""

    encoder: Encoder
    normalize: Normalizer
    window: int


def load_vocabulary(scorer: str, options: ScorerOptions | None = None) -> Vocabulary:
    """Return what the scorer of this name and these options does to texts.

    Only tokenizers and configurations are read; scorers of other packages are built whole.
    Raises RescoreError for an unknown name, ModelError for an unusable model, ScoreError for a scorer without a tokenizer.
    Exact check: tests/checking/test_check.py::test_the_vocabulary_is_the_scorers.
    """
    options = options or ScorerOptions()
    if scorer in ("mdlm", "usdm") or (
        scorer == "ar" and (options.model is None or is_ours(Path(options.model)))
    ):
        tokenizer, usual = open_vocabulary(options.model, cast(Objective, scorer))
        return Vocabulary(
            tokenizer, normalizer(options.normalizer or usual), options.window or WINDOW
        )
    if scorer in ("mlm", "ar"):
        if options.model is None:
            raise ModelError("--scorer mlm needs --model: a Hugging Face id or a directory")
        hub, longest = load_tokenizer(options.model, remote_code=options.remote_code)
        return Vocabulary(
            hub, normalizer(options.normalizer or "none"), min(options.window or longest, longest)
        )
    sequencer = getattr(load_scorer(scorer, options), "sequencer", None)
    if not isinstance(sequencer, Sequencer):
        raise ScoreError(
            f"--scorer {scorer} has no tokenizer to check texts against; check them against another scorer"
        )
    return Vocabulary(sequencer.encoder, sequencer.normalize, sequencer.window)
