"""Beam search with a causal decoder that listens: the autoregressive twin of MDM-ASR.

A beam of 1 is greedy. All utterances of a chunk advance together, and the keys and values of what
is written are kept, so that a step costs one position a prefix. Scores are log-probabilities of
whole texts, EOS included, without a bonus for length, so a search ends exactly: when no open prefix
is better than the best text that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from rescore.acoustic.listening import HeardUtterance
from rescore.acoustic.transcription import impossible
from rescore.models.audio_network import AudioNetwork
from rescore.models.conditioned import Memory, stacked

__all__ = ["BeamResult", "beam_search"]


class _Text(NamedTuple):
    log_prob: float
    tokens: tuple[int, ...]


@dataclass
class BeamResult:
    """The texts of an utterance, best first, and the evaluations of sequences that they took."""

    texts: list[_Text] = field(default_factory=list)
    evaluations: int = 0


@torch.no_grad()
def beam_search(
    network: AudioNetwork, heard: Sequence[HeardUtterance], beam: int, longest: Sequence[int]
) -> list[BeamResult]:
    """The best texts of utterances, at most `beam` each, of at most `longest` symbols.

    Exact check: tests/decoding/test_mdm.py::test_a_wide_beam_finds_the_best_of_all_texts.
    """
    search = _Search(network, stacked([one.memory for one in heard]), beam)
    results = [BeamResult() for _ in heard]
    active = list(range(len(heard)))
    while active:
        evaluated = torch.isfinite(search.scores).sum(1).tolist()
        for row, count in zip(active, evaluated, strict=True):
            results[row].evaluations += count
        for row, texts in zip(active, search.step(), strict=True):
            results[row].texts += texts
        length = search.tokens.shape[-1] - 1
        kept = [
            place
            for place, row in enumerate(active)
            if not _is_done(results[row], search.scores[place], length, longest[row], beam)
        ]
        active = [active[place] for place in kept]
        search.keep(kept)
    for result in results:
        result.texts = sorted(result.texts, key=lambda text: -text.log_prob)[:beam]
    return results


def _is_done(result: BeamResult, scores: Tensor, length: int, longest: int, beam: int) -> bool:
    """Whether no open prefix can still be among the best `beam` texts."""
    if length > longest or not bool(torch.isfinite(scores).any()):
        return True
    best = sorted((text.log_prob for text in result.texts), reverse=True)
    return len(best) >= beam and best[beam - 1] >= float(scores.max())


class _Search:
    """Prefixes of A utterances: tokens (A, n, L) and their scores (A, n), on the CPU.

    `_past` holds keys and values of A n prefixes but for their last token, `_heard` their memories.
    """

    def __init__(self, network: AudioNetwork, memory: Memory, beam: int) -> None:
        self._network, self._memory, self._beam = network, memory, beam
        self._device = memory.seen.device
        self._impossible = impossible(network.rows, self._device)
        count = len(memory.seen)
        self.tokens = torch.full((count, 1, 1), network.rows.bos)
        self.scores = torch.zeros(count, 1, dtype=torch.float64)
        self._utterances = torch.arange(count)
        self._heard, self._past = memory, network.decoder.no_past(count)

    def step(self) -> list[list[_Text]]:
        """One symbol more on every prefix; returns the texts of each utterance that end.

        At most `beam` texts of an utterance end in a step, and as many prefixes stay.
        """
        tokens, (rows, count) = self.tokens, self.scores.shape
        last = tokens[..., -1].flatten().to(self._device)
        hidden, self._past = self._network.decoder.extend(last, self._heard, self._past)
        logits = self._network.decoder.readout(hidden).double()
        log_probs = logits.masked_fill(self._impossible, -torch.inf).log_softmax(-1).cpu()
        totals = self.scores[..., None] + log_probs.view(rows, count, -1)  # (A, n, V)
        ended = self._ended(tokens, totals[..., self._network.rows.eos])
        totals[..., self._network.rows.eos] = -torch.inf
        self.scores, place = totals.flatten(1).topk(min(self._beam, totals[0].numel()))
        parent, symbol = place // totals.shape[-1], place % totals.shape[-1]
        prefixes = tokens.gather(1, parent[..., None].expand(-1, -1, tokens.shape[-1]))
        self.tokens = torch.cat((prefixes, symbol[..., None]), dim=-1)
        self._reorder((parent + count * torch.arange(rows)[:, None]).flatten())
        return ended

    def keep(self, places: list[int]) -> None:
        """Go on with these of the utterances alone."""
        rows, count = self.scores.shape
        self.tokens, self.scores = self.tokens[places], self.scores[places]
        if len(places) < rows:
            self._reorder(torch.arange(rows * count).view(rows, count)[places].flatten())

    def _reorder(self, index: Tensor) -> None:
        """Take the prefixes `index`; memories are copied only where the utterances change."""
        if not torch.equal(index, torch.arange(len(self._utterances))):
            self._past = self._past.index_select(2, index.to(self._device))
        utterances = self._utterances[index]
        if not torch.equal(utterances, self._utterances):
            self._utterances = utterances
            self._heard = self._memory.rows(utterances.to(self._device))

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
