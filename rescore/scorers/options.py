"""What a scorer is, and everything that decides its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.registry import SCORERS, lookup
from rescore.types import NBest, Score, ScoreKind

__all__ = [
    "CHUNK",
    "DTYPES",
    "ChunkScorer",
    "Cost",
    "DType",
    "Scorer",
    "ScorerOptions",
    "in_chunks",
    "load_scorer",
    "parse_spec",
    "score_lists",
]

#: Of a network's body; log-probabilities are float32 or wider in any case. auto: bfloat16 on a GPU that computes in it, float32 elsewhere.
DType = Literal["auto", "float32", "bfloat16", "float64"]
DTYPES = get_args(DType)

_SPEC = re.compile(
    r"(?:(?P<name>\w[\w.-]*)=)?(?P<scorer>\w[\w-]*)(?::(?P<estimator>\w+))?(?:@(?P<model>.+))?"
)

#: Network evaluations of lists that are batched together, more or less: enough to sort by length, little enough to lose to a kill.
CHUNK = 2000


@runtime_checkable
class Scorer(Protocol):
    """Scores whole lists, one after the other."""

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
        """Yield one Score per list, in order. Memory is bounded by a chunk of hypotheses, not by the input.

        Raises ScoreError naming utterance and hypothesis where a score is not finite.
        """


@dataclass(frozen=True)
class Cost:
    """What evaluating prepared lists takes: network passes over a sequence, tokens with their padding, and the padding alone."""

    evaluations: int
    tokens: int
    padding: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.evaluations + other.evaluations,
            self.tokens + other.tokens,
            self.padding + other.padding,
        )


@runtime_checkable
class ChunkScorer(Scorer, Protocol):
    """A scorer that says what it costs, and prepares lists (tokens, plans) apart from evaluating them, so that one goes on beside the other.

    The engine (rescore.pipeline) makes chunks of lists from this; batches never cross a chunk.
    """

    @property
    def is_stochastic(self) -> bool:
        """Whether a score depends on draws, and so on utterance and list; otherwise on the text alone."""

    def evaluations(self, nbest: NBest) -> int:
        """About how many network passes a list costs, from its number of words."""

    def prepare(self, lists: Sequence[NBest]) -> Any:
        """Everything that needs no network; one call at a time, beside `evaluate` of other lists."""

    def evaluate(self, prepared: Any) -> list[Score]:
        """One Score per list of `prepare`. Raises as `score`."""

    def cost(self, prepared: Any) -> Cost:
        """What `evaluate` of this would take; it cannot be evaluated after that."""

    def warn(self) -> None:
        """Log once what was noticed over all lists."""


def in_chunks(scorer: ChunkScorer, lists: Iterable[NBest], size: int) -> Iterator[list[NBest]]:
    """Lists as they come, until they cost `size` evaluations together."""
    chunk: list[NBest] = []
    held = 0
    for nbest in lists:
        chunk.append(nbest)
        held += scorer.evaluations(nbest)
        if held >= size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def score_lists(scorer: ChunkScorer, lists: Iterable[NBest]) -> Iterator[Score]:
    """`Scorer.score` of a ChunkScorer: chunk after chunk of about `CHUNK` evaluations."""
    for chunk in in_chunks(scorer, lists, CHUNK):
        yield from scorer.evaluate(scorer.prepare(chunk))
    scorer.warn()


@dataclass(frozen=True)
class ScorerOptions:
    """Settings of a scorer; None means the scorer's own default.

    model: directory or Hub id (None: the embedded model); estimator: see the scorer; draws, seed: of stochastic estimators; t: noise level of the
    one-pass pseudo-log-likelihood; normalizer: what the text goes through first; window: longest token sequence, BOS and EOS included;
    score_eos: whether the end of the sentence is part of the score; per_token: also say what each token adds to the score;
    dtype: of the network's body; remote_code: run code that a Hub model brings with it.
    """

    model: str | None = None
    estimator: str | None = None
    draws: int = 8
    seed: int = 0
    t: float = 0.1
    device: str = "cpu"
    dtype: DType = "auto"
    normalizer: str | None = None
    window: int | None = None
    score_eos: bool = True
    per_token: bool = False
    remote_code: bool = False
    compile: bool = False

    def refuse_compiled(self) -> None:
        """Raise ScoreError if `compile` is asked for; for scorers whose networks are not ours."""
        if self.compile:
            raise ScoreError(
                "--compile is for the networks of this package (mdlm, usdm, ar); leave it out"
            )

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ScoreError(f"draws must be at least 1, got {self.draws}")
        if not 0 < self.t < 1:
            raise ScoreError(f"t must lie between 0 and 1, got {self.t}")
        if self.window is not None and self.window < 8:
            raise ScoreError(f"window must be at least 8 tokens, got {self.window}")


def parse_spec(
    spec: str, options: ScorerOptions | None = None
) -> tuple[str | None, str, ScorerOptions]:
    """(name of the score or None, scorer, its options) of `[NAME=]SCORER[:ESTIMATOR][@MODEL]`; all else as in `options`.

    Raises RescoreError for what is not written like this.
    """
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        raise RescoreError(
            f"scorer {spec!r} is not written as [NAME=]SCORER[:ESTIMATOR][@MODEL], such as ar, mdlm:pll or gpt2=ar@openai-community/gpt2"
        )
    return (
        found["name"],
        found["scorer"],
        replace(options or ScorerOptions(), model=found["model"], estimator=found["estimator"]),
    )


def load_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Build the scorer called `name`.

    A scorer that can give `token_scores` has a true attribute `per_token` where the options ask for them.
    Raises RescoreError for an unknown name or a broken plug-in, ModelError for an unusable model, ScoreError for impossible options.
    """
    options = options or ScorerOptions()
    build = lookup(SCORERS, name, "scorer")
    _check_device(options.device)
    scorer = build(options)
    if not isinstance(scorer, Scorer):
        raise ScoreError(
            f"scorer {name!r} was built as a {type(scorer).__name__}, expected an object with name, kind, signature and score(lists)"
        )
    if options.per_token and not getattr(scorer, "per_token", False):
        raise ScoreError(
            f"--scorer {name} does not say what each token adds to its score; leave --per-token out"
        )
    return scorer


def _check_device(device: str) -> None:
    """Raise ModelError for a device that torch does not know or does not have."""
    import torch  # noqa: PLC0415 - options are plain data until a scorer is built

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); use cpu or a device that torch has"
        ) from error
