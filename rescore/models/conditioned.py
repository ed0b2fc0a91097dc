"""A decoder of text that listens: our Transformer blocks with cross-attention to a memory.

The memory is what an encoder made of the audio. Its keys and values are computed once an utterance,
for all blocks, and serve every evaluation after that. Bidirectional, the network is the denoiser of
MDM-ASR (arXiv:2602.18952); causal, its autoregressive twin.

Cross-attention is rotary in both: a query stands at its position in the text, a frame at the number
of symbols that CTC expects to have been emitted by then (`emitted`). So a query need not learn to
count to find its frames, and a canvas of masks alone is no row of equal queries. One more place of
the memory, `null`, can always be seen; a row without audio sees nothing else, which is what
classifier-free guidance needs.

Letters in shapes: B batch, L length of the text, M frames of the memory, D width, E width of the
memory, H heads, K width of one head, V rows of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rescore.errors import ModelError
from rescore.models.network import (
    Block,
    NetworkConfig,
    RMSNorm,
    attend,
    block_shapes,
    initialise,
    rotate,
    rotation,
)

__all__ = [
    "ConditionedConfig",
    "ConditionedNetwork",
    "Memory",
    "conditioned_shapes",
    "emitted",
    "stacked",
]


@dataclass(frozen=True)
class ConditionedConfig(NetworkConfig):
    """The shape of a decoder.

    `memory_width` is the width of what it listens to. `dropout` is the share of the hidden states
    that are zeroed before each block while training.
    """

    memory_width: int = 192
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_width < 1 or not 0 <= self.dropout < 1:
            raise ModelError(
                f"network: memory_width is {self.memory_width} and dropout {self.dropout}, "
                "expected a positive width and 0 or more, below 1"
            )
        if self.time_input:
            raise ModelError("network: a decoder that listens has no time input; leave it out")


class Memory(NamedTuple):
    """Keys and values of utterances: states (layers, 2, B, H, 1 + M, K), keys rotated.

    `seen` (B, 1, 1, 1 + M) bool, True = may be seen; place 0 is `null`.
    """

    states: Tensor
    seen: Tensor

    def rows(self, index: Tensor) -> Memory:
        """The memory of batch rows `index` (n,) int64, in that order; rows may repeat."""
        return Memory(self.states[:, :, index], self.seen[index])

    def without_audio(self, is_deaf: Tensor) -> Memory:
        """Rows `is_deaf` (B,) bool see `null` alone."""
        is_hidden = is_deaf[:, None, None, None].expand_as(self.seen).clone()
        is_hidden[..., 0] = False
        return Memory(self.states, self.seen & ~is_hidden)


def stacked(memories: Sequence[Memory]) -> Memory:
    """The rows of several memories as one, padded to the longest."""
    most = max(memory.seen.shape[-1] for memory in memories)
    extra = [most - memory.seen.shape[-1] for memory in memories]
    parts = list(zip(memories, extra, strict=True))
    states = [functional.pad(memory.states, (0, 0, 0, more)) for memory, more in parts]
    seen = [functional.pad(memory.seen, (0, more)) for memory, more in parts]
    return Memory(torch.cat(states, dim=2), torch.cat(seen))


def emitted(log_probs: Tensor, blank: int) -> Tensor:
    """The symbols that CTC expects to have been emitted up to each frame, (B, M), without gradient.

    log_probs (B, M, V) of frames. CTC's frames are independent, so a frame begins a symbol v with
    probability p_m(v) (1 - p_{m-1}(v)), and the sum over frames and symbols is exact.
    Exact check: tests/models/test_conditioned.py::
    test_emitted_symbols_are_the_mean_over_all_paths.
    """
    probs = log_probs.detach().exp()
    before = functional.pad(probs, (0, 0, 1, 0))[:, :-1]
    begins = probs * (1 - before)
    return (begins.sum(-1) - begins[..., blank]).cumsum(1)


def conditioned_shapes(
    config: ConditionedConfig, prefix: str = ""
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of `ConditionedNetwork(config)`, by arithmetic alone.

    Exact check: tests/models/test_conditioned.py::test_shapes_by_arithmetic_are_those_of_a_decoder.
    """
    width, memory = config.width, config.memory_width
    yield prefix + "null", (memory,)
    yield prefix + "embedding.weight", (config.vocab_size, width)
    yield prefix + "key_value.weight", (2 * config.layers * width, memory)
    for layer in range(config.layers):
        name = f"{prefix}blocks.{layer}."
        yield from block_shapes(config, name + "block.")
        yield name + "cross_norm.weight", (width,)
        yield name + "query.weight", (width, width)
        yield name + "cross_out.weight", (width, width)
    yield prefix + "final_norm.weight", (width,)


class ConditionedBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each with its norm and its residual."""

    def __init__(self, config: ConditionedConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.block = Block(config)
        self.cross_norm = RMSNorm(config.width)
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.cross_out = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        states: Tensor,
        seen: Tensor,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D); states (2, B, H, 1 + M, K) and `seen` of a Memory."""
        x = self.block.mix(x, angles, mask)
        x = x + self.listen(self.cross_norm(x), angles, states, seen)
        out: Tensor = self.block.feed(x)
        return out

    def extend(
        self, x: Tensor, angles: tuple[Tensor, Tensor], past: Tensor, states: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One position more, (B, 1, D) -> (B, 1, D), and `past` (2, B, H, L, K) with it."""
        q, k, v = self.block.project(self.block.attention_norm(x), angles)
        past = torch.cat((past, torch.stack((k, v))), dim=3)
        x = x + self.block.merge(attend(q, past[0], past[1], None, causal=False))
        x = x + self.listen(self.cross_norm(x), angles, states, seen)
        return self.block.feed(x), past

    def listen(
        self, x: Tensor, angles: tuple[Tensor, Tensor], states: Tensor, seen: Tensor
    ) -> Tensor:
        """Cross-attention of normed states (B, L, D) to a memory: (B, L, D)."""
        batch, length, width = x.shape
        q = self.query(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        q = rotate(q, *angles).to(q.dtype)  # (B, H, L, K)
        states = states.to(q.dtype)
        out = attend(q, states[0], states[1], seen, causal=False)
        mixed: Tensor = self.cross_out(out.transpose(1, 2).reshape(batch, length, width))
        return mixed


class ConditionedNetwork(nn.Module):
    """Audio to a memory (`listen`), tokens and memory to hidden states, and these to logits."""

    def __init__(self, config: ConditionedConfig) -> None:
        super().__init__()
        self.config = config
        self.null = nn.Parameter(torch.empty(config.memory_width))
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.key_value = nn.Linear(
            config.memory_width, 2 * config.layers * config.width, bias=False
        )
        self.blocks = nn.ModuleList(ConditionedBlock(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width)
        initialise(self, config.layers)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.null, std=1 / math.sqrt(config.memory_width))

    def listen(self, hidden: Tensor, places: Tensor, lengths: Tensor) -> Memory:
        """The memory of utterances.

        hidden (B, M, E) of an encoder; places (B, M), where in the text each frame is (`emitted`);
        lengths (B,) int64, M of each utterance, on the CPU.
        """
        batch, frames, width = hidden.shape
        config, device = self.config, hidden.device
        null = self.null.to(hidden.dtype).expand(batch, 1, width)
        projected = self.key_value(torch.cat((null, hidden), dim=1))
        states = projected.view(
            batch, 1 + frames, config.layers, 2, config.heads, config.width // config.heads
        ).permute(2, 3, 0, 4, 1, 5)  # (layers, 2, B, H, 1 + M, K)
        cos, sin = self._rotation(functional.pad(places, (1, 0)), hidden)
        keys = rotate(states[:, 0], cos[:, None], sin[:, None]).to(states.dtype)
        inside = torch.arange(1 + frames)[None] < 1 + lengths[:, None].cpu()
        return Memory(torch.stack((keys, states[:, 1]), dim=1), inside.to(device)[:, None, None])

    def encode(
        self,
        tokens: Tensor,
        memory: Memory,
        padding: Tensor | None = None,
        embedded: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, L, D) after the final norm.

        tokens (B, L) int64; padding (B, L) bool, True = padding, None: there is none. `embedded`
        (B, L, D) stands in for the embeddings of the tokens.
        """
        x = self.embedding(tokens) if embedded is None else embedded
        length = tokens.shape[1]
        angles = self._rotation(torch.arange(length, device=x.device), x)
        mask = self._mask(length, padding)
        for layer, block in enumerate(self.blocks):
            x = functional.dropout(x, self.config.dropout, self.training)
            x = block(x, angles, mask, memory.states[layer], memory.seen)
        hidden: Tensor = self.final_norm(x)
        return hidden

    def no_past(self, batch: int) -> Tensor:
        """Keys and values of no position yet: (layers, 2, batch, H, 0, K)."""
        config = self.config
        shape = (config.layers, 2, batch, config.heads, 0, config.width // config.heads)
        return self.null.new_zeros(shape)

    def extend(self, tokens: Tensor, memory: Memory, past: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, D) of one position more of a causal decoder, and `past` with it.

        tokens (B,) int64 follow the positions whose keys and values `past` holds.
        Exact check: tests/models/test_conditioned.py::
        test_a_decoder_with_cached_keys_has_the_states_of_one_without.
        """
        x = self.embedding(tokens[:, None])
        angles = self._rotation(torch.full((1,), past.shape[4], device=x.device), x)
        extended = []
        for layer, block in enumerate(self.blocks):
            states, seen = memory.states[layer], memory.seen
            x, more = block.extend(x, angles, past[layer], states, seen)  # type: ignore[operator]
            extended.append(more)
        return self.final_norm(x[:, 0]), torch.stack(extended)

    def readout(self, hidden: Tensor) -> Tensor:
        """Raw logits (..., V) of hidden states (..., D), by the tied embedding."""
        return functional.linear(hidden, self.embedding.weight)

    def _rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        return rotation(positions, self.config.width // self.config.heads // 2, like.dtype)

    def _mask(self, length: int, padding: Tensor | None) -> Tensor | None:
        """(B, 1, L or 1, L) bool, True = may be seen; None where the causal rule alone holds."""
        if padding is None:
            return None
        seen = ~padding[:, None, None, :]
        if self.config.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=padding.device).tril()
        return seen
