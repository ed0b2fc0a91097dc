"""Scores: of lists, of plain texts, by a scorer that is loaded or made of your own network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rescore import checking, pipeline, scorers
from rescore.arguments import kind_of
from rescore.checking import Inspection
from rescore.errors import ArgumentError, RescoreError
from rescore.formats.files import PathLike
from rescore.formats.in_memory import ListLike, as_lists
from rescore.interfaces import PlainScorer, Scorer
from rescore.pipeline import Journal, Progress, Shard
from rescore.pipeline.engine import Evaluator, InProcess
from rescore.scorers import ScorerOptions, Spec, Vocabulary, built_scorer, command_of
from rescore.scorers.custom import scorer_of
from rescore.types import Hypothesis, NBest, Score
from rescore.wer import Unit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rescore.scorers import ScorerKeywords

__all__ = ["check", "load_scorer", "score", "score_texts", "scorer_of"]


def score(
    lists: Iterable[ListLike],
    scorer: str | PlainScorer = "mdlm",
    *,
    name: str | None = None,
    overwrite: bool = False,
    stream: bool = False,
    progress: Progress | None = None,
    shard: Shard | None = None,
    journal: Journal[Score] | None = None,
    cache: PathLike | None = None,
    evaluator: Callable[[Scorer], Evaluator[NBest, Score]] = InProcess,
    **options: Unpack[ScorerKeywords],
) -> Iterator[NBest]:
    """Yield every list with one more named score: see `rescore.pipeline.score`.

    The scorer is built, and its options are checked, at once; lists are scored as they are asked
    for.
    """
    specified, built = built_scorer(scorer, options)
    return pipeline.score(
        as_lists(lists, "score"),
        built,
        name=name or specified,
        overwrite=overwrite,
        stream=stream,
        progress=progress,
        shard=shard,
        journal=journal,
        cache=cache,
        evaluator=evaluator,
        command=command_of(scorer, options),
    )


def score_texts(
    texts: Iterable[str],
    scorer: str | PlainScorer = "mdlm",
    **options: Unpack[ScorerKeywords],
) -> list[float]:
    """The score of every text, in nats, higher is better.

    Each is scored by itself, as a list of one hypothesis: equal texts have equal scores, whatever
    stands beside them. Raises ArgumentError for what is no string, otherwise as `score`.
    """
    if isinstance(texts, str):
        raise ArgumentError(f"score_texts takes texts, got one: {kind_of(texts)}; use [text]")
    listed = list(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise ArgumentError(f"score_texts: text {number} is {kind_of(text)}, expected a string")
    specified, built = built_scorer(scorer, options)
    name = specified or built.name
    different = dict.fromkeys(listed)
    lists = [NBest("text", (Hypothesis(text),)) for text in different]
    scored = pipeline.score(lists, built, name=name)
    values = {nbest.hyps[0].text: nbest.hyps[0].scores[name] for nbest in scored}
    return [values[text] for text in listed]


def load_scorer(
    scorer: str, options: ScorerOptions | None = None, **settings: Unpack[ScorerKeywords]
) -> Scorer:
    """Build the scorer of a specification, once for many calls of `score` and `score_texts`.

    `rescore.load_scorer("mdlm:nelbo", draws=16)`. The options come as a record or as keywords.
    Raises RescoreError for an unknown scorer, ModelError for an unusable model, ScoreError for an
    option that the scorer does not read.
    """
    spec = Spec.parse(scorer)
    if spec.name is not None:
        raise RescoreError(
            f"scorer {scorer!r}: {spec.name} would be the name of a score; leave it out, and give"
            f" score(..., name={spec.name!r})"
        )
    if options is not None and settings:
        raise ArgumentError("load_scorer takes options as a record or as keywords; give one")
    return scorers.load_scorer(spec.scorer, spec.options(options or ScorerOptions.of(settings)))


def check(
    lists: Iterable[ListLike],
    scorer: str | Vocabulary = "mdlm",
    *,
    unit: Unit = "word",
    **options: Unpack[ScorerKeywords],
) -> Inspection:
    """Inspect every list once, without a network: see `rescore.checking.check`."""
    return checking.check(as_lists(lists, "check"), scorer, unit=unit, **options)
