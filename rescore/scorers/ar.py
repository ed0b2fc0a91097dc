"""`ar`: an autoregressive LM, ours or any Hugging Face causal LM. score = sum_i log p(x_i | x_<i), EOS included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.diffusion.denoiser import BATCH_TOKENS, READOUT_ROWS, length_batches, pad, sums
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkCausalLM
from rescore.models.embedded import open_checkpoint
from rescore.models.hub import load_causal
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Encoder, Sequencer, TokenSequence
from rescore.scorers.settings import WINDOW, signature, torch_dtype
from rescore.text import normalizer
from rescore.types import NBest, Score, ScoreKind

__all__ = ["CausalLM", "CausalScorer", "build", "is_ours", "log_prob", "token_log_probs"]

#: Lists scored together.
CHUNK_TOKENS = 200_000


class CausalLM(Protocol):
    """A network that predicts the next token."""

    vocab_size: int

    def encode(self, tokens: Tensor, padding: Tensor) -> Tensor:
        """tokens (batch, length) int64, padding (batch, length) bool -> hidden (batch, length, width); position i has seen tokens 0..i."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, width) -> log-probabilities (n, vocab_size) of the next token."""


def log_prob(model: CausalLM, sequences: list[TokenSequence], *, device: str = "cpu", batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """sum over the scored tokens of log p(x_i | x_<i), (sequences,) float64 nats. The first token of a sequence is never scored."""
    return sums(token_log_probs(model, sequences, device=device, batch_tokens=batch_tokens))


@torch.no_grad()
def token_log_probs(model: CausalLM, sequences: list[TokenSequence], *, device: str = "cpu", batch_tokens: int = BATCH_TOKENS) -> list[np.ndarray]:
    """log p(x_i | x_<i) of the scored tokens of each sequence, (scored,) float64 nats. The first token of a sequence is never scored."""
    values: list[np.ndarray] = [np.empty(0)] * len(sequences)
    for batch in length_batches([len(s.tokens) for s in sequences], batch_tokens):
        for row, own in zip(batch, _evaluate(model, [sequences[i] for i in batch], device), strict=True):
            values[row] = own
    return values


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

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order."""
        group: list[tuple[NBest, list[list[TokenSequence]]]] = []
        held = 0
        for nbest in lists:
            group.append((nbest, self.sequencer(nbest)))
            held += sum(len(window.tokens) for windows in group[-1][1] for window in windows)
            if held >= CHUNK_TOKENS:
                yield from self._score(group)
                group, held = [], 0
        yield from self._score(group)
        self.sequencer.warn()

    def _score(self, group: list[tuple[NBest, list[list[TokenSequence]]]]) -> Iterator[Score]:
        windows = [window for _, hyps in group for hyp in hyps for window in hyp]
        values = token_log_probs(self.model, windows, device=self.device)
        rest, log_probs = iter(values), iter(sums(values).tolist())
        for nbest, hyps in group:
            totals = tuple(sum(next(log_probs) for _ in hyp) for hyp in hyps)
            for number, total in enumerate(totals):
                if not math.isfinite(total):
                    raise ScoreError(f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number; check the model and its dtype')
            own = [np.concatenate([next(rest) for _ in hyp]) for hyp in hyps]
            token_scores = tuple(map(self.sequencer.token_scores, hyps, own)) if self.per_token else None
            yield Score(totals, self.signature, self.kind, sum(map(len, hyps)), token_scores=token_scores)


def build(options: ScorerOptions) -> CausalScorer:
    """The scorer of a checkpoint with objective `ar` (by default the embedded one) or of a Hugging Face causal LM (a Hub id, or a directory of one)."""
    if options.estimator is not None:
        raise ScoreError(f"--scorer ar has no estimators, got {options.estimator!r}; leave --estimator out")
    ours = options.model is None or is_ours(Path(options.model))
    model, encoder, window, digest, normal = _ours(options) if ours else _hub(options)
    sequencer = Sequencer(encoder, normalizer(options.normalizer or normal), min(options.window or window, window) if not ours else window, options.score_eos)
    made = signature("ar", digest, "log_prob", {}, sequencer, options)
    return CausalScorer(made, model, sequencer, options.device, per_token=options.per_token)


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
