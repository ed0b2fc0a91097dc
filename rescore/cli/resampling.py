"""The options of a bootstrap: what is resampled, and the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from rescore.cli.options import SEED_RANGE, collected
from rescore.errors import FormatError
from rescore.types import NBest

__all__ = ["Resampling", "resampling_options"]


@dataclass(frozen=True)
class Resampling:
    """What a bootstrap resamples: utterances, or clusters of them by a field of the records."""

    cluster: str | None
    seed: int

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords of `rescore.wer.evaluate` and `rescore.wer.changes`."""
        field = None if self.cluster is None else _field(self.cluster)
        return {"cluster": field, "seed": self.seed}


def _field(name: str) -> Callable[[NBest], str]:
    """The function that returns a field of a list's record."""

    def value(nbest: NBest) -> str:
        if name not in nbest.raw:
            raise FormatError(
                f'{nbest.place()}: the field "{name}" is missing;'
                " --cluster needs it in every record"
            )
        return str(nbest.raw[name])

    return value


#: Add --cluster and --seed; the command gets them as `resampling`, a `Resampling`.
resampling_options = collected(
    Resampling,
    "resampling",
    [
        click.option(
            "--cluster",
            metavar="FIELD",
            help="Resample by this field of the records, such as speaker, instead of by utterance.",
        ),
        click.option(
            "--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of the bootstrap."
        ),
    ],
)
