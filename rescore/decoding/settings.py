"""Search for settings: a decoder at every combination of some options, on one file, in one run.

What can be shared is: the models are opened once, drafts are searched once, and equal queries of a
round are evaluated once. The network's output for one state serves every scale, every frame and
every way to decide, so a grid of joint decoding costs little more than its noise levels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rescore.acoustic.ctc_paths import LabelledPath
from rescore.decoding.base import Decoder, DecoderFamily, DecoderInput, DecoderOptions
from rescore.decoding.driver import counted, run_samplers, together
from rescore.decoding.joint_search import JointSearch, draft_paths
from rescore.decoding.posterior_decoder import PosteriorDecoder
from rescore.errors import FormatError, ScoreError
from rescore.registry import DECODERS, lookup
from rescore.types import ErrorCounts, NBest
from rescore.wer.counts import count_errors, list_errors

__all__ = ["FIXED", "SettingResult", "SettingSearch", "search_settings"]

#: Options that name files and devices: decoders that share their models cannot differ in them.
FIXED = frozenset(
    {"bpe", "device", "lists", "model", "ngram", "posteriors", "remote_code", "spans"}
)

#: Utterances that all settings decode together.
_TOGETHER = 16


@dataclass(frozen=True)
class SettingResult:
    """One setting: the errors of its first hypotheses, and of the best ones of its lists.

    `evaluations`: network evaluations that it alone takes, all utterances together; None for a
    method without a network.
    """

    setting: Mapping[str, Any]
    errors: ErrorCounts
    oracle_errors: int
    evaluations: int | None


@dataclass(frozen=True)
class SettingSearch:
    """All settings, in the order of the grid, the last option fastest.

    `evaluations`: those that the whole run took, None where no network is shared; `seconds`: its
    CPU time.
    """

    method: str
    results: Sequence[SettingResult]
    utterances: int
    evaluations: int | None
    seconds: float

    @property
    def best(self) -> SettingResult:
        """The setting with the fewest errors; of equals the cheapest one, then the first."""
        return min(self.results, key=lambda result: (result.errors.errors, result.evaluations or 0))

    def to_json(self) -> dict[str, Any]:
        """A JSON object; rates are fractions, evaluations those of an utterance."""
        return {
            "method": self.method,
            "utterances": self.utterances,
            "reference_words": self.results[0].errors.reference_words,
            "evaluations_of_the_run": self.evaluations,
            "cpu_seconds_of_the_run": round(self.seconds, 3),
            "best": self._row(self.best),
            "settings": [self._row(result) for result in self.results],
        }

    def _row(self, result: SettingResult) -> dict[str, Any]:
        words = result.errors.reference_words
        return {
            "setting": dict(result.setting),
            "errors": result.errors.errors,
            "wer": result.errors.wer,
            "oracle_wer": result.oracle_errors / words,
            "evaluations": self.per_utterance(result),
        }

    def per_utterance(self, result: SettingResult) -> float | None:
        """Network evaluations of an utterance."""
        return None if result.evaluations is None else result.evaluations / self.utterances


def search_settings(
    method: str,
    path: str,
    options: DecoderOptions,
    grid: Mapping[str, Sequence[Any]],
    references: Mapping[str, str],
) -> SettingSearch:
    """Decode a file at every combination of the values of `grid` (option name -> values).

    `options` has all other options, `references` the reference of every utterance by id. Raises
    ScoreError for an option that cannot be searched, FormatError for a missing reference and for
    references without words, otherwise as the method does.
    Exact check: tests/decoding/test_settings.py::test_every_setting_is_a_run_of_its_own.
    """
    started = time.process_time()
    settings = _settings(grid)
    family: DecoderFamily = lookup(DECODERS, method, "decoder")
    decoders = family.every(path, [replace(options, **setting) for setting in settings])
    items = list(decoders[0].inputs())
    _check_references(items, references)
    tallies = [_Tally() for _ in settings]
    evaluations: int | None = None
    for start in range(0, len(items), _TOGETHER):
        chunk = items[start : start + _TOGETHER]
        lists, of_chunk = _decoded(decoders, chunk)
        if of_chunk is not None:
            evaluations = (evaluations or 0) + of_chunk
        for tally, of_setting in zip(tallies, lists, strict=True):
            tally.add(of_setting, references)
    results = [
        SettingResult(setting, tally.errors, tally.oracle_errors, tally.evaluations)
        for setting, tally in zip(settings, tallies, strict=True)
    ]
    if not results[0].errors.reference_words:
        raise FormatError(f"{path}: the references hold no words: no setting has an error rate")
    return SettingSearch(method, results, len(items), evaluations, time.process_time() - started)


@dataclass
class _Tally:
    """The errors of a setting so far."""

    errors: ErrorCounts = field(default_factory=ErrorCounts)
    oracle_errors: int = 0
    evaluations: int | None = None

    def add(self, lists: Sequence[NBest], references: Mapping[str, str]) -> None:
        """Count some utterances."""
        for nbest in lists:
            ref = references[nbest.id]
            self.errors += count_errors(ref, nbest.hyps[0].text)
            self.oracle_errors += int(list_errors(replace(nbest, ref=ref)).min())
            if "evaluations" in nbest.raw:
                self.evaluations = (self.evaluations or 0) + int(nbest.raw["evaluations"])


def _settings(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination. Raises ScoreError for an option that cannot be searched."""
    known = {option.name for option in fields(DecoderOptions)} - FIXED
    for name, values in grid.items():
        if name not in known:
            raise ScoreError(
                f"the option {name!r} cannot be searched; known: {', '.join(sorted(known))}"
            )
        if not values:
            raise ScoreError(f"the option {name!r} has no values to try")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _check_references(items: Sequence[DecoderInput], references: Mapping[str, str]) -> None:
    for item in items:
        if item.id not in references:
            raise FormatError(f"{item.place()}: there is no reference for it; complete --refs")
    if not items:
        raise FormatError("there are no utterances: the input is empty")


def _decoded(
    decoders: Sequence[Decoder], items: Sequence[DecoderInput]
) -> tuple[list[list[NBest]], int | None]:
    """The lists of every decoder, and the evaluations of all; None where nothing is shared."""
    prepared = decoders[0].prepare(items)
    searches = [
        decoder.search
        for decoder in decoders
        if isinstance(decoder, PosteriorDecoder) and isinstance(decoder.search, JointSearch)
    ]
    if len(searches) < len(decoders):
        return [decoder.evaluate(decoder.prepare(items)) for decoder in decoders], None
    paths: dict[int, list[list[LabelledPath]]] = {}
    samplers = []
    for search in searches:
        if search.drafts not in paths:
            paths[search.drafts] = draft_paths(prepared, search.drafts)
        samplers += search.samplers(prepared, paths[search.drafts])
    first = searches[0]
    [done] = run_samplers(
        first.denoiser,
        [counted(together(samplers))],
        read_clean=first.read_clean,
        device=first.device,
    )
    proposals = iter(done.result)
    lists = [
        decoder.lists(prepared, list(itertools.islice(proposals, len(items))))
        for decoder in decoders
        if isinstance(decoder, PosteriorDecoder)
    ]
    return lists, done.evaluations
