"""Learning from text: the batches of a corpus, and the learner of an objective."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from rescore.errors import TrainError
from rescore.models.objectives import ModelPrediction, objective_named
from rescore.models.tokenizer import Tokenizer
from rescore.train.corpus import Corpus, batches, collate
from rescore.train.learner import Batch, Learner
from rescore.train.losses import losses_of
from rescore.train.options import TrainOptions
from rescore.train.start import build_network, copy_weights

__all__ = ["TextBatches", "prediction_of", "scored_tokens", "text_learner"]


class TextBatches:
    """The sentences of a corpus in batches of about `tokens_per_batch` padded tokens."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, tokens_per_batch: int) -> None:
        self._corpus, self._tokenizer = corpus, tokenizer
        self._tokens_per_batch = tokens_per_batch

    def epoch(self, seed: int) -> list[np.ndarray]:
        """All sentences once: an array of sentence numbers for each batch."""
        return batches(self._corpus, self._tokens_per_batch, seed)

    def batch(self, rows: np.ndarray) -> Batch:
        """Tokens (B, L) int64 and padding (B, L) bool of sentences."""
        tokens, padding = collate(self._corpus, rows, self._tokenizer)
        return Batch((tokens, padding), scored_tokens(padding), (len(tokens), tokens.shape[1]))


def scored_tokens(padding: Tensor) -> int:
    """The number of scored tokens of a batch, padding (B, L) bool: all but BOS and padding."""
    return int((~padding).sum()) - len(padding)


def text_learner(options: TrainOptions, tokenizer: Tokenizer) -> Learner:
    """The learner that the options ask for.

    Raises TrainError for a prediction that the objective cannot make, ModelError for an unknown
    objective or an unusable checkpoint to start from.
    """
    loss, bound = losses_of(options.objective, prediction_of(options))
    network = build_network(options, tokenizer)
    if options.start_from is not None:
        copy_weights(network, Path(options.start_from), tokenizer)
    return Learner(options, network, loss, bound)


def prediction_of(options: TrainOptions) -> ModelPrediction:
    """What the network of a run predicts. Raises TrainError where the objective cannot."""
    predictions = objective_named(options.objective).predictions
    if options.prediction is None:
        return predictions[0]
    if options.prediction not in predictions:
        raise TrainError(
            f"objective {options.objective} cannot predict {options.prediction!r}; "
            f"choose from {', '.join(predictions)}"
        )
    return options.prediction
