"""What a language model behind a speech prompt is trained with: the text's loss, and CTC.

CTC is that of the prompt, read by the language model's own output layer: so that a frame of the
prompt says which token is spoken there. The encoder is frozen and has no loss. Everything that is
drawn is drawn on the CPU, where tokens and padding stay until the network needs them.

Source: arXiv:2601.17902. Shapes: B utterances, T feature frames, S tokens of a text, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rescore.models.prompted import HeardPrompt, PromptedNetwork
from rescore.train.ctc import SpecAugment, network_input
from rescore.train.masking import Masks, draw_masks, scored_positions
from rescore.train.mdm_losses import canvases
from rescore.train.readout import cross_entropy
from rescore.train.transfer import to_device

__all__ = ["PromptedLoss", "prompt_ctc_nats"]


@dataclass(frozen=True)
class PromptedLoss:
    """-log p(text | audio) of a causal network, a bound of it of a masked one, and CTC's share.

    The masked loss is by exact counts, S / n times the cross-entropy of n hidden tokens; a share
    `fully_masked` of the texts is hidden whole. Half of the canvases have up to `margin` more EOS,
    where the network may hide its EOS. `masks` hides parts of the features.
    Exact check: tests/train/test_train_dllm.py::test_the_masked_loss_averages_to_the_exact_nelbo.
    """

    ctc_weight: float = 0.0
    fully_masked: float = 0.0
    margin: int = 0
    masks: SpecAugment | None = None

    def __call__(
        self,
        network: PromptedNetwork,
        features: Tensor,
        frames: Tensor,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """Nats, and positions read out; features (B, T, F), frames (B,), targets (B, S)."""
        device = network.encoder.head.weight.device
        x = network_input(features, frames, self.masks, device, generator)
        network.encoder.eval()
        with torch.no_grad():
            hidden, lengths = network.encoder.hidden(x, frames)
        heard = network.prompted(hidden, lengths)
        if network.language_model.is_causal:
            nats, read_out = _causal(network, heard, targets, sizes)
        else:
            nats, read_out = self._masked(network, heard, targets, sizes, generator)
        if self.ctc_weight:
            nats = nats + self.ctc_weight * prompt_ctc_nats(network, heard, targets, sizes)
        return nats, read_out

    def _masked(
        self,
        network: PromptedNetwork,
        heard: HeardPrompt,
        targets: Tensor,
        sizes: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        rows, hides_end = network.rows, network.language_model.hides_end
        spare = torch.zeros_like(sizes)
        if self.margin and hides_end:
            u = torch.rand(len(sizes), generator=generator)
            spare = ((2 * u - 1).clamp(min=0) * (self.margin + 1)).long()
        tokens, padding = canvases(targets, sizes, spare, rows)
        scored = scored_positions(padding)
        if not hides_end:
            scored &= tokens != rows.eos
        masks = self._draw(scored, generator)
        noisy = tokens.masked_fill(masks.is_hidden, rows.mask)
        where = masks.is_hidden.flatten().nonzero().squeeze(1)
        scale = to_device(masks.scale, heard.prompt.device)
        return _read(network, heard, (noisy, padding), where, tokens.flatten()[where], scale)

    def _draw(self, scored: Tensor, generator: torch.Generator) -> Masks:
        masks = draw_masks(scored, generator)
        if not self.fully_masked:
            return masks
        is_full = torch.rand(len(scored), generator=generator) < self.fully_masked
        return Masks(
            torch.where(is_full[:, None], scored, masks.is_hidden),
            masks.sizes,
            torch.where(is_full, masks.sizes, masks.counts),
        )


def _causal(
    network: PromptedNetwork, heard: HeardPrompt, targets: Tensor, sizes: Tensor
) -> tuple[Tensor, int]:
    """-sum_i log p(x_i | x_<i, audio), EOS included."""
    tokens, padding = canvases(targets, sizes, torch.zeros_like(sizes), network.rows)
    where = (~padding[:, 1:]).flatten().nonzero().squeeze(1)
    clean = tokens[:, 1:].flatten()[where]
    return _read(network, heard, (tokens[:, :-1], padding[:, :-1]), where, clean, None)


def _read(
    network: PromptedNetwork,
    heard: HeardPrompt,
    text: tuple[Tensor, Tensor],
    where: Tensor,
    clean: Tensor,
    scale: Tensor | None,
) -> tuple[Tensor, int]:
    """The cross-entropy of clean tokens (n,) at places `where` (n,) of a text and its padding."""
    device = heard.prompt.device
    tokens, padding = (to_device(part, device) for part in text)
    hidden = network.encode(tokens, heard, padding).flatten(0, 1)[to_device(where, device)]
    weight, clean = network.language_model.output_weight, to_device(clean, device)
    if weight is not None:
        return cross_entropy(hidden, weight, clean, scale), len(where)
    logits = network.language_model.readout(hidden)
    kind = torch.promote_types(logits.dtype, torch.float32)
    nats = functional.cross_entropy(logits.to(kind), clean, reduction="none")
    return (nats if scale is None else nats * scale).sum(), len(where)


def prompt_ctc_nats(
    network: PromptedNetwork, heard: HeardPrompt, targets: Tensor, sizes: Tensor
) -> Tensor:
    """-log P(text | prompt) of CTC, summed; texts of more tokens than frames add nothing."""
    nats: Tensor = functional.ctc_loss(
        network.prompt_log_probs(heard).transpose(0, 1),
        to_device(targets, heard.prompt.device),
        heard.frames,
        sizes,
        blank=network.rows.padding,
        reduction="sum",
        zero_infinity=True,
    )
    return nats
