"""Networks on one canvas, computed as far as a sampler asks: what prior-guided decoding calls.

    KeptCanvas   our own networks, behind a prompt or with cross-attention: positions that are not
                 asked for keep their keys and values (`rescore.models.kept_states`)
    WholeCanvas  any network behind a prompt: everything is computed at every call

Both count what they compute. Letters in shapes: L positions of the canvas, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.acoustic.listening import HeardUtterance
from rescore.acoustic.transcription import impossible
from rescore.models.audio_network import AudioNetwork
from rescore.models.kept_states import KeptStates
from rescore.models.network import rotation
from rescore.models.prompted import HeardPrompt, PromptedNetwork, TextNetwork

__all__ = [
    "CanvasNetwork",
    "KeptCanvas",
    "WholeCanvas",
    "Work",
    "listening_canvas",
    "prompt_canvas",
]


@dataclass
class Work:
    """What a canvas cost: passes in sequence, positions computed, multiplications."""

    evaluations: int = 0
    positions: int = 0
    multiplications: int = 0


class CanvasNetwork(Protocol):
    """A masked network on one canvas."""

    @property
    def work(self) -> Work:
        """What was computed so far."""

    def log_probs(
        self, tokens: np.ndarray, computed: np.ndarray, read: np.ndarray, shadows: np.ndarray
    ) -> np.ndarray:
        """Log-probabilities (read + shadows, V) float64, -inf for what is never proposed.

        tokens (L,) of the canvas, which may be shorter than before; computed (c,) positions, in
        order, all of `read` (r,) among them; shadows (s,) positions that are asked about as if
        they were masked.
        """


class KeptCanvas:
    """`CanvasNetwork` that computes what it is asked for. Positions not computed keep their states.

    Equal to computing everything if all positions are computed, whatever was before.
    Exact check: tests/decoding/test_prior_guided.py::
    test_all_positions_computed_is_the_full_computation.
    """

    def __init__(
        self,
        states: KeptStates,
        parts: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
        angles: tuple[Tensor, Tensor],
        never: Tensor,
        mask: int,
    ) -> None:
        """`parts` embed tokens (1, q), and read logits of states; `angles` (L, K / 2) of places.

        `never` (V,) bool: rows that are no text. Slots before the canvas hold a prompt already.
        """
        self._states, self._offset = states, states.live
        self._embed, self._read = parts
        self._cos, self._sin = angles
        self._never, self._mask, self._work = never, mask, Work()
        self._readouts = 0

    @property
    def work(self) -> Work:
        """See CanvasNetwork."""
        self._work.multiplications = self._states.products + self._readouts
        return self._work

    @torch.no_grad()
    def log_probs(
        self, tokens: np.ndarray, computed: np.ndarray, read: np.ndarray, shadows: np.ndarray
    ) -> np.ndarray:
        """See CanvasNetwork."""
        device = self._cos.device
        ids = np.concatenate((tokens[computed], np.full(len(shadows), self._mask)))
        places = torch.from_numpy(np.concatenate((computed, shadows))).to(device)
        self._states.live = self._offset + len(tokens)
        hidden = self._states.advance(
            self._embed(torch.from_numpy(ids)[None].to(device)),
            (self._cos[places], self._sin[places]),
            places[: len(computed)] + self._offset,
            self._seen(len(computed), torch.from_numpy(shadows)) if len(shadows) else None,
        )[0]
        asked = np.concatenate(
            (np.searchsorted(computed, read), len(computed) + np.arange(len(shadows)))
        )
        logits = self._read(hidden[torch.from_numpy(asked).to(device)]).double()
        self._work.evaluations += 1
        self._work.positions += len(ids)
        self._readouts += len(asked) * hidden.shape[-1] * logits.shape[-1]
        log_probs = logits.masked_fill(self._never, -torch.inf).log_softmax(-1)
        values: np.ndarray = log_probs.cpu().numpy()
        return values

    def _seen(self, computed: int, shadows: Tensor) -> Tensor:
        """(q, live + s) bool: a shadow sees all but the token at its place and other shadows."""
        live, count = self._states.live, len(shadows)
        seen = torch.ones(computed + count, live + count, dtype=torch.bool)
        seen[:, live:] = False
        rows = computed + torch.arange(count)
        seen[rows, live + torch.arange(count)] = True
        seen[rows, self._offset + shadows] = False
        return seen.to(self._cos.device)


class WholeCanvas:
    """`CanvasNetwork` of any network behind a prompt: all positions are computed at every call.

    A shadow is an evaluation of its own. `multiplications` are not known.
    """

    def __init__(self, network: PromptedNetwork, heard: HeardPrompt, never: Tensor) -> None:
        self._network, self._heard = network, heard
        self._never, self.work = never, Work()

    @torch.no_grad()
    def log_probs(
        self, tokens: np.ndarray, computed: np.ndarray, read: np.ndarray, shadows: np.ndarray
    ) -> np.ndarray:
        """See CanvasNetwork."""
        del computed
        rows = [self._row(tokens, read)] if len(read) else []
        for place in shadows:
            hidden = tokens.copy()
            hidden[place] = self._network.rows.mask
            rows.append(self._row(hidden, np.array([place])))
        return np.concatenate(rows)

    def _row(self, tokens: np.ndarray, read: np.ndarray) -> np.ndarray:
        device = self._heard.prompt.device
        hidden = self._network.encode(torch.from_numpy(tokens)[None].to(device), self._heard)[0]
        logits = self._network.language_model.readout(hidden[torch.from_numpy(read).to(device)])
        self.work.evaluations += 1
        self.work.positions += int(self._heard.frames[0]) + len(tokens)
        log_probs = logits.double().masked_fill(self._never, -torch.inf).log_softmax(-1)
        values: np.ndarray = log_probs.cpu().numpy()
        return values


@torch.no_grad()
def prompt_canvas(
    network: PromptedNetwork, heard: HeardPrompt, places: int, never: Tensor
) -> CanvasNetwork:
    """The canvas of `places` positions behind a prompt, BOS included; `never` (V,) bool."""
    model, device = network.language_model, heard.prompt.device
    never = never.to(device)
    if not isinstance(model, TextNetwork):
        return WholeCanvas(network, heard, never)
    count = int(heard.frames[0])
    states = KeptStates(model.blocks, count + places)
    states.live = count
    angles = model.angles(heard.places[0, :count], heard.prompt.dtype)
    states.advance(heard.prompt[:, :count], angles, torch.arange(count, device=device))
    text = network.text_places(heard, places)[0]
    return KeptCanvas(
        states,
        (model.embed, lambda x: model.readout(model.network.final_norm(x))),
        model.angles(text, heard.prompt.dtype),
        never,
        network.rows.mask,
    )


def listening_canvas(network: AudioNetwork, heard: HeardUtterance, places: int) -> KeptCanvas:
    """The canvas of `places` positions of a decoder with cross-attention, BOS included."""
    decoder = network.decoder
    device, config = decoder.null.device, decoder.config
    half = config.width // config.heads // 2
    return KeptCanvas(
        KeptStates(decoder.blocks, places, memory=heard.memory),
        (decoder.embedding, lambda x: decoder.readout(decoder.final_norm(x))),
        rotation(torch.arange(places, device=device), half, decoder.null.dtype),
        impossible(network.rows, device),
        network.rows.mask,
    )
