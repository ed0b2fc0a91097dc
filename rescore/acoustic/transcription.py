"""The plainest ways to let a transcriber's decoder spell a batch of utterances.

One evaluation of a canvas of masks, and the greedy path of an autoregressive twin: what training
validates with. The samplers proper are those of `rescore.decoding`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rescore.models.audio_network import AudioNetwork, Heard, SpecialRows

__all__ = ["canvas_sizes", "greedy", "impossible", "masked_canvas", "one_pass", "until_end"]


def canvas_sizes(heard: Heard, margin: int) -> Tensor:
    """Places for text and EOS (B,) int64, on the CPU: what CTC expects, EOS and a margin."""
    last = heard.places.gather(1, (heard.lengths.to(heard.places.device) - 1)[:, None])
    return last[:, 0].round().long().cpu() + 1 + margin


def masked_canvas(sizes: Tensor, rows: SpecialRows) -> tuple[Tensor, Tensor]:
    """BOS and masks, then padding: tokens (B, 1 + L) int64 and padding (B, 1 + L) bool."""
    places = torch.arange(1 + int(sizes.max()))[None]
    padding = places > sizes[:, None]
    tokens = torch.full(padding.shape, rows.mask).masked_fill(padding, rows.padding)
    tokens[:, 0] = rows.bos
    return tokens, padding


def impossible(rows: SpecialRows, device: torch.device | str = "cpu") -> Tensor:
    """(V + 3,) bool: rows that no position of a text can be."""
    is_impossible = torch.zeros(rows.mask + 1, dtype=torch.bool, device=device)
    is_impossible[[rows.padding, rows.bos, rows.mask]] = True
    return is_impossible


def until_end(tokens: list[int], rows: SpecialRows) -> list[int]:
    """The text before the first EOS."""
    return tokens[: tokens.index(rows.eos)] if rows.eos in tokens else tokens


@torch.no_grad()
def one_pass(network: AudioNetwork, heard: Heard, margin: int = 8) -> list[list[int]]:
    """The symbols of each utterance: the most probable ones of a canvas of masks."""
    rows, device = network.rows, heard.places.device
    tokens, padding = masked_canvas(canvas_sizes(heard, margin), rows)
    hidden = network.decoder.encode(tokens.to(device), heard.memory, padding.to(device))
    logits = network.decoder.readout(hidden).masked_fill(impossible(rows, device), -torch.inf)
    best = logits.argmax(-1).cpu().masked_fill(padding, rows.eos)
    return [until_end(row[1:], rows) for row in best.tolist()]


@torch.no_grad()
def greedy(network: AudioNetwork, heard: Heard, margin: int = 8) -> list[list[int]]:
    """The symbols of each utterance by the greedy path of a causal decoder."""
    rows, device = network.rows, heard.places.device
    tokens = torch.full((len(heard.lengths), 1), rows.bos, device=device)
    past = network.decoder.no_past(len(tokens))
    for _ in range(int(canvas_sizes(heard, margin).max())):
        hidden, past = network.decoder.extend(tokens[:, -1], heard.memory, past)
        logits = network.decoder.readout(hidden).masked_fill(impossible(rows, device), -torch.inf)
        tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
        if bool((tokens == rows.eos).any(1).all()):
            break
    return [until_end(row[1:], rows) for row in tokens.tolist()]
