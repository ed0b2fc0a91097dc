"""A compact CTC encoder: our Transformer blocks, each with a depthwise convolution before it.

Features are normalised (mean and deviation of every bin over the utterance), subsampled four times
by two convolutions in time and frequency (or projected alone, where they are the states of another
encoder, rescore.acoustic.frozen), and encoded by blocks of a convolution module (Gulati et
al. 2020, arXiv:2005.08100, without its batch norm) and a `network.Block`. Four times, not eight:
at 80 ms a frame, a short word has more letters than frames.

No frame of an utterance depends on what else is in its batch, but for rounding: convolutions in
time have no padding in the subsampling, and see zeros beyond the last frame in the blocks.

Letters in shapes: B batch, T feature frames, F bins, L frames of the output, D width, V symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rescore.errors import ModelError
from rescore.models.network import (
    Block,
    NetworkConfig,
    RMSNorm,
    block_shapes,
    initialise,
    rotation,
)

__all__ = [
    "SHORTEST",
    "SUBSAMPLING",
    "SpeechConfig",
    "SpeechNetwork",
    "normalised",
    "output_frames",
    "speech_tensor_shapes",
]

#: Feature frames to one frame of the output, and the fewest that make one.
SUBSAMPLING, SHORTEST = 4, 7

_CHANNELS = 32


@dataclass(frozen=True)
class SpeechConfig:
    """The shape of a recogniser's network. `symbols` counts the columns, the blank included.

    `dropout` is the share of the hidden states that are zeroed before each block while training.
    `subsampling`: feature frames to one of the output, 4, or 1 without convolutions.
    """

    symbols: int
    width: int = 192
    layers: int = 6
    heads: int = 4
    feed_forward: int = 512
    kernel: int = 15
    bins: int = 80
    dropout: float = 0.0
    subsampling: int = SUBSAMPLING

    def __post_init__(self) -> None:
        if self.subsampling not in (1, SUBSAMPLING):
            raise ModelError(
                f"network: subsampling is {self.subsampling}, expected 1 or {SUBSAMPLING}"
            )
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ModelError(f"network: the kernel is {self.kernel}, expected an odd number")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"network: dropout is {self.dropout}, expected 0 or more, below 1")
        fewest = SHORTEST if self.subsampling > 1 else 1
        if self.bins < fewest:
            raise ModelError(f"network: {self.bins} bins, expected at least {fewest}")
        _ = self.block  # raises ModelError for sizes that do not fit

    @property
    def block(self) -> NetworkConfig:
        """The shape of its blocks."""
        return NetworkConfig(self.symbols, self.width, self.layers, self.heads, self.feed_forward)

    @property
    def vocab_size(self) -> int:
        """The rows of its output, as `NetworkConfig` calls them."""
        return self.symbols


def output_frames(frames: Tensor, subsampling: int = SUBSAMPLING) -> Tensor:
    """The number of output frames L of T feature frames, of any shape, int64; 0 below 7.

    Without subsampling (1), L is T.
    """
    if subsampling == 1:
        return frames
    return torch.div(
        (frames - 1).div(2, rounding_mode="floor") - 1, 2, rounding_mode="floor"
    ).clamp(min=0)


class Subsampling(nn.Module):
    """Two 3 x 3 convolutions with stride 2 and a projection: (B, T, F) -> (B, L, D).

    Without subsampling, the projection alone.
    """

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        channels = (1, _CHANNELS, _CHANNELS) if config.subsampling > 1 else ()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2) for before, after in pairwise(channels)
        )
        self.project = nn.Linear(_projected(config), config.width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) -> (B, L, D)."""
        x = features[:, None]
        for convolution in self.convolutions:
            x = functional.silu(convolution(x))  # (B, C, L, F / 4) after both
        projected: Tensor = self.project(x.transpose(1, 2).flatten(2))
        return projected


