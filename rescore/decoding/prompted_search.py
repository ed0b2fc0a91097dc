"""Greedy and beam search with a causal language model behind a speech prompt: the AR twin.

Keys and values of the prompt and of all tokens are kept, which is exact (`KeptStates`): a step
computes one position a prefix. The search is that of `rescore.decoding.autoregressive`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rescore.decoding.autoregressive import BeamResult, beam_search
from rescore.models.audio_network import SpecialRows
from rescore.models.kept_states import KeptStates
from rescore.models.prompted import HeardPrompt, PromptedNetwork, TextNetwork

__all__ = ["PromptedTexts", "search_texts"]


@dataclass
class PromptedTexts(BeamResult):
    """A `BeamResult` with the multiplications of the prompt, all steps and their output layers."""

    multiplications: int = 0


@torch.no_grad()
def search_texts(
    network: PromptedNetwork, heard: HeardPrompt, beam: int, longest: int, impossible: Tensor
) -> PromptedTexts:
    """The best texts of one utterance, at most `beam`, of at most `longest` tokens.

    `impossible` (V,) bool: rows that are never proposed.
    Exact check: tests/decoding/test_prior_guided.py::test_a_wide_beam_finds_the_best_of_all_texts.
    """
    prefixes = _PromptedPrefixes(network, heard, longest + 1, impossible)
    [result] = beam_search(prefixes, beam, [longest])
    return PromptedTexts(result.texts, result.steps, result.evaluations, prefixes.multiplications)


class _PromptedPrefixes:
    """`Prefixes` of one utterance; `slots` places for BOS and tokens."""

    def __init__(
        self, network: PromptedNetwork, heard: HeardPrompt, slots: int, impossible: Tensor
    ) -> None:
        model = network.language_model
        if not isinstance(model, TextNetwork):
            raise TypeError("only our own networks keep states")
        self._model, self._device = model, heard.prompt.device
        self._impossible = impossible.to(self._device)
        self._count = count = int(heard.frames[0])
        self._places = network.text_places(heard, slots)[0]
        self._states = KeptStates(model.blocks, count + slots)
        self._states.live = count
        angles = model.angles(heard.places[0, :count], heard.prompt.dtype)
        slots_of_prompt = torch.arange(count, device=self._device)
        self._states.advance(heard.prompt[:, :count], angles, slots_of_prompt)
        self._position = self._read = 0

    @property
    def rows(self) -> SpecialRows:
        """See Prefixes."""
        return self._model.rows

    @property
    def multiplications(self) -> int:
        """See PromptedTexts."""
        return self._states.products + self._read * self._model.width * self._model.output_rows

    def next_token(self, last: Tensor) -> Tensor:
        """See Prefixes."""
        place = slice(self._position, self._position + 1)
        slot = torch.tensor([self._count + self._position], device=self._device)
        self._states.live = self._count + self._position + 1
        x = self._model.embed(last[:, None].to(self._device))
        angles = self._model.angles(self._places[place], x.dtype)
        hidden = self._model.network.final_norm(self._states.advance(x, angles, slot))[:, 0]
        self._position += 1
        self._read += len(last)
        logits = self._model.readout(hidden).double()
        return logits.masked_fill(self._impossible, -torch.inf).log_softmax(-1).cpu()

    def take(self, index: Tensor, utterances: Tensor) -> None:
        """See Prefixes."""
        del utterances
        self._states.rows(index.to(self._device))
