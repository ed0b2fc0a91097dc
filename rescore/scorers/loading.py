"""From a name and options to a scorer, or to its vocabulary."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rescore.arguments import kind_of
from rescore.errors import ArgumentError, ScoreError
from rescore.interfaces import PlainScorer, Scorer
from rescore.models.opening import check_device
from rescore.registry import SCORERS, lookup
from rescore.scorers.adapt import adapt
from rescore.scorers.family import ScorerFamily, Vocabulary
from rescore.scorers.options import DRAWS, NOISE_LEVEL, SEED, ScorerOptions, Spec, flag

__all__ = ["built_scorer", "command_of", "load_scorer", "load_vocabulary", "read_options"]

#: What None stands for.
_DEFAULTS = {"draws": DRAWS, "seed": SEED, "t": NOISE_LEVEL}


def load_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Build the scorer called `name`.

    Raises RescoreError for an unknown name or a broken plug-in, ModelError for an unusable model,
    ScoreError for an option that the scorer does not read.
    """
    options = options or ScorerOptions()
    build = lookup(SCORERS, name, "scorer")
    check_device(options.device)
    scorer = build(options)
    if not isinstance(scorer, PlainScorer):
        raise ScoreError(
            f"scorer {name!r} was built as a {type(scorer).__name__},"
            " expected an object with name, kind, signature and score(lists)"
        )
    adapted = adapt(scorer)
    if options.per_token and not adapted.per_token:
        raise ScoreError(
            f"--scorer {name} does not say what each token adds to its score; leave --per-token out"
        )
    return adapted


def built_scorer(
    scorer: str | PlainScorer, options: Mapping[str, Any]
) -> tuple[str | None, Scorer]:
    """(name for its score, scorer): of a specification and options, or one that was built before.

    The name is that of the specification (`Spec`), None where it has none. Raises ScoreError for an
    unknown option, one that the scorer does not read, or any option beside a scorer that was built
    before; ArgumentError for what is no scorer; otherwise as `load_scorer`.
    """
    if isinstance(scorer, str):
        spec = Spec.parse(scorer)
        return spec.name, load_scorer(spec.scorer, spec.options(ScorerOptions.of(options)))
    if not isinstance(scorer, PlainScorer):
        raise ArgumentError(
            f"the scorer is {kind_of(scorer)}, expected a specification such as 'mdlm:nelbo', or an"
            " object with name, kind, signature and score(lists)"
        )
    if options:
        raise ScoreError(
            f"the scorer {scorer.name!r} was built before and cannot take {', '.join(options)};"
            " build it with these options, or give its name"
        )
    return None, adapt(scorer)


def command_of(scorer: str | PlainScorer, options: Mapping[str, Any]) -> str | None:
    """The command that makes the score of a specification with these options.

    Without those that make no difference to it: values that are the defaults, the device, and how
    its network is compiled. None for a scorer that was built before.
    """
    if not isinstance(scorer, str):
        return None
    spec = Spec.parse(scorer)
    settings = spec.options(ScorerOptions.of(options))
    parts = ["dlmrescore score --scorer", _quoted(spec.scorer, settings)]
    for name in sorted(settings.changed - {"model", "estimator", "device", "compile"}):
        value = getattr(settings, name)
        if value == _DEFAULTS.get(name):
            continue
        parts += [flag(name)] if isinstance(value, bool) else [flag(name), shlex.quote(str(value))]
    return " ".join(parts)


def _quoted(scorer: str, settings: ScorerOptions) -> str:
    """The scorer with its estimator and model, for a shell."""
    estimator = "" if settings.estimator is None else f":{settings.estimator}"
    model = "" if settings.model is None else f"@{settings.model}"
    return shlex.quote(f"{scorer}{estimator}{model}")


def read_options(name: str, options: ScorerOptions) -> ScorerOptions:
    """Those of the options that the scorer called `name` reads; a plug-in's function gets all."""
    family = lookup(SCORERS, name, "scorer")
    return options.only(family.reads(options)) if isinstance(family, ScorerFamily) else options


def load_vocabulary(name: str, options: ScorerOptions | None = None) -> Vocabulary:
    """Return what the scorer of this name and these options does to texts.

    Only tokenizers and configurations are read, no weights.
    Raises RescoreError for an unknown name, ModelError for an unusable model, ScoreError for a
    scorer without a tokenizer and for options that it does not read.
    Exact check: tests/checking/test_inspection.py::test_the_vocabulary_is_the_scorers.
    """
    options = options or ScorerOptions()
    family = lookup(SCORERS, name, "scorer")
    if not isinstance(family, ScorerFamily) or family.vocabulary is None:
        raise ScoreError(
            f"--scorer {name} has no tokenizer to check texts against;"
            " check them against another scorer"
        )
    family.check(options)
    return family.vocabulary(options)
