"""`ar`: an autoregressive LM, ours or any Hugging Face causal LM. score = sum_i log p(x_i | x_<i), EOS included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, halve, is_out_of_memory
from rescore.diffusion.queries import READOUT_ROWS, sums
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkCausalLM
from rescore.models.embedded import open_checkpoint
from rescore.models.hub import load_causal
from rescore.scorers.options import Cost, ScorerOptions, score_lists
from rescore.scorers.prefix_tree import Batch, PrefixTree
from rescore.scorers.sequences import Encoder, Sequencer, TokenSequence
from rescore.scorers.signature import WINDOW, budget, signature, torch_dtype
from rescore.text import normalizer
from rescore.types import NBest, Score, ScoreKind

__all__ = ["CausalLM", "CausalScorer", "build", "is_ours", "log_prob", "token_log_probs"]

#: Lists with the windows of their hypotheses.
Prepared = list[tuple[NBest, list[list[TokenSequence]]]]


class CausalLM(Protocol):
    """A network that predicts the next token on a forest of prefixes, of which rows are the simplest case.

    A forest: tokens (n,) int64 and parents (n,) int64 in preorder, -1 at a root. The position of a node is the number of its ancestors.
    """

    vocab_size: int

    def encode(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (n, width); a node has seen its ancestors and itself."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, width) -> log-probabilities (n, vocab_size) of the next token."""


def log_prob(
    model: CausalLM,
    sequences: list[TokenSequence],
    *,
    device: str = "cpu",
    budget: Budget | None = None,
) -> np.ndarray:
    """sum over the scored tokens of log p(x_i | x_<i), (sequences,) float64 nats. The first token of a sequence is never scored."""
    return sums(token_log_probs(model, sequences, device=device, budget=budget))


@torch.no_grad()
def token_log_probs(
    model: CausalLM,
    sequences: list[TokenSequence],
    *,
    device: str = "cpu",
    budget: Budget | None = None,
) -> list[np.ndarray]:
    """log p(x_i | x_<i) of the scored tokens of each sequence, (scored,) float64 nats. The first token of a sequence is never scored.

    The network sees the prefix tree of all sequences, in batches of at most `budget.tokens` nodes: each prefix once, and none that only leads to
    tokens that are not scored.
    """
    if not sequences:
        return []
    tree, scored = _tree(sequences)
    wanted = np.zeros(len(tree.tokens), dtype=bool)
    for path, own in zip(tree.paths, scored, strict=True):
        wanted[path[own]] = True
    values = np.full(len(tree.tokens), np.nan)
    for batch, found in _evaluated(model, tree, wanted, budget or Budget(), device):
        values[batch.children[wanted[batch.children]]] = found
    return [values[path[own]] for path, own in zip(tree.paths, scored, strict=True)]


def _tree(sequences: Sequence[TokenSequence]) -> tuple[PrefixTree, list[np.ndarray]]:
    """The tree of the sequences up to their last scored tokens, and the scored positions of each."""
    scored = [np.flatnonzero(sequence.scored[1:]) + 1 for sequence in sequences]
    return PrefixTree.of(
        [sequence.tokens[: own[-1] + 1] for sequence, own in zip(sequences, scored, strict=True)]
    ), scored


