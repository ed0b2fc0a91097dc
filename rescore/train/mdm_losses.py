"""What a decoder that listens is trained with: the texts' loss, and CTC on the encoder beside it.

Without CTC such decoders ignore the audio for long (arXiv:2607.13013). Everything that is drawn is
drawn on the CPU, where tokens and padding stay until the network needs them.

Shapes: B utterances, T feature frames, S symbols, L positions of a canvas, n hidden positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from rescore.models.audio_network import AudioNetwork, Heard, SpecialRows
from rescore.models.conditioned import ConditionedNetwork, Memory
from rescore.train.ctc import SpecAugment, network_input
from rescore.train.masking import draw_masks, scored_positions
from rescore.train.options import SelfCorrection
from rescore.train.readout import cross_entropy
from rescore.train.transfer import to_device

__all__ = [
    "CausalText",
    "Hearing",
    "ListeningLoss",
    "MaskedText",
    "TextLoss",
    "canvases",
    "hear_features",
    "hear_states",
]


class TextLoss(Protocol):
    """-log p(text | audio), or a bound of it, of a batch."""

    def __call__(
        self,
        network: AudioNetwork,
        memory: Memory,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """Nats, and positions read out; targets (B, S), sizes (B,), both on the CPU."""


def canvases(
    targets: Tensor, sizes: Tensor, spare: Tensor, rows: SpecialRows
) -> tuple[Tensor, Tensor]:
    """BOS, text, EOS and `spare` (B,) more EOS: tokens (B, L) int64 and padding (B, L) bool."""
    ends = 1 + sizes + spare  # the last EOS
    places = torch.arange(1 + int(ends.max()))[None]
    text = functional.pad(targets, (1, max(0, places.shape[1] - 1 - targets.shape[1])))
    is_text = (places > 0) & (places <= sizes[:, None])
    tokens = torch.where(is_text, text[:, : places.shape[1]], rows.eos)
    tokens[:, 0] = rows.bos
    padding = places > ends[:, None]
    return tokens.masked_fill(padding, rows.padding), padding


@dataclass(frozen=True)
class CausalText:
    """-sum_i log p(x_i | x_<i, audio), EOS included."""

    def __call__(
        self,
        network: AudioNetwork,
        memory: Memory,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """See TextLoss."""
        del generator
        rows, device = network.rows, memory.seen.device
        tokens, padding = canvases(targets, sizes, torch.zeros_like(sizes), rows)
        where = (~padding[:, 1:]).flatten().nonzero().squeeze(1)
        # A causal network needs no mask of the padding, which follows the text.
        hidden = network.decoder.encode(to_device(tokens[:, :-1], device), memory)
        hidden = hidden.flatten(0, 1).index_select(0, to_device(where, device))
        clean = to_device(tokens[:, 1:].flatten()[where], device)
        weight = network.decoder.embedding.weight[: rows.predicted]
        return cross_entropy(hidden, weight, clean), len(where)


@dataclass(frozen=True)
class MaskedText:
    """The masked NELBO by exact counts, S / n times the cross-entropy of n hidden tokens.

    The canvas is text and EOS. Half of them end there, the others have up to `margin` more EOS; or
    all have `canvas` places. Shares of hidden tokens are drawn from `lowest` to 1. With
    self-correction, the prediction is filled in, masked again and predicted once more, and both
    losses are added.
    Source: arXiv:2602.18952. Exact check: tests/train/test_train_mdm.py::
    test_the_masked_loss_averages_to_the_exact_nelbo.
    """

    margin: int = 0
    canvas: int | None = None
    lowest: float = 0.0
    self_correction: SelfCorrection = "off"

    def __call__(
        self,
        network: AudioNetwork,
        memory: Memory,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """See TextLoss."""
        spare = self._spare(sizes, generator)
        batch = _Canvases(network, memory, *canvases(targets, sizes, spare, network.rows))
        masks = draw_masks(scored_positions(batch.padding), generator, self.lowest)
        nats, hidden, where = batch.masked(batch.clean, masks.is_hidden, masks.scale)
        if self.self_correction == "off":
            return nats, len(where)
        guess, logits = batch.guess(hidden, where, self.self_correction == "sample", generator)
        again = draw_masks(scored_positions(batch.padding), generator, self.lowest)
        embedded = None
        if self.self_correction == "gradient":
            embedded = batch.straight_through(guess, logits, where, again.is_hidden)
        more, _, more_where = batch.masked(guess, again.is_hidden, again.scale, embedded)
        return nats + more, len(where) + len(more_where)

    def _spare(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) how many EOS follow the first one."""
        if self.canvas is not None:
            return (self.canvas - 1 - sizes).clamp(min=0)
        if not self.margin:
            return torch.zeros_like(sizes)
        u = torch.rand(len(sizes), generator=generator)
        return ((2 * u - 1).clamp(min=0) * (self.margin + 1)).long()


