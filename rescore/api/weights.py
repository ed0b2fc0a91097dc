"""Weights: found on dev lists, looked at, applied, kept in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from rescore import fusion
from rescore.arguments import kind_of, refuse_unknown
from rescore.errors import ArgumentError
from rescore.formats.in_memory import ListLike, as_lists
from rescore.fusion import (
    Base,
    DevSet,
    Fusion,
    SearchSettings,
    Sweep,
    SweepSettings,
    pooling,
    tune_arrays,
)
from rescore.fusion.weights import load as load_weights
from rescore.fusion.weights import save as save_weights
from rescore.types import NBest
from rescore.wer import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from rescore.fusion.descent import SearchKeywords
    from rescore.fusion.sweep import SweepKeywords

__all__ = ["fuse", "load_weights", "pool", "save_weights", "sweep", "tune", "tune_arrays"]


def tune(
    lists: Iterable[ListLike] | DevSet,
    names: Sequence[str],
    *,
    cross_validate: int = 0,
    unit: Unit | None = None,
    normalizer: str | None = None,
    **search: Unpack[SearchKeywords],
) -> Fusion:
    """Find the scales of the named scores with the fewest errors: see `rescore.fusion.tune`."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ArgumentError(
            f"tune: the score names are {kind_of(names)}, expected a list such as ['am', 'mdlm']"
        )
    refuse_unknown(search, _names_of(SearchSettings), "option of tune")
    return fusion.tune(
        _dev(lists, "tune"),
        names,
        cross_validate=cross_validate,
        unit=unit,
        normalizer=normalizer,
        **search,
    )


def fuse(
    lists: Iterable[ListLike],
    weights: Fusion,
    decision: str = "map",
    temperature: float | None = None,
    *,
    posteriors: bool = False,
) -> Iterator[NBest]:
    """Yield every list reordered, the winner first: see `rescore.fusion.fuse`."""
    _check_weights(weights)
    return fusion.fuse(
        as_lists(lists, "fuse"), weights, decision, temperature, posteriors=posteriors
    )


def pool(
    systems: Mapping[str, Iterable[ListLike]],
    weights: Sequence[float] | None = None,
    *,
    keep_incomplete: bool = False,
) -> Iterator[NBest]:
    """Yield the lists of several systems joined by text: see `rescore.fusion.pooling.pool`."""
    lists = {name: as_lists(of_one, f"pool, {name}") for name, of_one in systems.items()}
    return pooling.pool(lists, weights, keep_incomplete=keep_incomplete)


def sweep(
    lists: Iterable[ListLike] | DevSet,
    scales: Mapping[str, ArrayLike],
    *,
    base: Base | None = None,
    word_bonus: ArrayLike | None = None,
    unit: Unit | None = None,
    normalizer: str | None = None,
    **settings: Unpack[SweepKeywords],
) -> Sweep:
    """Count the errors at every combination of scales: see `rescore.fusion.sweep`."""
    refuse_unknown(settings, _names_of(SweepSettings), "option of sweep")
    return fusion.sweep(
        _dev(lists, "sweep"),
        scales,
        base=base,
        word_bonus=word_bonus,
        unit=unit,
        normalizer=normalizer,
        **settings,
    )


def _check_weights(weights: object) -> None:
    if isinstance(weights, Fusion):
        return
    advice = f"; load them: rescore.load_weights({weights!r})"
    raise ArgumentError(
        f"fuse: the weights are {kind_of(weights)}, expected a Fusion"
        f"{advice if isinstance(weights, str) else ''}"
    )


def _dev(lists: Iterable[ListLike] | DevSet, function: str) -> Iterable[NBest] | DevSet:
    return lists if isinstance(lists, DevSet) else as_lists(lists, function)


def _names_of(record: Any) -> list[str]:
    return [field.name for field in fields(record)]
