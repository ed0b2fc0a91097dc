"""The lists of an experiment, and everything about them that is refused before scoring."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.experiment.options import Inputs, ScorePlan
from rescore.formats import read_lists
from rescore.formats.files import PathLike
from rescore.formats.references import join_references, read_references
from rescore.fusion import ScoreTable
from rescore.types import NBest
from rescore.wer import reference

__all__ = ["Half", "Halves", "check_inputs", "read_halves"]

Half: TypeAlias = Literal["dev", "test"]


@dataclass(frozen=True)
class Halves:
    """The lists to tune on, and the lists to report on."""

    dev: list[NBest]
    test: list[NBest]

    def __iter__(self) -> Iterator[tuple[Half, list[NBest]]]:
        yield "dev", self.dev
        yield "test", self.test


def read_halves(inputs: Inputs, depth: int | None) -> Halves:
    """Read the lists of both halves, cut to `depth` hypotheses, with their references."""
    return Halves(
        _lists(inputs.dev, inputs.format_name, inputs.refs_dev, depth),
        _lists(inputs.test, inputs.format_name, inputs.refs_test, depth),
    )


def _lists(
    path: PathLike, format_name: str | None, refs: PathLike | None, depth: int | None
) -> list[NBest]:
    lists = read_lists(path, format_name)
    if refs is not None:
        lists = join_references(lists, read_references(refs))
    cut = [replace(nbest, hyps=nbest.hyps[:depth]) for nbest in lists]
    if not cut:
        raise FormatError(f"{os.fspath(path)}: holds no list; expected at least one utterance")
    return cut


def check_inputs(halves: Halves, base: Sequence[str], plans: Sequence[ScorePlan]) -> None:
    """Refuse, before you spend compute, whatever would stop the experiment later.

    Raises RescoreError for score names that clash, FormatError for an utterance in both halves or
    a missing reference, ScoreError for a score that is missing or already exists.
    """
    names = [plan.name for plan in plans]
    _check_names(names, base)
    _check_disjoint(halves)
    for _, lists in halves:
        ScoreTable.of(lists, base)
        for nbest in lists:
            reference(nbest)
            _check_new(nbest, names)


def _check_names(names: Sequence[str], base: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1 or name in (*base, "base", "all"):
            raise RescoreError(
                f'two scores would be called "{name}"; name one of them: NAME=SCORER'
            )
    if not names:
        raise RescoreError("there is no scorer; name at least one, such as ar")


def _check_disjoint(halves: Halves) -> None:
    dev_ids = {nbest.id for nbest in halves.dev}
    shared = [nbest for nbest in halves.test if nbest.id in dev_ids]
    if shared:
        raise FormatError(
            f"{shared[0].place()}: this utterance is also in the dev lists, as are {len(shared)}"
            f" of the {len(halves.test)} test utterances; tune and test on different utterances"
        )


def _check_new(nbest: NBest, names: Sequence[str]) -> None:
    for name in names:
        if any(name in hyp.scores for hyp in nbest.hyps):
            raise ScoreError(
                f'{nbest.place()}: score "{name}" already exists; give the new one another name'
                " (NAME=SCORER), or start from lists without it"
            )
