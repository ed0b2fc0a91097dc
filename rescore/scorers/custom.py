"""A network or a tokenizer of your own as a scorer: `rescore.scorer_of(denoiser, tokenizer)`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
from torch import Tensor, nn

from rescore.arguments import kind_of
from rescore.errors import ArgumentError, ModelError
from rescore.formats.files import read_bytes
from rescore.interfaces import Denoiser, TextTokenizer
from rescore.models.checkpoint import serialized_weights
from rescore.models.hub import HubTokenizer
from rescore.models.tokenizer import Tokenizer
from rescore.scorers import mdlm, usdm
from rescore.scorers.denoising import DenoisingModel, DenoisingScorer, denoising_scorer
from rescore.scorers.family import Vocabulary
from rescore.scorers.networks import NETWORK_OPTIONS, WINDOW
from rescore.scorers.options import ScorerOptions
from rescore.text import normalizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rescore.scorers.options import ScorerKeywords

__all__ = ["scorer_of"]

#: The options that make sense for a network that is there already.
_OPTIONS = NETWORK_OPTIONS - {"model", "dtype"}
_PARTS = ("vocab_size", "mask_id", "prediction", "log_probs")
_TOKENIZER = ("bos_id", "eos_id", "unk_id", "encode", "words", "pieces")


def scorer_of(
    denoiser: Denoiser,
    tokenizer: TextTokenizer | Any,
    *,
    name: str | None = None,
    digest: str | None = None,
    **options: Unpack[ScorerKeywords],
) -> DenoisingScorer:
    """The scorer of a denoiser of your own: `rescore.score(lists, scorer_of(...))`.

    `denoiser` has `vocab_size`, `mask_id`, `prediction` and `log_probs`
    (`rescore.interfaces.Denoiser`): one with a mask symbol gets the estimators of `mdlm`, one
    without those of `usdm`. `tokenizer` is a `rescore.interfaces.TextTokenizer`, a tokenizer of
    transformers, or the path of a SentencePiece model. `options` are estimator, draws, seed, folds,
    t, normalizer (default: none), window, score_eos, per_token and device. The score is called
    `name`, by default after the class and the estimator.

    `digest` names this very network in signatures: two scores may be compared iff theirs are equal.
    By default it is computed from what the denoiser holds: modules, arrays and plain values.
    Raises ArgumentError for an object that lacks a part, ScoreError for an option that is not read,
    ModelError where a digest cannot be computed.
    Exact check: tests/scorers/test_custom.py::test_a_denoiser_of_ones_own_has_its_exact_score.
    """
    _check_parts("the denoiser", denoiser, _PARTS)
    family = usdm.FAMILY if denoiser.mask_id is None else mdlm.FAMILY
    chosen = ScorerOptions.of(options)
    replace(family, options=_OPTIONS).check(chosen)
    pieces = _tokenizer(tokenizer)
    vocabulary = Vocabulary(
        pieces, normalizer(chosen.normalizer or "none"), chosen.window or WINDOW
    )
    model = DenoisingModel(denoiser, vocabulary, digest or _digest(denoiser, pieces))
    if denoiser.mask_id is None:
        estimator = usdm.uniform_estimator(denoiser, chosen)
    else:
        chosen = mdlm.with_defaults(chosen)
        estimator = mdlm.masked_estimator(chosen.estimator or "pll", denoiser, chosen)
    scorer = denoising_scorer(family.name, model, estimator, chosen)
    scorer.name = name or f"{type(denoiser).__name__.lower()}_{estimator.name}"
    return scorer


def _tokenizer(tokenizer: TextTokenizer | Any) -> TextTokenizer:
    """What scoring needs of a tokenizer, from any of the kinds."""
    if isinstance(tokenizer, str | Path):
        return Tokenizer(read_bytes(tokenizer), str(tokenizer))
    if hasattr(tokenizer, "convert_ids_to_tokens"):  # of transformers, which need not be there
        return HubTokenizer(tokenizer, type(tokenizer).__name__)
    _check_parts("the tokenizer", tokenizer, _TOKENIZER)
    own: TextTokenizer = tokenizer
    return own


def _check_parts(what: str, value: object, parts: tuple[str, ...]) -> None:
    missing = [part for part in parts if not hasattr(value, part)]
    if missing:
        raise ArgumentError(
            f"{what} is {kind_of(value)} without {', '.join(missing)};"
            f" expected {', '.join(parts)} (rescore.interfaces)"
        )


def _digest(denoiser: Denoiser, tokenizer: TextTokenizer) -> str:
    """16 hex digits over what denoiser and tokenizer hold."""
    whole = hashlib.blake2b(digest_size=8)
    for value in (denoiser, [getattr(denoiser, part) for part in _PARTS[:3]], tokenizer):
        for part in _contents(value, frozenset()):
            whole.update(b"%d:%s" % (len(part), part))
    return whole.hexdigest()


def _contents(value: object, above: frozenset[int]) -> Iterator[bytes]:
    """The bytes of what an object holds; `above`: the ids of the objects that hold it.

    Raises ModelError for an object whose contents cannot be known.
    """
    if id(value) in above:
        return
    inside = above | {id(value)}
    if value is None or isinstance(value, str | bytes | Number):
        yield repr(value).encode()
    elif isinstance(value, Tensor):
        yield safetensors.torch.save({"": value.detach().cpu().contiguous()})
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape}".encode() + value.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from _contents(key, inside)
            yield from _contents(value[key], inside)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _contents(item, inside)
    elif hasattr(value, "get_vocab"):  # a tokenizer of transformers
        yield repr(sorted(value.get_vocab().items())).encode()
    elif hasattr(value, "serialized_model_proto"):  # of SentencePiece
        yield value.serialized_model_proto()
    else:
        yield type(value).__qualname__.encode()
        if isinstance(value, nn.Module):
            yield serialized_weights(value)
        yield from _contents(_fields(value), inside)


def _fields(value: object) -> dict[str, object]:
    """The fields of an object; of a module, those that are not weights."""
    if not hasattr(value, "__dict__") or (callable(value) and not isinstance(value, nn.Module)):
        raise ModelError(
            f"scorer_of cannot tell which version of the network this is: it holds"
            f" {kind_of(value)}; name it yourself: scorer_of(..., digest='my-model-1')"
        )
    if not isinstance(value, nn.Module):
        return vars(value)
    is_weight = (nn.Module, Tensor)
    return {
        name: field
        for name, field in vars(value).items()
        if not name.startswith("_") and name != "training" and not isinstance(field, is_weight)
    }
