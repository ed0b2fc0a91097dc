"""Signatures: one line that holds everything a score depends on."""

from __future__ import annotations

from collections.abc import Mapping

from rescore.text import Normalizer

__all__ = ["normalizer_title", "signature"]


def signature(score: str, model: str, settings: Mapping[str, object], version: int) -> str:
    """The signature of a score: two numbers may be compared iff their signatures are equal.

    `score` is scorer and estimator ("mdlm.nelbo"), `model` the digest of the model. `version`
    goes up whenever a number changes for equal settings.
    """
    fields = {"model": model, **settings, "version": version}
    return "|".join([score, *(f"{name}={value}" for name, value in fields.items())])


def normalizer_title(normalize: Normalizer) -> str:
    """The name of a normaliser; with its module where another package brings it.

    Two packages may choose the same name.
    """
    name = normalize.__qualname__
    return name if normalize.__module__ == "rescore.text" else f"{normalize.__module__}.{name}"
