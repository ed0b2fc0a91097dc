"""The whole experiment in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from rescore import experiment
from rescore.arguments import refuse_unknown
from rescore.experiment import Options, Results
from rescore.formats.files import PathLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rescore.experiment.options import OptionsKeywords

__all__ = ["run"]


def _ignore(_line: str) -> None:
    return None


def run(
    dev: PathLike,
    test: PathLike,
    output: PathLike,
    *,
    format_name: str | None = None,
    refs_dev: PathLike | None = None,
    refs_test: PathLike | None = None,
    say: Callable[[str], object] = _ignore,
    cache: PathLike | None = None,
    grows: bool = False,
    **settings: Unpack[OptionsKeywords],
) -> Results:
    """Score both files, tune on `dev`, evaluate on `test`: see `rescore.experiment.run`."""
    refuse_unknown(settings, [field.name for field in fields(Options)], "option of run")
    return experiment.run(
        dev,
        test,
        output,
        format_name=format_name,
        refs_dev=refs_dev,
        refs_test=refs_test,
        say=say,
        cache=cache,
        grows=grows,
        **settings,
    )
