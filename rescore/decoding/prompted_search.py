"""Greedy and beam search with a causal language model behind a speech prompt: the AR twin.

Keys and values of the prompt and of all tokens are kept, which is exact (`KeptStates`): a step
computes one position a prefix. Scores are log-probabilities of whole texts, EOS included, without a
bonus for length, so the search ends exactly: when no open prefix beats the best texts that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rescore.models.kept_states import KeptStates
from rescore.models.prompted import HeardPrompt, PromptedNetwork, TextNetwork

__all__ = ["PromptedTexts", "search_texts"]


@dataclass
class PromptedTexts:
    """Texts of an utterance with their log-probabilities, best first, and what they cost.

    `steps` are network passes in sequence, `evaluations` prefixes that were extended.
    """

    texts: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    steps: int = 0
    evaluations: int = 0
    multiplications: int = 0


@torch.no_grad()
def search_texts(
    network: PromptedNetwork, heard: HeardPrompt, beam: int, longest: int, impossible: Tensor
) -> PromptedTexts:
    """The best texts of one utterance, at most `beam`, of at most `longest` tokens.

    `impossible` (V,) bool: rows that are never proposed.
    Exact check: tests/decoding/test_prior_guided.py::test_a_wide_beam_finds_the_best_of_all_texts.
    """
    result, search = PromptedTexts(), _Search(network, heard, longest + 1, impossible)
    prefixes = torch.full((1, 1), network.rows.bos)
    totals = torch.zeros(1, dtype=torch.float64)
    eos = network.rows.eos
    for length in range(longest + 1):
        log_probs = totals[:, None] + search.next_token(prefixes[:, -1], length)
        result.steps += 1
        result.evaluations += len(prefixes)
        result.texts += [
            (total, tuple(prefix[1:]))
            for total, prefix in zip(log_probs[:, eos].tolist(), prefixes.tolist(), strict=True)
            if total > -torch.inf
        ]
        result.texts = sorted(result.texts, key=lambda text: -text[0])[:beam]
        log_probs[:, eos] = -torch.inf
        totals, place = log_probs.flatten().topk(min(beam, log_probs.numel()))
        totals, place = totals[totals > -torch.inf], place[totals > -torch.inf]
        if _is_done(result.texts, totals, beam):
            break
        parent = torch.div(place, log_probs.shape[1], rounding_mode="floor")
        prefixes = torch.cat((prefixes[parent], (place % log_probs.shape[1])[:, None]), dim=1)
        search.states.rows(parent.to(search.device))
    result.multiplications = search.multiplications
    return result


def _is_done(texts: Sequence[tuple[float, tuple[int, ...]]], totals: Tensor, beam: int) -> bool:
    """Whether no open prefix can still be among the best texts."""
    if not len(totals):
        return True
    return len(texts) >= beam and texts[-1][0] >= float(totals.max())


class _Search:
    def __init__(
        self, network: PromptedNetwork, heard: HeardPrompt, slots: int, impossible: Tensor
    ) -> None:
        model = network.language_model
        if not isinstance(model, TextNetwork):
            raise TypeError("only our own networks keep states")
        self._model, self.device = model, heard.prompt.device
        self._impossible = impossible.to(self.device)
        self._count = count = int(heard.frames[0])
        self._places = network.text_places(heard, slots)[0]
        self.states = KeptStates(model.blocks, count + slots)
        self.states.live = count
        places = model.angles(heard.places[0, :count], heard.prompt.dtype)
        self.states.advance(
            heard.prompt[:, :count], places, torch.arange(count, device=self.device)
        )
        self._read, self._readout = 0, model.width * model.output_rows

    @property
    def multiplications(self) -> int:
        """Of the prompt, all steps and their output layers."""
        return self.states.products + self._read * self._readout

    def next_token(self, tokens: Tensor, position: int) -> Tensor:
        """Log-probabilities (n, V) after tokens (n,) at a position of the text."""
        slot = torch.tensor([self._count + position], device=self.device)
        self.states.live = self._count + position + 1
        x = self._model.embed(tokens[:, None].to(self.device))
        angles = self._model.angles(self._places[position : position + 1], x.dtype)
        hidden = self._model.network.final_norm(self.states.advance(x, angles, slot))[:, 0]
        self._read += len(tokens)
        logits = self._model.readout(hidden).double()
        return logits.masked_fill(self._impossible, -torch.inf).log_softmax(-1).cpu()