def _evaluated(
    model: CausalLM, tree: PrefixTree, wanted: np.ndarray, limit: Budget, device: str
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches of the tree and the values of their wanted children; a batch that does not fit in memory is halved, and so are later ones."""
    start = 0
    while start < tree.inner:
        batch = tree.batch(start, limit.tokens)
        asked = wanted[batch.children]
        try:
            yield (
                batch,
                _evaluate(
                    model, batch, batch.rows[asked], tree.tokens[batch.children[asked]], device
                ),
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            halve(limit, len(batch.tokens), batch.end - start, len(batch.tokens), error)
        else:
            start = batch.end


def _evaluate(
    model: CausalLM, batch: Batch, rows: np.ndarray, tokens: np.ndarray, device: str
) -> np.ndarray:
    """log p(token | the prefix at its row), (m,) float64, for ascending rows (m,) of the batch: each row is read out once."""
    hidden = model.encode(torch.from_numpy(batch.tokens).to(device), batch.parents)
    read, row = np.unique(rows, return_inverse=True)
    parts = []
    for at in range(0, len(read), READOUT_ROWS):
        first, last = np.searchsorted(row, (at, at + READOUT_ROWS))
        log_probs = model.readout(hidden[torch.from_numpy(read[at : at + READOUT_ROWS]).to(device)])
        parts.append(
            log_probs[
                torch.from_numpy(row[first:last] - at).to(device),
                torch.from_numpy(tokens[first:last]).to(device),
            ]
        )
    return torch.cat(parts).double().cpu().numpy() if parts else np.empty(0)


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

    def prepare(self, lists: Sequence[NBest]) -> Prepared:
        """Tokenise lists."""
        return [(nbest, self.sequencer(nbest)) for nbest in lists]

    def evaluate(self, prepared: Prepared) -> list[Score]:
        """One Score per list. Raises ScoreError naming utterance and hypothesis where a value is not finite."""
        values = iter(
            token_log_probs(self.model, _windows(prepared), device=self.device, budget=self.budget)
        )
        found = [[[next(values) for _ in hyp] for hyp in hyps] for _, hyps in prepared]
        totals = [[float(sums(own).sum()) for own in hyps] for hyps in found]
        self._refuse_non_finite(prepared, totals)
        return [
            self._score(hyps, own, total)
            for (_, hyps), own, total in zip(prepared, found, totals, strict=True)
        ]

    def cost(self, prepared: Prepared) -> Cost:
        """What `evaluate` would take: nodes of the tree, and what its parts repeat."""
        windows = _windows(prepared)
        if not windows:
            return Cost(0, 0, 0)
        tree, _ = _tree(windows)
        nodes = sum(len(batch.tokens) for batch in tree.batches(self.budget.tokens))
        return Cost(len(windows), nodes, nodes - tree.inner)

    def warn(self) -> None:
        """Say how many tokens the vocabulary did not know."""
        self.sequencer.warn()

    def _score(
        self, hyps: list[list[TokenSequence]], values: list[list[np.ndarray]], totals: list[float]
    ) -> Score:
        tokens = (
            self.sequencer.token_scores(windows, np.concatenate(own))
            for windows, own in zip(hyps, values, strict=True)
        )
        return Score(
            tuple(totals),
            self.signature,
            self.kind,
            sum(map(len, hyps)),
            token_scores=tuple(tokens) if self.per_token else None,
        )

    def _refuse_non_finite(self, group: Prepared, totals: list[list[float]]) -> None:
        """Raise ScoreError that names a hypothesis which has no finite score by itself: in a tree, one NaN spreads to its neighbours."""
        places = [
            (i, j)
            for i, own in enumerate(totals)
            for j, total in enumerate(own)
            if not math.isfinite(total)
        ]
        if not places:
            return
        i, j = next(
            (
                place
                for place in places
                if not math.isfinite(self._alone(group[place[0]][1][place[1]]))
            ),
            places[0],
        )
        where = group[i][0].place(j)
        raise ScoreError(
            f'{where}: score "{self.name}" is {totals[i][j]}, expected a finite number; check the model and its dtype'
        )

    def _alone(self, windows: list[TokenSequence]) -> float:
        return float(
            sum(log_prob(self.model, [window], device=self.device)[0] for window in windows)
        )


def _windows(prepared: Prepared) -> list[TokenSequence]:
    return [window for _, hyps in prepared for hyp in hyps for window in hyp]


def _trial(model: CausalLM, tokens: Tensor, padding: Tensor) -> object:
    """One call of the network, for `rescore.scorers.signature.budget`: rows of tokens as chains."""
    del padding
    parents = np.arange(tokens.numel()) - 1
    parents[:: tokens.shape[1]] = -1
    return model.encode(tokens.flatten(), parents)


def build(options: ScorerOptions) -> CausalScorer:
    """The scorer of a checkpoint with objective `ar` (by default the embedded one) or of a Hugging Face causal LM (a Hub id, or a directory of one)."""
    if options.estimator is not None:
        raise ScoreError(
            f"--scorer ar has no estimators, got {options.estimator!r}; leave --estimator out"
        )
    ours = options.model is None or is_ours(Path(options.model))
    model, encoder, window, digest, normal = _ours(options) if ours else _hub(options)
    sequencer = Sequencer(
        encoder,
        normalizer(options.normalizer or normal),
        min(options.window or window, window) if not ours else window,
        options.score_eos,
    )
    made = signature("ar", digest, "log_prob", {}, sequencer, options)
    found = budget(options.device, partial(_trial, model))
    return CausalScorer(
        made, model, sequencer, options.device, per_token=options.per_token, budget=found
    )


def is_ours(path: Path) -> bool:
    """Whether a directory holds a checkpoint of this package, not a Hugging Face model."""
    config = path / "config.json"
    return config.is_file() and b"dlmrescore-model" in config.read_bytes()


def _ours(options: ScorerOptions) -> tuple[CausalLM, Encoder, int, str, str]:
    checkpoint = open_checkpoint(options.model, "ar")
    digest = checkpoint.digest
    model = NetworkCausalLM(checkpoint, options.device, torch_dtype(options), options.compile)
    return model, checkpoint.tokenizer, options.window or WINDOW, digest, checkpoint.normalizer


def _hub(options: ScorerOptions) -> tuple[CausalLM, Encoder, int, str, str]:
    options.refuse_compiled()
    model, tokenizer, longest, digest = load_causal(
        str(options.model),
        device=options.device,
        dtype=torch_dtype(options),
        remote_code=options.remote_code,
    )
    return model, tokenizer, longest, digest, "none"
