"""Beam search with causal networks that hear: the autoregressive twins of MDM-ASR and of dLLM-ASR.

A beam of 1 is greedy. All utterances of a chunk advance together, and the keys and values of what
is written are kept, so that a step costs one position a prefix. Scores are log-probabilities of
whole texts, EOS included, without a bonus for length, so a search ends exactly: when no open prefix
is better than the best text that has ended.

Shapes: A utterances, n prefixes of each, L tokens, V rows of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rescore.acoustic.listening import HeardUtterance
from rescore.acoustic.transcription import impossible
from rescore.models.audio_network import AudioNetwork, SpecialRows
from rescore.models.conditioned import stacked

__all__ = ["BeamResult", "ListeningPrefixes", "Prefixes", "beam_search"]


class Prefixes(Protocol):
    """A causal network on prefixes of utterances, whose states it keeps; all begin with BOS."""

    @property
    def rows(self) -> SpecialRows:
        """The rows of the output that are no text."""

    def next_token(self, last: Tensor) -> Tensor:
        """Log-probabilities (A n, V) float64 behind the last tokens (A n,), all on the CPU."""

    def take(self, index: Tensor, utterances: Tensor) -> None:
        """Go on with the prefixes `index` (m,), which are of these utterances (m,)."""


class _Text(NamedTuple):
    log_prob: float
    tokens: tuple[int, ...]


@dataclass
class BeamResult:
    """The texts of an utterance, best first, and what they cost.

    `steps` are network passes in sequence, `evaluations` prefixes that were extended.
    """

    texts: list[_Text] = field(default_factory=list)
    steps: int = 0
    evaluations: int = 0


@torch.no_grad()
def beam_search(prefixes: Prefixes, beam: int, longest: Sequence[int]) -> list[BeamResult]:
    """The best texts of utterances, at most `beam` each, of at most `longest` (A,) tokens.

    Exact checks: tests/decoding/test_mdm.py::test_a_wide_beam_finds_the_best_of_all_texts, and
    tests/decoding/test_prior_guided.py::test_a_wide_beam_finds_the_best_of_all_texts.
    """
    search = _Search(prefixes, len(longest), beam)
    results = [BeamResult() for _ in longest]
    active = list(range(len(longest)))
    while active:
        evaluated = torch.isfinite(search.scores).sum(1).tolist()
        for row, count in zip(active, evaluated, strict=True):
            results[row].evaluations += count
            results[row].steps += 1
        length = search.tokens.shape[-1] - 1
        must_end = torch.tensor([length >= longest[row] for row in active])
        for row, texts in zip(active, search.step(must_end), strict=True):
            results[row].texts += texts
        kept = [
            place
            for place, row in enumerate(active)
            if not (must_end[place] or _is_done(results[row], search.scores[place], beam))
        ]
        active = [active[place] for place in kept]
        search.keep(kept)
    for result in results:
        result.texts = sorted(result.texts, key=lambda text: -text.log_prob)[:beam]
    return results


def _is_done(result: BeamResult, scores: Tensor, beam: int) -> bool:
    """Whether no open prefix can still be among the best `beam` texts."""
    if not bool(torch.isfinite(scores).any()):
        return True
    best = sorted((text.log_prob for text in result.texts), reverse=True)
    return len(best) >= beam and best[beam - 1] >= float(scores.max())


class _Search:
    """Prefixes of A utterances: tokens (A, n, L) and their scores (A, n), on the CPU."""

    def __init__(self, prefixes: Prefixes, count: int, beam: int) -> None:
        self._prefixes, self._beam, self._eos = prefixes, beam, prefixes.rows.eos
        self.tokens = torch.full((count, 1, 1), prefixes.rows.bos)
        self.scores = torch.zeros(count, 1, dtype=torch.float64)
        self._utterances = torch.arange(count)

    def step(self, must_end: Tensor) -> list[list[_Text]]:
        """One token more on every prefix; returns the texts of each utterance that end.

        A prefix ends where EOS is among the `beam` best continuations of all, or the utterance
        `must_end` (A,) bool. At most `beam` texts of an utterance end, and as many prefixes stay.
        """
        tokens, (rows, count) = self.tokens, self.scores.shape
        log_probs = self._prefixes.next_token(tokens[..., -1].flatten())
        totals = self.scores[..., None] + log_probs.view(rows, count, -1)  # (A, n, V)
        best = totals.flatten(1).topk(min(self._beam, totals[0].numel())).values
        ends = totals[..., self._eos]
        may_end = (ends >= best[:, -1:]) | must_end[:, None]
        ended = self._ended(tokens, ends.masked_fill(~may_end, -torch.inf))
        totals[..., self._eos] = -torch.inf
        self.scores, place = totals.flatten(1).topk(min(self._beam, totals[0].numel()))
        parent, token = place // totals.shape[-1], place % totals.shape[-1]
        prefixes = tokens.gather(1, parent[..., None].expand(-1, -1, tokens.shape[-1]))
        self.tokens = torch.cat((prefixes, token[..., None]), dim=-1)
        self._reorder((parent + count * torch.arange(rows)[:, None]).flatten())
        return ended

    def keep(self, places: list[int]) -> None:
        """Go on with these of the utterances alone."""
        rows, count = self.scores.shape
        self.tokens, self.scores = self.tokens[places], self.scores[places]
        if len(places) < rows:
            self._reorder(torch.arange(rows * count).view(rows, count)[places].flatten())

    def _reorder(self, index: Tensor) -> None:
        self._utterances = self._utterances[index]
        self._prefixes.take(index, self._utterances)

    def _ended(self, tokens: Tensor, totals: Tensor) -> list[list[_Text]]:
        """The texts that end here, of tokens (A, n, L) and their totals (A, n)."""
        return [
            [
                _Text(total, tuple(prefix[1:]))
                for prefix, total in zip(prefixes, of_one, strict=True)
                if total > -torch.inf
            ]
            for prefixes, of_one in zip(tokens.tolist(), totals.tolist(), strict=True)
        ]


class ListeningPrefixes:
    """`Prefixes` of a decoder with cross-attention, in the order of the utterances heard."""

    def __init__(self, network: AudioNetwork, heard: Sequence[HeardUtterance]) -> None:
        self._network = network
        self._memory = self._heard = stacked([one.memory for one in heard])
        self._device = self._memory.seen.device
        self._impossible = impossible(network.rows, self._device)
        self._utterances = torch.arange(len(heard))
        self._past = network.decoder.no_past(len(heard))

    @property
    def rows(self) -> SpecialRows:
        """See Prefixes."""
        return self._network.rows

    def next_token(self, last: Tensor) -> Tensor:
        """See Prefixes."""
        decoder = self._network.decoder
        hidden, self._past = decoder.extend(last.to(self._device), self._heard, self._past)
        logits = decoder.readout(hidden).double()
        return logits.masked_fill(self._impossible, -torch.inf).log_softmax(-1).cpu()

    def take(self, index: Tensor, utterances: Tensor) -> None:
        """See Prefixes; memories are copied only where the utterances change."""
        if not torch.equal(index, torch.arange(len(self._utterances))):
            self._past = self._past.index_select(2, index.to(self._device))
        if not torch.equal(utterances, self._utterances):
            self._utterances = utterances
            self._heard = self._memory.rows(utterances.to(self._device))
