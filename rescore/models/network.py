"""One compact Transformer for all three objectives: bidirectional (MDLM, USDM) or causal (AR).

Pre-norm blocks with RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467), rotary positions (Su et al.
2021, arXiv:2104.09864), SwiGLU (Shazeer 2020, arXiv:2002.05202), tied input and output embeddings.
The optional time input is the noise level 1 - alpha(t), embedded and added as a shift and scale
after every norm (adaLN, Peebles & Xie 2022, arXiv:2212.09748, in a low-rank form).

Left out on purpose: dropout, biases, key-value caches. Runs on torch 1.13, which lacks
scaled_dot_product_attention, by the plain formula.

Letters in shapes: B batch, L length, N nodes of a prefix tree, D width, H heads, K width of one
head, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rescore.errors import ModelError
from rescore.models import forest

__all__ = [
    "Block",
    "Network",
    "NetworkConfig",
    "RMSNorm",
    "attend",
    "block_shapes",
    "initialise",
    "rotate",
    "rotation",
    "tensor_shapes",
]

_TIME_FEATURES = 64

#: Projections whose output something else is made of.
_INNER = ("qkv.weight", "gate_up.weight", ".gate.weight", "query.weight", "key_value.weight")

#: Nodes of a prefix tree that attend together.
_FOREST_RANGE = 64


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a network. `vocab_size` counts the output rows, a mask symbol included."""

    vocab_size: int
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    causal: bool = False
    time_input: bool = False

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.width, self.layers, self.heads, self.feed_forward)
        if min(sizes) < 1:
            raise ModelError(f"network: every size must be positive, got {self}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ModelError(
                f"network: width {self.width} must be heads ({self.heads}) times an even number;"
                " change width or heads"
            )


