"""Every protocol that two rooms meet at, in one reading.

    Denoiser, CausalLM     what the estimators need of a network or a table
    Condition              what a query is conditioned on besides text (audio, as a rule)
    WordModel              what is needed of an n-gram model
    TextTokenizer          what scoring needs of a tokenizer
    ChunkTask              work that the engine runs chunk by chunk, and its Result
    Scorer, PlainScorer    texts to scores
    ListenerScorer         a scorer that hears the utterance
    Batch budgets and costs are records: `BatchBudget`, `Cost`

Shapes: B sequences, L positions, V rows of the vocabulary, W the width of hidden states, n anything
selected. torch is imported for type checking only, so that this file costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from rescore.types import NBest, Score, ScoreKind

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "BatchBudget",
    "CausalLM",
    "ChunkTask",
    "Condition",
    "Cost",
    "Denoiser",
    "ListenerScorer",
    "PlainScorer",
    "Prediction",
    "Scope",
    "Scorer",
    "SparseDenoiser",
    "TextTokenizer",
    "WordModel",
]

#: What a denoiser's output means: see `rescore.diffusion.uniform` for the last two.
Prediction = Literal["masked", "leave_one_out", "posterior"]

#: What a score depends on: the text alone; text and utterance (its audio); the whole list
#: (common random numbers). It decides what is shared within a chunk, cached and journaled.
Scope = Literal["text", "utterance", "list"]

Item_contra = TypeVar("Item_contra", contravariant=True)
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


# ------------------------------------------------------------------------------------ networks


@runtime_checkable
class Condition(Protocol):
    """What a sequence is conditioned on besides text; queries share a pass iff keys are equal."""

    @property
    def key(self) -> str:
        """Names the condition: equal keys mean equal conditions."""


class Denoiser(Protocol):
    """A network (or a table) that predicts clean tokens from a corrupted sequence."""

    vocab_size: int  # output rows, a mask symbol included; N of the uniform formulas
    mask_id: int | None  # None for uniform-state models
    prediction: Prediction

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Log-probabilities of the clean token at every position.

        noisy (B, L) int64; noise (B,) noise level 1 - alpha, float; padding (B, L) bool, True =
        padding. Returns (B, L, V), float32 or wider; -inf where a token is impossible.

        A conditioned denoiser takes a fourth argument, `condition`: a sequence of B conditions,
        None where a row is text alone. It is only passed where a query has one.
        """


@runtime_checkable
class SparseDenoiser(Denoiser, Protocol):
    """A denoiser that can be read out at chosen positions, so that (B, L, V) is never built."""

    def encode(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Hidden states (B, L, W). Takes `condition` as `log_probs` does."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V) of selected hidden states (n, W)."""


class CausalLM(Protocol):
    """A network that predicts the next token on a forest of prefixes; rows are its simplest case.

    A forest: tokens (n,) int64 and parents (n,) int64 in preorder, -1 at a root. The position of a
    node is the number of its ancestors.
    """

    vocab_size: int

    def encode(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (n, W); a node sees its ancestors and itself."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V) of the next token, from hidden states (n, W)."""


class WordModel(Protocol):
    """An n-gram model of words, or of symbols in their place: ours or KenLM's."""

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""

    @property
    def digest(self) -> str:
        """Names the model in signatures."""

    @property
    def normalizer(self) -> str:
        """The normaliser that a text goes through first."""

    def token_log_probs(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Score every word and `</s>`, sentence after sentence.

        Returns nats, float64, and whether each is an unknown word, bool, both of shape
        (words + sentences,).
        """


class TextTokenizer(Protocol):
    """The part of a tokenizer that scoring needs."""

    @property
    def bos_id(self) -> int:
        """Begins every sequence; never scored."""

    @property
    def eos_id(self) -> int:
        """Ends every sequence."""

    @property
    def unk_id(self) -> int | None:
        """Stands for what the vocabulary lacks; None where the vocabulary spells everything."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS; special tokens in a text are plain text."""

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token, (length,) int64."""

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it."""


# ------------------------------------------------------------------------------------ the engine


class BatchBudget(Protocol):
    """How many padded tokens one network call may have (`rescore.batching.Budget`)."""

    tokens: int
    call_tokens: int


@dataclass(frozen=True)
class Cost:
    """What a chunk costs: network evaluations (NFE), tokens with padding, and the padding alone."""

    evaluations: int = 0
    tokens: int = 0
    padding: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.evaluations + other.evaluations,
            self.tokens + other.tokens,
            self.padding + other.padding,
        )


class ChunkTask(Protocol[Item_contra, Prepared, Result]):
    """Work that the engine runs chunk by chunk: scoring lists, decoding utterances, posteriors.

    A chunk is prepared (tokens, plans) apart from its evaluation, so that one goes on beside the
    other. Batches never cross a chunk.
    """

    @property
    def signature(self) -> str:
        """Everything a result depends on besides its item; journals and caches are keyed by it."""

    @property
    def budget(self) -> BatchBudget | None:
        """What batches are limited by; None where nothing is batched."""

    @property
    def device(self) -> str:
        """The torch device of the network; cpu where there is none."""

    def evaluations(self, item: Item_contra, /) -> int:
        """About how many network evaluations an item costs, without tokenising it."""

    def prepare(self, items: Sequence[Item_contra], /) -> Prepared:
        """Everything that needs no network; one call at a time, beside `evaluate` of others."""

    def evaluate(self, prepared: Prepared, /) -> list[Result]:
        """One result per item of `prepare`."""

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` of this would cost; it cannot be evaluated afterwards."""

    def warn(self) -> None:
        """Log once what was noticed over all items, such as unknown tokens."""


@runtime_checkable
class PlainScorer(Protocol):
    """The least that a scorer of another package brings: it scores whole lists."""

    @property
    def name(self) -> str:
        """Default name of the score, such as "mdlm_nelbo"."""

    @property
    def kind(self) -> ScoreKind:
        """What the score is."""

    @property
    def signature(self) -> str:
        """Two scores may be compared iff their signatures are equal."""

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order, in bounded memory.

        Raises ScoreError naming utterance and hypothesis where a score is not finite.
        """


@runtime_checkable
class Scorer(PlainScorer, Protocol):
    """A `ChunkTask` from NBest to Score: what the engine, the cache and `check` use of a scorer.

    `rescore.scorers.adapt` makes one of a PlainScorer.
    """

    @property
    def scope(self) -> Scope:
        """What a score depends on."""

    @property
    def per_token(self) -> bool:
        """Whether scores say what each token adds (`Score.token_scores`)."""

    @property
    def budget(self) -> BatchBudget | None:
        """See ChunkTask."""

    @property
    def device(self) -> str:
        """See ChunkTask."""

    def evaluations(self, nbest: NBest, /) -> int:
        """See ChunkTask."""

    def prepare(self, lists: Sequence[NBest], /) -> Any:
        """See ChunkTask."""

    def evaluate(self, prepared: Any, /) -> list[Score]:
        """See ChunkTask."""

    def cost(self, prepared: Any, /) -> Cost:
        """See ChunkTask."""

    def warn(self) -> None:
        """See ChunkTask."""


@runtime_checkable
class ListenerScorer(Scorer, Protocol):
    """A scorer of scope "utterance": its scores depend on audio, which no list contains."""

    def condition(self, utterance: str, /) -> str:
        """A digest of what scores depend on of an utterance besides its texts.

        Journal and cache go by it: other audio under the same id has other scores.
        """

    def select(self, lists: Iterable[NBest], /) -> Iterator[NBest]:
        """The lists to score; without the hypotheses that cannot be scored and are dropped."""
