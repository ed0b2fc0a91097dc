"""An encoder of speech and a decoder that listens to it, as one network.

The output rows of the decoder, for a recogniser of V symbols (columns, the blank included):

    0 .. V - 1   the symbols; the blank's row is the padding
    V            EOS: ends a text, and fills a canvas
    V + 1        BOS: begins every sequence, never predicted
    V + 2        the mask symbol, never predicted
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from rescore.models.conditioned import (
    ConditionedConfig,
    ConditionedNetwork,
    Memory,
    conditioned_shapes,
    emitted,
)
from rescore.models.speech_network import (
    SpeechConfig,
    SpeechNetwork,
    normalised,
    speech_tensor_shapes,
)

__all__ = ["SPECIAL_ROWS", "AudioNetwork", "Heard", "SpecialRows", "audio_network_shapes"]

#: Rows that follow the symbols: EOS, BOS, mask.
SPECIAL_ROWS = 3


class SpecialRows(NamedTuple):
    """The rows that are no text. `predicted` rows, from 0, are what a softmax is over."""

    padding: int
    eos: int
    bos: int
    mask: int

    @classmethod
    def of(cls, symbols: int, blank: int) -> SpecialRows:
        """Those of a recogniser with that many symbols."""
        return cls(blank, symbols, symbols + 1, symbols + 2)

    @property
    def predicted(self) -> int:
        """The symbols and EOS."""
        return self.eos + 1


class Heard(NamedTuple):
    """What the encoder makes of a batch.

    log_probs (B, M, V) of CTC, lengths (B,) int64 on the CPU, places (B, M) of frames in the text,
    and the decoder's memory.
    """

    log_probs: Tensor
    lengths: Tensor
    places: Tensor
    memory: Memory


class AudioNetwork(nn.Module):
    """Features to a memory by the encoder, and tokens to logits by the decoder."""

    def __init__(self, encoder: SpeechNetwork, decoder: ConditionedNetwork, blank: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.blank = encoder, decoder, blank

    @property
    def rows(self) -> SpecialRows:
        """The rows of the decoder that are no text."""
        return SpecialRows.of(self.encoder.config.symbols, self.blank)

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks, those of the encoder first."""
        return [*self.encoder.blocks, *self.decoder.blocks]

    def hear(self, features: Tensor, frames: Tensor, is_normalised: bool = False) -> Heard:
        """The memory of features (B, T, F); frames (B,) int64, best on the CPU."""
        x = features if is_normalised else normalised(features, frames)
        hidden, lengths = self.encoder.hidden(x, frames)
        return self.remember(hidden, lengths)

    def remember(self, hidden: Tensor, lengths: Tensor) -> Heard:
        """The memory of hidden states (B, M, E) of the encoder, lengths (B,) int64 on the CPU."""
        log_probs = self.encoder.log_probs(hidden)
        places = emitted(log_probs, self.blank)
        return Heard(log_probs, lengths, places, self.decoder.listen(hidden, places, lengths))


def audio_network_shapes(
    encoder: SpeechConfig, decoder: ConditionedConfig
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of an `AudioNetwork`, by arithmetic alone."""
    for name, shape in speech_tensor_shapes(encoder):
        yield "encoder." + name, shape
    yield from conditioned_shapes(decoder, "decoder.")
