"""A language model with a speech prompt: what an encoder hears, as embeddings in front of a text.

    audio -> encoder -> subsampling convolution -> projection -> prompt
    prompt + embeddings of the text -> blocks of a text model -> predictions

The text sees the prompt and itself; the prompt sees itself alone. So the prompt's keys and values
do not depend on the text: they are computed once an utterance, and every later evaluation of the
text has the same numbers as one that computes all anew (`rescore.models.kept_states`). With an MDLM
the text is bidirectional, as in dLLM-ASR (arXiv:2601.17902); with an AR model causal, its twin.

Positions are rotary. A token stands at its number in the text, a frame of the prompt at the number
of tokens that CTC expects to have begun by then ("emitted"), so that a token finds its frames
without counting: by the words that have begun, or by all symbols if the language model reads
characters. Or the text follows the prompt ("sequence"), which is all that other networks can do.

Letters in shapes: B batch, M frames of the encoder, P frames of the prompt, L positions of the
text, E width of the encoder, D width of the language model, V its vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from rescore.errors import ModelError
from rescore.models.audio_network import SpecialRows
from rescore.models.network import Network, NetworkConfig, RMSNorm, rotation, tensor_shapes
from rescore.models.speech_network import SpeechNetwork, normalised

__all__ = [
    "CLOCKS",
    "ClockName",
    "HeardPrompt",
    "PositionName",
    "PromptConfig",
    "PromptedNetwork",
    "SequenceModel",
    "TextNetwork",
    "projector_shapes",
    "text_network_shapes",
]

#: Where the prompt stands: at the tokens that CTC expects, or in front of the text.
PositionName = Literal["emitted", "sequence"]

#: What of the encoder's symbols tells how far the text is: those that begin a word, or all.
ClockName = Literal["words", "symbols"]
CLOCKS: tuple[ClockName, ...] = get_args(ClockName)


@dataclass(frozen=True)
class PromptConfig:
    """The shape of a projector.

    `memory_width` E, `width` D, `stride` encoder frames to one of the prompt. `clock`: the symbols
    that are counted, `tokens_per_count`: tokens of the language model to one of them, as the
    training texts have it.
    """

    memory_width: int
    width: int
    stride: int = 2
    hidden: int = 512
    positions: PositionName = "emitted"
    clock: ClockName = "words"
    tokens_per_count: float = 1.0

    def __post_init__(self) -> None:
        if min(self.memory_width, self.width, self.stride, self.hidden) < 1:
            raise ModelError(f"network: every size must be positive, got {self}")
        if not self.tokens_per_count > 0:
            raise ModelError(
                f"network: tokens_per_count is {self.tokens_per_count}, expected a positive number"
            )

    @property
    def kernel(self) -> int:
        """Encoder frames that a frame of the prompt is made of: an odd number above the stride."""
        return self.stride + 1 + self.stride % 2


class SequenceModel(Protocol):
    """What a prompt can be put in front of: a network from embeddings to predictions.

    `shift`: the state at position i predicts the token at i + shift. `hides_end`: its EOS may be
    masked, so a canvas may have room to spare. `follows_places`: it takes positions and a mask;
    else positions count from 0 and everything sees everything. `output_rows` V.
    """

    rows: SpecialRows
    width: int
    output_rows: int
    is_causal: bool
    shift: int
    hides_end: bool
    follows_places: bool

    @property
    def blocks(self) -> nn.ModuleList:
        """Its blocks."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (B, L, D) of tokens (B, L) int64."""

    def states(self, x: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        """Hidden states (B, n, D) of embeddings (B, n, D).

        places (B, n) rotary positions; seen (B, 1, n, n) bool, True = the key may be seen.
        """

    def readout(self, hidden: Tensor) -> Tensor:
        """Raw logits (..., V)."""

    @property
    def output_weight(self) -> Tensor | None:
        """Rows (V', D) of the output layer; of ours those of pieces alone.

        None: hidden states are logits, as the output layer cannot be taken alone.
        """


class TextNetwork(nn.Module):
    """Our `Network` as a `SequenceModel`. Raises ModelError for one with a time input."""

    shift: int = 0
    hides_end: bool = True
    follows_places: bool = True

    def __init__(self, network: Network, special: tuple[int, int, int], pieces: int) -> None:
        """`special`: ids of padding, EOS and BOS; the mask symbol, where there is one, follows."""
        super().__init__()
        if network.config.time_input:
            raise ModelError("a language model with a time input takes no speech prompt")
        self.network, self.is_causal = network, network.config.causal
        self.width, self.output_rows = network.config.width, network.config.vocab_size
        self.rows = SpecialRows(*special, mask=pieces)

    @property
    def blocks(self) -> nn.ModuleList:
        """Its blocks."""
        return self.network.blocks

    def embed(self, tokens: Tensor) -> Tensor:
        """See SequenceModel."""
        embedded: Tensor = self.network.embedding(tokens)
        return embedded

    def states(self, x: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        """See SequenceModel."""
        cos, sin = self.angles(places, x.dtype)
        return self.network.body(x, (cos[:, None], sin[:, None]), seen)

    def angles(self, places: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine (..., half of a head) of positions (...)."""
        config = self.network.config
        return rotation(places, config.width // config.heads // 2, dtype)

    def readout(self, hidden: Tensor) -> Tensor:
        """See SequenceModel."""
        return self.network.readout(hidden)

    @property
    def output_weight(self) -> Tensor:
        """See SequenceModel."""
        return self.network.embedding.weight[: self.rows.mask]


class Projector(nn.Module):
    """A convolution in time with a stride, and a projection: (B, M, E) -> (B, P, D)."""

    def __init__(self, config: PromptConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.convolution = nn.Conv1d(
            config.memory_width,
            config.hidden,
            config.kernel,
            stride=config.stride,
            padding=config.kernel // 2,
        )
        self.project = nn.Linear(config.hidden, config.width)
        self.ctc_norm = RMSNorm(config.width)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The prompt (B, P, D) and its frames (B,), on the CPU, of lengths (B,) on the CPU."""
        inside = torch.arange(hidden.shape[1])[None] < lengths[:, None]
        x = hidden.masked_fill(~inside.to(hidden.device)[..., None], 0.0).transpose(1, 2)
        x = functional.silu(self.convolution(x)).transpose(1, 2)
        return self.project(x), torch.div(
            lengths + self.stride - 1, self.stride, rounding_mode="floor"
        )


class HeardPrompt(NamedTuple):
    """What a prompted network makes of a batch of audio.

    log_probs (B, M, symbols) of the encoder's CTC, lengths (B,) its frames, prompt (B, P, D),
    frames (B,) those of the prompt, places (B, P) of the prompt, tokens (B,) that CTC expects in
    the text. Lengths and frames are on the CPU.
    """

    log_probs: Tensor
    lengths: Tensor
    prompt: Tensor
    frames: Tensor
    places: Tensor
    tokens: Tensor


class PromptedNetwork(nn.Module):
    """An encoder, a projector, and a language model."""

    def __init__(
        self,
        encoder: SpeechNetwork,
        config: PromptConfig,
        language_model: SequenceModel,
        counted: Sequence[int],
        first: int,
    ) -> None:
        """`counted`: the encoder's symbols that the clock counts, from `first` on."""
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = Projector(config)
        self.language_model = language_model
        is_counted = torch.zeros(encoder.config.symbols, dtype=torch.bool)
        is_counted[list(counted)] = True
        self._is_counted: Tensor
        self.register_buffer("_is_counted", is_counted, persistent=False)
        self._first = first

    @property
    def rows(self) -> SpecialRows:
        """The rows of the language model that are no text."""
        return self.language_model.rows

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks, those of the encoder first."""
        return [*self.encoder.blocks, *self.language_model.blocks]

    def hear(self, features: Tensor, frames: Tensor, is_normalised: bool = False) -> HeardPrompt:
        """The prompts of features (B, T, F); frames (B,) int64, best on the CPU."""
        x = features if is_normalised else normalised(features, frames)
        hidden, lengths = self.encoder.hidden(x, frames)
        return self.prompted(hidden, lengths)

    def prompted(self, hidden: Tensor, lengths: Tensor) -> HeardPrompt:
        """The prompts of hidden states (B, M, E) of the encoder, lengths (B,) int64."""
        lengths = lengths.cpu()
        log_probs = self.encoder.log_probs(hidden)
        prompt, frames = self.projector(hidden, lengths)
        begun = self._tokens_begun(log_probs)
        last = begun.gather(1, (lengths.to(begun.device) - 1)[:, None])[:, 0]
        places = begun[:, :: self.config.stride]
        if self.config.positions == "sequence":
            places = torch.arange(prompt.shape[1], device=prompt.device).expand(prompt.shape[:2])
        elif not self.language_model.is_causal:
            places = places + 1  # a causal network predicts the token at i from position i - 1
        tokens = last + self._first * self.config.tokens_per_count
        return HeardPrompt(log_probs, lengths, prompt, frames, places, tokens)

    def _tokens_begun(self, log_probs: Tensor) -> Tensor:
        """Tokens that CTC expects to have begun up to each frame, (B, M), without gradient.

        As `rescore.models.conditioned.emitted`, of the symbols that the clock counts, times the
        tokens to one of them.
        """
        probs = log_probs.detach()[..., self._is_counted].exp()
        before = functional.pad(probs, (0, 0, 1, 0))[:, :-1]
        begun: Tensor = (probs * (1 - before)).sum(-1).cumsum(1) * self.config.tokens_per_count
        return begun

    def text_places(self, heard: HeardPrompt, length: int) -> Tensor:
        """Rotary positions (B, L) of a text behind its prompt."""
        places = torch.arange(length, device=heard.prompt.device).expand(len(heard.frames), length)
        if self.config.positions == "sequence":
            places = places + heard.frames.to(places.device)[:, None]
        return places

    def encode(self, tokens: Tensor, heard: HeardPrompt, padding: Tensor | None = None) -> Tensor:
        """Hidden states (B, L, D) of texts behind their prompts, everything computed at once.

        tokens (B, L) int64; padding (B, L) bool, True = padding, None: there is none. State i is
        what predicts token i, or i + 1 in a causal network.
        """
        count = heard.prompt.shape[1]
        embedded = self.language_model.embed(tokens)
        x = torch.cat((heard.prompt.to(embedded.dtype), embedded), dim=1)
        places = torch.cat((heard.places, self.text_places(heard, tokens.shape[1])), dim=1)
        hidden = self.language_model.states(x, places, self._seen(heard, tokens, padding))
        shift = self.language_model.shift
        return hidden[:, count - shift : hidden.shape[1] - shift]

    def _seen(self, heard: HeardPrompt, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """(B, 1, P + L, P + L) bool: the prompt sees itself, the text the prompt and itself."""
        length, count, device = tokens.shape[1], heard.prompt.shape[1], tokens.device
        prompt = (torch.arange(count)[None] < heard.frames[:, None]).to(device)
        text = torch.ones_like(tokens, dtype=torch.bool) if padding is None else ~padding
        seen = torch.cat((prompt, text), dim=1)[:, None].repeat(1, count + length, 1)
        if self.language_model.follows_places:
            seen[:, :count, count:] = False
        if self.language_model.is_causal:
            order = torch.ones(length, length, dtype=torch.bool, device=device).tril()
            seen[:, count:, count:] &= order
        return seen[:, None]

    def prompt_log_probs(self, heard: HeardPrompt) -> Tensor:
        """Log-probabilities (B, P, V) of CTC on the prompt, by the language model's output layer.

        Its blank is the row of the padding.
        """
        logits = self.language_model.readout(self.projector.ctc_norm(heard.prompt))
        kind = torch.promote_types(logits.dtype, torch.float32)
        log_probs: Tensor = logits.to(kind).log_softmax(-1)
        return log_probs


def projector_shapes(config: PromptConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of a projector, by arithmetic alone."""
    yield "projector.convolution.weight", (config.hidden, config.memory_width, config.kernel)
    yield "projector.convolution.bias", (config.hidden,)
    yield "projector.project.weight", (config.width, config.hidden)
    yield "projector.project.bias", (config.width,)
    yield "projector.ctc_norm.weight", (config.width,)


def text_network_shapes(config: NetworkConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (name, shape) of every tensor of a `TextNetwork`, by arithmetic alone."""
    for name, shape in tensor_shapes(config):
        yield "language_model.network." + name, shape