def tensor_shapes(config: NetworkConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of `Network(config)`, by arithmetic alone.

    Exact check: tests/models/test_opening.py::test_shapes_by_arithmetic_are_those_of_the_network.
    """
    yield "embedding.weight", (config.vocab_size, config.width)
    for layer in range(config.layers):
        yield from block_shapes(config, f"blocks.{layer}.")
    yield "final_norm.weight", (config.width,)
    if config.time_input:
        yield "time.0.weight", (2 * _TIME_FEATURES, _TIME_FEATURES)
        yield "time.0.bias", (2 * _TIME_FEATURES,)
        yield "time.2.weight", (_TIME_FEATURES, 2 * _TIME_FEATURES)
        yield "time.2.bias", (_TIME_FEATURES,)


def block_shapes(config: NetworkConfig, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of one `Block(config)`, names with a prefix."""
    width, feed_forward = config.width, config.feed_forward
    yield prefix + "attention_norm.weight", (width,)
    yield prefix + "feed_forward_norm.weight", (width,)
    yield prefix + "qkv.weight", (3 * width, width)
    yield prefix + "attention_out.weight", (width, width)
    yield prefix + "gate_up.weight", (2 * feed_forward, width)
    yield prefix + "down.weight", (width, feed_forward)
    if config.time_input:
        yield prefix + "modulation.weight", (4 * width, _TIME_FEATURES)
        yield prefix + "modulation.bias", (4 * width,)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32 or wider and returned in the dtype of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        x32 = x if x.dtype == torch.float64 else x.float()
        normed: Tensor = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        return normed.to(x.dtype)


def rotation(positions: Tensor, half: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (..., half), of position x frequency, in float32 or wider.

    positions (...), whole or not; `half` of the width of a head.
    """
    kind = torch.promote_types(dtype, torch.float32)
    frequency = 10_000.0 ** (-torch.arange(half, device=positions.device, dtype=kind) / half)
    angle = positions.to(kind)[..., None] * frequency
    return angle.cos(), angle.sin()


def initialise(network: nn.Module, layers: int) -> None:
    """Draw the weights of blocks: Normal(0, 0.02), output projections smaller with depth."""
    for name, weight in network.named_parameters():
        if name.endswith(_INNER):
            nn.init.normal_(weight, std=0.02)
        elif name.endswith(("_out.weight", "down.weight")):
            nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (k, k + K/2) of (..., L, K) by the angles of their positions."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Softmax attention; `mask` is True where a key may be seen. (B, H, L, K) -> (B, H, L, K)."""
    if hasattr(functional, "scaled_dot_product_attention"):
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and mask is None
        )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is None and causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def _attend_forest(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, keys: Tensor) -> Tensor:
    """Attention of each range of nodes to its own `keys` (ranges, k).

    (1, H, N, K) -> (1, H, N, K); mask (1, ranges, q, k), True where a key may be seen.
    """
    ranges, heads, size = len(keys), q.shape[1], q.shape[-1]
    k, v = (
        x.squeeze(0).index_select(1, keys.flatten()).view(heads, ranges, -1, size) for x in (k, v)
    )
    return attend(q.view(heads, ranges, -1, size), k, v, mask, causal=False).reshape(
        1, heads, -1, size
    )


class Block(nn.Module):
    """Attention and feed-forward, each with its norm, its time modulation and its residual."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.causal = config.heads, config.causal
        width = config.width
        self.attention_norm, self.feed_forward_norm = RMSNorm(width), RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, width, bias=False)
        self.modulation = nn.Linear(_TIME_FEATURES, 4 * width) if config.time_input else None

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        time: Tensor | None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D).

        With `keys` (ranges, k), the nodes each range of a forest may look at: (1, N, D) ->
        (1, N, D).
        """
        modulation = self._modulation(time)
        x = self.mix(x, rotation, mask, modulation, keys)
        return self.feed(x, modulation)

    def mix(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        modulation: tuple[Tensor, ...] | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """The first half, self-attention with its residual: (B, L, D) -> (B, L, D)."""
        a = self.attention_norm(x)
        if modulation is not None:
            a = a * (1 + modulation[1]) + modulation[0]
        return x + self._attention(a, rotation, mask, keys)

    def feed(self, x: Tensor, modulation: tuple[Tensor, ...] | None = None) -> Tensor:
        """The second half, the feed-forward part with its residual: (B, L, D) -> (B, L, D)."""
        f = self.feed_forward_norm(x)
        if modulation is not None:
            f = f * (1 + modulation[3]) + modulation[2]
        gate, up = self.gate_up(f).chunk(2, dim=-1)
        out: Tensor = x + self.down(functional.silu(gate) * up)
        return out

    def _modulation(self, time: Tensor | None) -> tuple[Tensor, ...] | None:
        """Shift and scale of both norms, 4 x (B, 1, D); None without a time input."""
        if self.modulation is None or time is None:
            return None
        return self.modulation(time).unsqueeze(1).chunk(4, dim=-1)  # type: ignore[no-any-return]

    def _attention(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, keys: Tensor | None
    ) -> Tensor:
        q, k, v = self.project(x, rotation)
        if keys is not None:
            return self.merge(_attend_forest(q, k, v, mask, keys))
        return self.merge(attend(q, k, v, mask, self.causal))

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, both rotated, and values, (B, H, L, K) each, of x (B, L, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (q, k), v = rotate(qkv[:2], *rotation).to(qkv.dtype), qkv[2]
        return q, k, v

    def merge(self, out: Tensor) -> Tensor:
        """What the heads attended to, (B, H, L, K), as (B, L, D)."""
        merged: Tensor = self.attention_out(out.transpose(1, 2).flatten(2))
        return merged


class Network(nn.Module):
    """Tokens and noise level to hidden states (`encode`), and these to raw logits (`readout`)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width)
        if config.time_input:
            self.time = nn.Sequential(
                nn.Linear(_TIME_FEATURES, 2 * _TIME_FEATURES),
                nn.SiLU(),
                nn.Linear(2 * _TIME_FEATURES, _TIME_FEATURES),
            )
        self._initialise()

    def _initialise(self) -> None:
        """Normal(0, 0.02) embeddings, blocks by `initialise`; modulation is the identity."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        initialise(self, self.config.layers)
        for name, weight in self.named_parameters():
            if ".modulation." in name:
                nn.init.zeros_(weight)

    def encode(
        self, tokens: Tensor, noise: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """Hidden states.

        tokens (B, L) int64; noise (B,) noise level 1 - alpha in [0, 1], needed iff the network has
        a time input; padding (B, L) bool, True = padding. Returns (B, L, D) after the final norm.
        Raises ModelError if a noise level is needed and missing.
        """
        x = self.embedding(tokens)
        rotation = self._rotation(torch.arange(tokens.shape[1], device=x.device), x)
        mask = self._mask(tokens.shape[1], padding)
        time = self._time(noise, x) if self.config.time_input else None
        return self.body(x, rotation, mask, time)

    def body(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        time: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """All blocks and the final norm: (B, L, D) -> (B, L, D).

        This is what `torch.compile` is given: everything that depends on the data comes before.
        """
        for block in self.blocks:
            x = block(x, rotation, mask, time, keys)
        hidden: Tensor = self.final_norm(x)
        return hidden

    def compile_body(self) -> None:
        """Let torch.compile make `body` faster; values change by rounding. Not pickled.

        Measured on a CPU: 1.3 to 1.4 times as fast, after half a minute. Raises ModelError on
        torch 1.
        """
        if not hasattr(torch, "compile"):
            raise ModelError(
                f"network: torch {torch.__version__} cannot compile;"
                " leave --compile out, or use torch 2"
            )
        self.body = torch.compile(self.body, dynamic=True)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "body"}

    def encode_forest(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (N, D) of the nodes of a prefix tree.

        tokens (N,) int64; parents (N,) int64 in preorder, -1 at a root (rescore.models.forest). The
        state of a node is what `encode` gives at the end of the path from its root. For causal
        networks without a time input.
        Exact check: tests/scorers/test_prefix_tree.py::test_values_are_those_of_single_rows.
        """
        count = len(parents)
        ranges = -(-count // _FOREST_RANGE)
        size = -(-count // ranges)
        parents = np.append(
            parents, np.full(ranges * size - count, -1)
        )  # lone roots fill the last range
        layout = forest.chunks(parents, size)
        x = self.embedding(functional.pad(tokens, (0, ranges * size - count)))[None]
        rotation = self._rotation(torch.from_numpy(forest.depths(parents)).to(x.device), x)
        keys, seen = (
            torch.from_numpy(layout.keys).to(x.device),
            torch.from_numpy(layout.seen).to(x.device),
        )
        return self.body(x, rotation, seen[None], None, keys)[0, :count]

    def readout(self, hidden: Tensor) -> Tensor:
        """Raw logits (..., V) of hidden states (..., D), by the tied embedding."""
        return functional.linear(hidden, self.embedding.weight)

    def forward(
        self, tokens: Tensor, noise: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """Raw logits (B, L, V): `readout(encode(...))`, for tests and small uses."""
        return self.readout(self.encode(tokens, noise, padding))

    def _rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (L, K / 2), of position x frequency."""
        return rotation(positions, self.config.width // self.config.heads // 2, like.dtype)

    def _mask(self, length: int, padding: Tensor | None) -> Tensor | None:
        """(B, 1, L or 1, L) bool, True = may be seen.

        None if every key may be seen, or if the causal rule alone holds.
        """
        if padding is None or not bool(padding.any()):
            return None
        seen = ~padding[:, None, None, :]
        if self.config.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=padding.device).tril()
        return seen

    def _time(self, noise: Tensor | None, like: Tensor) -> Tensor:
        """(B, 64) features of the noise level: sines and cosines of itself and of its log."""
        if noise is None:
            raise ModelError(
                "network: this model has a time input;"
                " pass the noise level 1 - alpha of every sequence"
            )
        noise = noise.to(like.dtype)[:, None]
        frequency = 2.0 ** (
            torch.arange(_TIME_FEATURES // 4, device=like.device, dtype=like.dtype) / 2
        ) * (math.pi / 16)
        log_angle = torch.log(noise.clamp(min=1e-5)) * (frequency / 8)[None]
        angle = noise * frequency[None]
        features = torch.cat((angle.sin(), angle.cos(), log_angle.sin(), log_angle.cos()), dim=-1)
        time: Tensor = functional.silu(self.time(features))
        return time