def _projected(config: SpeechConfig) -> int:
    """The numbers of a frame that are projected to the width."""
    if config.subsampling == 1:
        return config.bins
    return _CHANNELS * (((config.bins - 1) // 2 - 1) // 2)


def speech_tensor_shapes(config: SpeechConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of `SpeechNetwork(config)`, by arithmetic alone.

    Exact check: tests/models/test_opening.py::test_shapes_by_arithmetic_are_those_of_a_recogniser.
    """
    width = config.width
    if config.subsampling > 1:
        yield "subsampling.convolutions.0.weight", (_CHANNELS, 1, 3, 3)
        yield "subsampling.convolutions.0.bias", (_CHANNELS,)
        yield "subsampling.convolutions.1.weight", (_CHANNELS, _CHANNELS, 3, 3)
        yield "subsampling.convolutions.1.bias", (_CHANNELS,)
    yield "subsampling.project.weight", (width, _projected(config))
    yield "subsampling.project.bias", (width,)
    for layer in range(config.layers):
        convolution = f"blocks.{layer}.convolution."
        yield convolution + "norm.weight", (width,)
        yield convolution + "inner_norm.weight", (width,)
        yield convolution + "gate.weight", (2 * width, width)
        yield convolution + "depthwise.weight", (width, 1, config.kernel)
        yield convolution + "convolution_out.weight", (width, width)
        yield from block_shapes(config.block, f"blocks.{layer}.block.")
    yield "final_norm.weight", (width,)
    yield "head.weight", (config.symbols, width)
    yield "head.bias", (config.symbols,)


class ConvolutionModule(nn.Module):
    """Norm, gated projection, depthwise convolution, norm, projection; with its residual."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.inner_norm = RMSNorm(width), RMSNorm(width)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width, bias=False
        )
        self.convolution_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D); padding (B, L) bool, True = beyond the utterance."""
        gated = functional.glu(self.gate(self.norm(x)), dim=-1)
        if padding is not None:
            gated = gated.masked_fill(padding[..., None], 0.0)
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.convolution_out(functional.silu(self.inner_norm(mixed)))
        return out


class SpeechBlock(nn.Module):
    """A convolution module, then a Transformer block."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.convolution = ConvolutionModule(config.width, config.kernel)
        self.block = Block(config.block)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        padding: Tensor | None,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        out: Tensor = self.block(self.convolution(x, padding), angles, mask, None)
        return out


class SpeechNetwork(nn.Module):
    """Features to log-probabilities of symbols, frame by frame."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(config)
        self.blocks = nn.ModuleList(SpeechBlock(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.symbols)
        initialise(self, config.layers)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, L, V), float32 or wider, and the frames (B,) of each utterance.

        features (B, T, F) float; frames (B,) int64, T of each utterance, 7 at least (1 without
        subsampling).
        """
        return self.encode(normalised(features, frames), frames)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of features that are normalised already."""
        hidden, lengths = self.hidden(features, frames)
        return self.log_probs(hidden), lengths

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (B, L, V), float32 or wider, of hidden states (B, L, D)."""
        logits = self.head(hidden)
        kind = torch.promote_types(logits.dtype, torch.float32)
        log_probs: Tensor = logits.to(kind).log_softmax(-1)
        return log_probs

    def hidden(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, L, D) after the last norm, and the frames (B,) of each utterance.

        features (B, T, F) normalised; frames (B,) int64, best on the CPU: a GPU need not be asked.
        """
        x = self.subsampling(features)
        lengths = output_frames(frames, self.config.subsampling)
        padding: Tensor | None = None
        if int(lengths.min()) < x.shape[1]:
            columns = torch.arange(x.shape[1], device=x.device)
            padding = columns[None] >= lengths.to(x.device)[:, None]
        mask = None if padding is None else ~padding[:, None, None, :]
        half = self.config.width // self.config.heads // 2
        angles = rotation(torch.arange(x.shape[1], device=x.device), half, x.dtype)
        for block in self.blocks:
            x = functional.dropout(x, self.config.dropout, self.training)
            x = block(x, angles, mask, padding)
        return self.final_norm(x), lengths


def normalised(features: Tensor, frames: Tensor) -> Tensor:
    """Every bin with mean 0 and deviation 1 over the utterance's frames; 0 beyond them.

    features (B, T, F), frames (B,) int64. A bin that never changes becomes 0.
    """
    frames = frames.to(features.device)
    columns = torch.arange(features.shape[1], device=features.device)
    inside = columns[None, :, None] < frames[:, None, None]  # (B, T, 1)
    x = features if features.dtype == torch.float64 else features.float()
    x = x.masked_fill(~inside, 0.0)
    count = frames.clamp(min=1)[:, None, None]
    mean = x.sum(1, keepdim=True) / count
    centred = (x - mean).masked_fill(~inside, 0.0)
    deviation = (centred.pow(2).sum(1, keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-3)