class _Canvases:
    """A batch of canvases on the device of the network; `padding` stays on the CPU."""

    def __init__(
        self, network: AudioNetwork, memory: Memory, tokens: Tensor, padding: Tensor
    ) -> None:
        self.device = memory.seen.device
        self.decoder: ConditionedNetwork = network.decoder
        self.rows, self.memory, self.padding = network.rows, memory, padding
        self.clean = to_device(tokens, self.device)
        self._mask = to_device(padding, self.device) if bool(padding.any()) else None

    @property
    def weight(self) -> Tensor:
        """The embeddings of rows that can be predicted."""
        return self.decoder.embedding.weight[: self.rows.predicted]

    def masked(
        self, tokens: Tensor, is_hidden: Tensor, scale: Tensor, embedded: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss at hidden positions, the states (n, D) there, and which these are (n,)."""
        where = to_device(is_hidden.flatten().nonzero().squeeze(1), self.device)
        noisy = tokens.masked_fill(to_device(is_hidden, self.device), self.rows.mask)
        hidden = self.decoder.encode(noisy, self.memory, self._mask, embedded)
        hidden = hidden.flatten(0, 1).index_select(0, where)
        targets = self.clean.flatten().index_select(0, where)
        return (
            cross_entropy(hidden, self.weight, targets, to_device(scale, self.device)),
            hidden,
            where,
        )

    def guess(
        self, hidden: Tensor, where: Tensor, is_sampled: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The clean tokens with the network's own at `where`, and its logits (n, V) there."""
        logits = functional.linear(hidden, self.weight).float()
        possible = logits.detach().clone()
        possible[:, self.rows.padding] = -torch.inf
        if is_sampled:
            u = to_device(torch.rand(len(where), 1, generator=generator), self.device)
            choice = (possible.softmax(-1).cumsum(-1) < u).sum(-1).clamp(max=self.rows.eos)
        else:
            choice = possible.argmax(-1)
        return self.clean.flatten().scatter(0, where, choice).view_as(self.clean), logits

    def straight_through(
        self, guess: Tensor, logits: Tensor, where: Tensor, is_hidden: Tensor
    ) -> Tensor:
        """Embeddings (B, L, D) of the guess, masked again, with the gradient of its soft mean."""
        is_hidden = to_device(is_hidden, self.device)
        embedded = self.decoder.embedding(guess.masked_fill(is_hidden, self.rows.mask))
        soft = logits.softmax(-1).to(self.weight.dtype) @ self.weight
        soft = (soft - soft.detach()).masked_fill(is_hidden.flatten()[where, None], 0.0)
        flat = embedded.flatten(0, 1).index_add(0, where, soft.to(embedded.dtype))
        placed: Tensor = flat.view_as(embedded)
        return placed


class Hearing(Protocol):
    """What the network hears of a batch of a corpus; `masks` hide parts of features."""

    def __call__(
        self,
        network: AudioNetwork,
        features: Tensor,
        frames: Tensor,
        masks: SpecAugment | None,
        generator: torch.Generator,
        /,
    ) -> Heard:
        """features (B, T, F), frames (B,)."""


def hear_features(
    network: AudioNetwork,
    features: Tensor,
    frames: Tensor,
    masks: SpecAugment | None,
    generator: torch.Generator,
) -> Heard:
    """The encoder hears features; one without gradients is frozen, and hears without dropout."""
    device = network.decoder.embedding.weight.device
    x = network_input(features, frames, masks, device, generator)
    if network.encoder.head.weight.requires_grad:
        return network.hear(x, frames, is_normalised=True)
    network.encoder.eval()
    with torch.no_grad():
        hidden, lengths = network.encoder.hidden(x, frames)
    return network.remember(hidden, lengths)


def hear_states(
    network: AudioNetwork,
    states: Tensor,
    frames: Tensor,
    masks: SpecAugment | None,
    generator: torch.Generator,
) -> Heard:
    """The states of a frozen encoder, which were masked when they were made (`encoder_states`)."""
    del masks, generator
    return network.remember(to_device(states, network.decoder.embedding.weight.device), frames)


@dataclass(frozen=True)
class ListeningLoss:
    """The loss of the texts, and `ctc_weight` times CTC's on the encoder.

    `masks` hides parts of the features, `audio_dropout` all of the audio of a share of the
    utterances.
    """

    text: TextLoss
    ctc_weight: float = 0.0
    masks: SpecAugment | None = None
    audio_dropout: float = 0.0
    hearing: Hearing = hear_features

    def __call__(
        self,
        network: AudioNetwork,
        features: Tensor,
        frames: Tensor,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """Nats, and positions read out; features (B, T, F), frames (B,), targets (B, S)."""
        device = network.decoder.embedding.weight.device
        torch.manual_seed(generator.initial_seed())  # of dropout: a resumed run draws the same
        heard = self.hearing(network, features, frames, self.masks, generator)
        memory = heard.memory
        if self.audio_dropout:
            is_deaf = torch.rand(len(frames), generator=generator) < self.audio_dropout
            memory = memory.without_audio(to_device(is_deaf, device))
        nats, read_out = self.text(network, memory, targets, sizes, generator)
        if self.ctc_weight:
            nats = nats + self.ctc_weight * ctc_nats(heard, targets, sizes, network.blank)
        return nats, read_out


def ctc_nats(heard: Heard, targets: Tensor, sizes: Tensor, blank: int) -> Tensor:
    """-log P(text | audio) of CTC, summed over the batch."""
    nats: Tensor = functional.ctc_loss(
        heard.log_probs.transpose(0, 1),
        to_device(targets, heard.log_probs.device),
        heard.lengths,
        sizes,
        blank=blank,
        reduction="sum",
    )
    return nats
