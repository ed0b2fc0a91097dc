"""`ar`: an autoregressive LM, ours or any Hugging Face causal LM.

score = sum_i log p(x_i | x_<i), EOS included. The hypotheses of a chunk share their prefix tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, halve, is_out_of_memory
from rescore.diffusion.plans import sums
from rescore.diffusion.queries import readout_rows
from rescore.errors import FormatError, ScoreError
from rescore.formats.files import head
from rescore.interfaces import CausalLM, Cost, Scope
from rescore.models.adapters import NetworkCausalLM
from rescore.models.embedded import embedded_directory, open_checkpoint
from rescore.models.hub import load_causal, load_tokenizer
from rescore.models.opening import FORMAT
from rescore.scorers import networks
from rescore.scorers.chunks import score_lists
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.options import ScorerOptions, flag
from rescore.scorers.prefix_tree import Batch, PrefixTree
from rescore.scorers.sequences import Sequencer, TokenSequence, regroup
from rescore.types import NBest, Score, ScoreKind, TokenScores

__all__ = ["FAMILY", "CausalScorer", "log_prob", "token_log_probs"]

#: Lists with the windows of their hypotheses.
Prepared = list[tuple[NBest, list[list[TokenSequence]]]]

#: Raised whenever a number changes for equal settings.
_VERSION, _HUB_VERSION = 2, 3

#: Bytes of a configuration in which the name of our format stands.
_HEAD_SIZE = 1 << 20


def log_prob(
    model: CausalLM,
    sequences: Sequence[TokenSequence],
    *,
    device: str = "cpu",
    budget: Budget | None = None,
) -> np.ndarray:
    """sum over the scored tokens of log p(x_i | x_<i), (sequences,) float64 nats.

    The first token of a sequence is never scored.
    """
    return sums(token_log_probs(model, sequences, device=device, budget=budget))


@torch.no_grad()
def token_log_probs(
    model: CausalLM,
    sequences: Sequence[TokenSequence],
    *,
    device: str = "cpu",
    budget: Budget | None = None,
) -> list[np.ndarray]:
    """log p(x_i | x_<i) of the scored tokens of each sequence, (scored,) float64 nats.

    The first token of a sequence is never scored. The network sees the prefix tree of all
    sequences, in batches of at most `budget.tokens` nodes: each prefix once, and none that only
    leads to tokens that are not scored.
    Exact check: tests/scorers/test_prefix_tree.py::test_values_are_those_of_single_rows.
    """
    if not sequences:
        return []
    tree, scored_nodes = _tree(sequences)
    is_scored = np.zeros(len(tree.tokens), dtype=bool)
    for nodes in scored_nodes:
        is_scored[nodes] = True
    values = np.full(len(tree.tokens), np.nan)
    for nodes, node_values in _evaluated(model, tree, is_scored, budget or Budget(), device):
        values[nodes] = node_values
    return [values[nodes] for nodes in scored_nodes]


def _tree(sequences: Sequence[TokenSequence]) -> tuple[PrefixTree, list[np.ndarray]]:
    """The tree of the sequences up to their last scored tokens, and the scored nodes of each."""
    positions = [1 + np.flatnonzero(sequence.scored[1:]) for sequence in sequences]
    rows = [
        sequence.tokens[: scored[-1] + 1]
        for sequence, scored in zip(sequences, positions, strict=True)
    ]
    tree = PrefixTree.of(rows)
    return tree, [path[scored] for path, scored in zip(tree.paths, positions, strict=True)]


def _evaluated(
    model: CausalLM, tree: PrefixTree, is_scored: np.ndarray, budget: Budget, device: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scored nodes of the tree with their values, batch after batch.

    A batch that does not fit in memory is halved, and so are later ones.
    """
    start = 0
    while start < tree.inner:
        batch = tree.batch(start, budget.tokens)
        scored = is_scored[batch.children]
        nodes = batch.children[scored]
        try:
            values = _evaluate(model, batch, batch.rows[scored], tree.tokens[nodes], device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            halve(budget, len(batch.tokens), batch.end - start, len(batch.tokens), error)
        else:
            yield nodes, values
            start = batch.end


def _evaluate(
    model: CausalLM, batch: Batch, rows: np.ndarray, tokens: np.ndarray, device: str
) -> np.ndarray:
    """log p(token | the prefix at its row), (m,) float64, for ascending rows (m,) of the batch.

    Each row is read out once, `readout_rows` at a time.
    """
    if not len(rows):
        return np.empty(0)
    hidden = model.encode(torch.from_numpy(batch.tokens).to(device), batch.parents)
    distinct, number = np.unique(rows, return_inverse=True)
    values, size = [], readout_rows(device)
    for start in range(0, len(distinct), size):
        end = start + size
        first, last = np.searchsorted(number, (start, end))
        read = torch.from_numpy(distinct[start:end]).to(device)
        log_probs = model.readout(hidden[read])
        row = torch.from_numpy(number[first:last] - start).to(device)
        token = torch.from_numpy(tokens[first:last]).to(device)
        values.append(log_probs[row, token])
    return torch.cat(values).double().cpu().numpy()


@dataclass
class CausalScorer:
    """Scores lists with a causal LM."""

    signature: str
    model: CausalLM
    sequencer: Sequencer
    device: str = "cpu"
    name: str = "ar"
    kind: ScoreKind = "log_prob"
    scope: Scope = "text"
    per_token: bool = False
    budget: Budget = field(default_factory=Budget)

    def evaluations(self, nbest: NBest, /) -> int:
        """One network evaluation a hypothesis."""
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order. Raises as `evaluate`."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest], /) -> Prepared:
        """Tokenise lists."""
        return [(nbest, self.sequencer(nbest)) for nbest in lists]

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """One Score per list.

        Raises ScoreError naming utterance and hypothesis where a value is not finite.
        """
        of_windows = token_log_probs(
            self.model, _windows(prepared), device=self.device, budget=self.budget
        )
        hypotheses = [windows for _, hypotheses in prepared for windows in hypotheses]
        of_hypotheses = regroup(of_windows, map(len, hypotheses))
        of_lists = regroup(of_hypotheses, [len(hypotheses) for _, hypotheses in prepared])
        totals = [[float(sums(values).sum()) for values in of_list] for of_list in of_lists]
        self._refuse_non_finite(prepared, totals)
        return [
            self._score(hypotheses, values, total)
            for (_, hypotheses), values, total in zip(prepared, of_lists, totals, strict=True)
        ]

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` would cost: nodes of the tree; its batches repeat some, as padding."""
        windows = _windows(prepared)
        if not windows:
            return Cost()
        tree, _ = _tree(windows)
        nodes = sum(len(batch.tokens) for batch in tree.batches(self.budget.tokens))
        return Cost(len(windows), nodes, nodes - tree.inner)

    def warn(self) -> None:
        """Log how many tokens the vocabulary did not know."""
        self.sequencer.warn()

    def _score(
        self,
        hypotheses: Sequence[Sequence[TokenSequence]],
        values: Sequence[Sequence[np.ndarray]],
        totals: Sequence[float],
    ) -> Score:
        evaluations = sum(map(len, hypotheses))
        tokens: tuple[TokenScores, ...] | None = None
        if self.per_token:
            tokens = tuple(
                self.sequencer.token_scores(windows, np.concatenate(of_windows))
                for windows, of_windows in zip(hypotheses, values, strict=True)
            )
        return Score(tuple(totals), self.signature, self.kind, evaluations, token_scores=tokens)

    def _refuse_non_finite(self, prepared: Prepared, totals: Sequence[Sequence[float]]) -> None:
        """Raise ScoreError that names a hypothesis whose score is not finite.

        In a tree one NaN spreads to its neighbours, so the first hypothesis is named that has no
        finite score by itself either.
        """
        suspects = [
            (nbest, number, windows, total)
            for (nbest, hypotheses), of_list in zip(prepared, totals, strict=True)
            for number, (windows, total) in enumerate(zip(hypotheses, of_list, strict=True))
            if not math.isfinite(total)
        ]
        if not suspects:
            return
        nbest, number, _, total = next(
            (suspect for suspect in suspects if not math.isfinite(self._alone(suspect[2]))),
            suspects[0],
        )
        raise ScoreError(
            f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number;'
            " check the model and its dtype"
        )

    def _alone(self, windows: Sequence[TokenSequence]) -> float:
        """The score of one hypothesis, each window in a tree of its own."""
        return float(
            sum(log_prob(self.model, [window], device=self.device)[0] for window in windows)
        )


def _windows(prepared: Prepared) -> list[TokenSequence]:
    return [window for _, hypotheses in prepared for windows in hypotheses for window in windows]


def _trial(model: CausalLM, tokens: Tensor, padding: Tensor) -> object:
    """One call of the network, for `rescore.scorers.networks.budget`: rows as chains."""
    del padding
    parents = np.arange(tokens.numel()) - 1
    is_root = np.arange(tokens.numel()) % tokens.shape[1] == 0
    parents[is_root] = -1
    return model.encode(tokens.flatten(), parents)


def _build(options: ScorerOptions) -> CausalScorer:
    """The scorer of a checkpoint of ours (by default the embedded one) or of a Hub causal LM."""
    is_ours = _is_ours(options)
    model, vocabulary, digest = _ours(options) if is_ours else _hub(options)
    sequencer = Sequencer(vocabulary, options.score_eos)
    return CausalScorer(
        networks.network_signature(
            "ar.log_prob", digest, {}, sequencer, options, _VERSION if is_ours else _HUB_VERSION
        ),
        model,
        sequencer,
        options.device,
        per_token=options.per_token,
        budget=networks.budget(options.device, partial(_trial, model)),
    )


def _ours(options: ScorerOptions) -> tuple[CausalLM, Vocabulary, str]:
    _refuse(options, "remote_code", "it is for Hugging Face models")
    checkpoint = open_checkpoint(options.model, "ar")
    digest = checkpoint.digest  # before the weights change their dtype
    model = NetworkCausalLM(
        checkpoint, options.device, networks.torch_dtype(options), options.compile
    )
    return model, networks.checkpoint_vocabulary(checkpoint, options), digest


def _hub(options: ScorerOptions) -> tuple[CausalLM, Vocabulary, str]:
    _refuse(options, "compile", "it is for the networks of this package")
    model = load_causal(
        str(options.model),
        device=options.device,
        dtype=networks.torch_dtype(options),
        remote_code=options.remote_code,
    )
    vocabulary = networks.hub_vocabulary(model.tokenizer, model.max_length, options)
    return model.network, vocabulary, model.digest


def _vocabulary(options: ScorerOptions) -> Vocabulary:
    if _is_ours(options):
        _refuse(options, "remote_code", "it is for Hugging Face models")
        return networks.open_checkpoint_vocabulary("ar", options)
    tokenizer, max_length = load_tokenizer(str(options.model), remote_code=options.remote_code)
    return networks.hub_vocabulary(tokenizer, max_length, options)


def _is_ours(options: ScorerOptions) -> bool:
    """Whether the model is a checkpoint of this package, not a Hugging Face model."""
    if options.model is None or embedded_directory(options.model) is not None:
        return True
    try:
        return FORMAT.encode() in head(Path(options.model) / "config.json", _HEAD_SIZE)
    except FormatError:
        return False  # whatever is wrong with it, loading it says


def _refuse(options: ScorerOptions, name: str, reason: str) -> None:
    """Raise ScoreError for an option that `ar` reads with other models."""
    if name in options.changed:
        raise ScoreError(
            f"--scorer ar with --model {options.model or 'embedded'} does not read {flag(name)}:"
            f" {reason}; leave it out"
        )


FAMILY = ScorerFamily(
    "ar",
    _build,
    networks.NETWORK_OPTIONS | {"compile", "remote_code"},
    vocabulary=_vocabulary,
)
