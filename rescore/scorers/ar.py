"""`ar`: an autoregressive LM, ours or any Hugging Face causal LM. score = sum_i log p(x_i | x_<i), EOS included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.diffusion.batches import Budget, in_batches, pad
from rescore.diffusion.denoiser import READOUT_ROWS, sums
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkCausalLM
from rescore.models.embedded import open_checkpoint
from rescore.models.hub import load_causal
from rescore.scorers.options import Cost, ScorerOptions, score_lists
from rescore.scorers.sequences import Encoder, Sequencer, TokenSequence
from rescore.scorers.settings import WINDOW, budget, cost, signature, torch_dtype
from rescore.text import normalizer
from rescore.types import NBest, Score, ScoreKind

__all__ = ["CausalLM", "CausalScorer", "build", "is_ours", "log_prob", "token_log_probs"]


class CausalLM(Protocol):
    """A network that predicts the next token."""

    vocab_size: int

    def encode(self, tokens: Tensor, padding: Tensor) -> Tensor:
        """tokens (batch, length) int64, padding (batch, length) bool -> hidden (batch, length, width); position i has seen tokens 0..i."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, width) -> log-probabilities (n, vocab_size) of the next token."""


def log_prob(model: CausalLM, sequences: list[TokenSequence], *, device: str = "cpu", budget: Budget | None = None) -> np.ndarray:
    """sum over the scored tokens of log p(x_i | x_<i), (sequences,) float64 nats. The first token of a sequence is never scored."""
    return sums(token_log_probs(model, sequences, device=device, budget=budget))


@torch.no_grad()
def token_log_probs(model: CausalLM, sequences: list[TokenSequence], *, device: str = "cpu", budget: Budget | None = None) -> list[np.ndarray]:
    """log p(x_i | x_<i) of the scored tokens of each sequence, (scored,) float64 nats. The first token of a sequence is never scored."""
    lengths = [len(s.tokens) for s in sequences]
    return in_batches(lengths, lambda rows: _evaluate(model, [sequences[i] for i in rows], device), budget or Budget())


def _evaluate(model: CausalLM, batch: list[TokenSequence], device: str) -> list[np.ndarray]:
    tokens, padding = pad([s.tokens for s in batch])
    scored, _ = pad([s.scored for s in batch])
    rows, positions = np.nonzero(scored[:, 1:])  # position i predicts token i + 1
    wanted = torch.from_numpy(tokens[rows, positions + 1]).to(device)
    hidden = model.encode(torch.from_numpy(tokens[:, :-1]).to(device), torch.from_numpy(padding[:, :-1]).to(device))
    selected = hidden[torch.from_numpy(rows).to(device), torch.from_numpy(positions).to(device)]
    parts = [
        model.readout(selected[at : at + READOUT_ROWS]).gather(-1, wanted[at : at + READOUT_ROWS, None]).squeeze(-1) for at in range(0, len(rows), READOUT_ROWS)
    ]
    return np.split(torch.cat(parts).double().cpu().numpy(), np.cumsum(scored[:, 1:].sum(1))[:-1])


@dataclass
class CausalScorer:
    """Scores lists with a causal LM."""

    signature: str
    model: CausalLM
    sequencer: Sequencer
    device: str = "cpu"
    name: str = "ar"
    kind: ScoreKind = "log_prob"
    per_token: bool = False
    budget: Budget = field(default_factory=Budget)
    is_stochastic: bool = False

    def evaluations(self, nbest: NBest) -> int:
        """One network pass a hypothesis."""
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest]) -> list[tuple[NBest, list[list[TokenSequence]]]]:
        """Tokenise lists."""
        return [(nbest, self.sequencer(nbest)) for nbest in lists]

    def evaluate(self, prepared: list[tuple[NBest, list[list[TokenSequence]]]]) -> list[Score]:
        """One Score per list. Raises ScoreError naming utterance and hypothesis where a value is not finite."""
        windows = [window for _, hyps in prepared for hyp in hyps for window in hyp]
        values = iter(token_log_probs(self.model, windows, device=self.device, budget=self.budget))
        return [self._score(nbest, hyps, [[next(values) for _ in hyp] for hyp in hyps]) for nbest, hyps in prepared]

    def cost(self, prepared: list[tuple[NBest, list[list[TokenSequence]]]]) -> Cost:
        """What `evaluate` would take."""
        return cost([len(window.tokens) for _, hyps in prepared for hyp in hyps for window in hyp], self.budget)

    def warn(self) -> None:
        """Say how many tokens the vocabulary did not know."""
        self.sequencer.warn()

    def _score(self, nbest: NBest, hyps: list[list[TokenSequence]], values: list[list[np.ndarray]]) -> Score:
        totals = tuple(float(sums(own).sum()) for own in values)
        for number, total in enumerate(totals):
            if not math.isfinite(total):
                raise ScoreError(f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number; check the model and its dtype')
        tokens = (self.sequencer.token_scores(windows, np.concatenate(own)) for windows, own in zip(hyps, values, strict=True))
        return Score(totals, self.signature, self.kind, sum(map(len, hyps)), token_scores=tuple(tokens) if self.per_token else None)


def build(options: ScorerOptions) -> CausalScorer:
    """The scorer of a checkpoint with objective `ar` (by default the embedded one) or of a Hugging Face causal LM (a Hub id, or a directory of one)."""
    if options.estimator is not None:
        raise ScoreError(f"--scorer ar has no estimators, got {options.estimator!r}; leave --estimator out")
    ours = options.model is None or is_ours(Path(options.model))
    model, encoder, window, digest, normal = _ours(options) if ours else _hub(options)
    sequencer = Sequencer(encoder, normalizer(options.normalizer or normal), min(options.window or window, window) if not ours else window, options.score_eos)
    made = signature("ar", digest, "log_prob", {}, sequencer, options)
    found = budget(options.device, model.encode)
    return CausalScorer(made, model, sequencer, options.device, per_token=options.per_token, budget=found)


def is_ours(path: Path) -> bool:
    """Whether a directory holds a checkpoint of this package, not a Hugging Face model."""
    config = path / "config.json"
    return config.is_file() and b"dlmrescore-model" in config.read_bytes()


def _ours(options: ScorerOptions) -> tuple[CausalLM, Encoder, int, str, str]:
    checkpoint = open_checkpoint(options.model, "ar")
    digest = checkpoint.digest
    return NetworkCausalLM(checkpoint, options.device, torch_dtype(options)), checkpoint.tokenizer, options.window or WINDOW, digest, checkpoint.normalizer


def _hub(options: ScorerOptions) -> tuple[CausalLM, Encoder, int, str, str]:
    model, tokenizer, longest, digest = load_causal(str(options.model), device=options.device, dtype=torch_dtype(options), remote_code=options.remote_code)
    return model, tokenizer, longest, digest, "none"
