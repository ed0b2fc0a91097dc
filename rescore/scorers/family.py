"""What a scorer module declares: its name, how it is built, which options it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rescore.arguments import close_to
from rescore.errors import ScoreError
from rescore.interfaces import PlainScorer, TextTokenizer
from rescore.scorers.options import ScorerOptions, flag
from rescore.text import Normalizer

__all__ = ["ScorerFamily", "Vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """What a model does to a text before its network sees it.

    `window` is the longest sequence the network sees at once, BOS and EOS included.
    """

    tokenizer: TextTokenizer
    normalize: Normalizer
    window: int


@dataclass(frozen=True)
class ScorerFamily:
    """A family of scorers under one name: `dlmrescore score --scorer NAME`.

    `build(options)` makes a scorer. `options` names the options that it reads with every
    estimator. `estimators` maps each estimator to the options that it reads besides these; the
    first is the default; empty for families without estimators. `vocabulary(options)` says what
    the scorer of these options does to texts, without loading weights; None where there are no
    tokens. Calling a family builds a scorer and refuses every other option.
    """

    name: str
    build: Callable[[ScorerOptions], PlainScorer]
    options: frozenset[str]
    estimators: Mapping[str, frozenset[str]] = field(default_factory=dict)
    vocabulary: Callable[[ScorerOptions], Vocabulary] | None = None

    def __call__(self, options: ScorerOptions) -> PlainScorer:
        """Build the scorer. Raises ScoreError for options that it does not read."""
        self.check(options)
        return self.build(options)

    def estimator(self, options: ScorerOptions) -> str | None:
        """The estimator that the options choose; None for a family without estimators.

        Raises ScoreError for an unknown one.
        """
        if options.estimator is None:
            return next(iter(self.estimators), None)
        if not self.estimators:
            raise ScoreError(
                f"--scorer {self.name} has no estimators, got {options.estimator!r};"
                " leave --estimator out"
            )
        if options.estimator not in self.estimators:
            meant = close_to(options.estimator, self.estimators)
            raise ScoreError(
                f"estimator {options.estimator!r} of --scorer {self.name} is unknown;"
                f" known: {', '.join(self.estimators)}{meant}"
            )
        return options.estimator

    def reads(self, options: ScorerOptions) -> frozenset[str]:
        """The names of the options that a scorer of these options reads."""
        estimator = self.estimator(options)
        if estimator is None:
            return self.options
        return self.options | self.estimators[estimator] | {"estimator"}

    def check(self, options: ScorerOptions) -> None:
        """Raise ScoreError that names what is given and not read, if there is any."""
        reads = self.reads(options)
        unread = sorted(options.changed - reads)
        if unread:
            estimator = self.estimator(options)
            which = f" --estimator {estimator}" if estimator else ""
            raise ScoreError(
                f"--scorer {self.name}{which} does not read {', '.join(map(flag, unread))};"
                f" leave {'it' if len(unread) == 1 else 'them'} out"
                f" (it reads {', '.join(map(flag, sorted(reads)))})"
            )
