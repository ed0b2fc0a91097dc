"""What the page keeps of each utterance, as the JSON that its script reads.

An utterance: `id`, `ref`, `hyps`, and for each system `[baseline, winner, best]`: numbers of
`hyps`. A hypothesis: `w` its words, `e` their alignment to the reference, a letter a step
(= equal, S, I, D), `s` its scores in the order of the page's names (null: none), `t` for each
system its total, `k` its token scores by name: pieces separated by line feeds, and hundredths of a
nat. Words are as errors are counted, separated by the page's separator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rescore.formats.record import token_scores
from rescore.fusion.table import TOTAL
from rescore.report.origins import Origins
from rescore.text import Normalizer
from rescore.types import NBest, TokenScores
from rescore.wer import Changes, Unit, align, list_errors, units

__all__ = ["Collector", "separator"]

_LETTERS = {"equal": "=", "substitution": "S", "insertion": "I", "deletion": "D"}


def separator(unit: Unit) -> str:
    """What separates words in the page's texts; nothing where every character is one."""
    return "" if unit in ("char", "char_nospace") else " "


@dataclass
class _Kept:
    """A hypothesis that the page keeps, from whichever systems have it."""

    text: str
    scores: dict[str, float] = field(default_factory=dict)
    totals: dict[int, float] = field(default_factory=dict)
    tokens: dict[str, TokenScores] = field(default_factory=dict)


@dataclass
class Collector:
    """Keeps of every list what the page shows: the first hypotheses, and those of the systems.

    `count` is how many of the first hypotheses are kept besides the first pass, the winners and
    the best.
    """

    unit: Unit
    normalize: Normalizer
    count: int
    origins: Origins = field(default_factory=Origins)
    _kept: dict[str, dict[str, _Kept]] = field(default_factory=dict)
    _best: list[dict[str, str]] = field(default_factory=list)
    _names: dict[str, None] = field(default_factory=dict)

    def watch(self, lists: Iterable[NBest]) -> Iterator[NBest]:
        """Yield the lists of the next system as they come, and keep what is shown of them."""
        number = len(self._best)
        self._best.append({})
        for nbest in lists:
            best = int(list_errors(nbest, self.unit, self.normalize).argmin())
            shown = {*range(min(self.count, len(nbest.hyps))), nbest.first_pass or 0, best}
            for index in sorted(shown):
                self._keep(nbest, index, number)
            self.origins.add(nbest)
            self._best[number][nbest.id] = nbest.hyps[best].text
            yield nbest

    def _keep(self, nbest: NBest, index: int, system: int) -> None:
        hyp = nbest.hyps[index]
        kept = self._kept.setdefault(nbest.id, {}).setdefault(hyp.text, _Kept(hyp.text))
        for name, value in hyp.scores.items():
            if name == TOTAL:
                kept.totals.setdefault(system, value)
            else:
                kept.scores.setdefault(name, value)
                self._names.setdefault(name)
        kept.tokens.update(token_scores(nbest, index))

    @property
    def names(self) -> list[str]:
        """The names of the scores, in the order in which they came."""
        return list(self._names)

    @property
    def has_tokens(self) -> bool:
        """Whether a hypothesis has token scores."""
        return any(kept.tokens for hyps in self._kept.values() for kept in hyps.values())

    def records(self, systems: Sequence[Changes]) -> Iterator[dict[str, Any]]:
        """The utterances of the page, once all systems have been watched and compared.

        The systems have the same utterances. Each can be had once.
        """
        joint = separator(self.unit)
        by_id = [{change.id: change for change in changes.utterances} for changes in systems]
        for id, change in by_id[0].items():
            kept = self._kept.pop(id)
            for changes in by_id:
                for text in (changes[id].baseline_text, changes[id].text):
                    kept.setdefault(text, _Kept(text))  # a baseline of other lists
            number = {text: place for place, text in enumerate(kept)}
            ref = self.normalize(change.ref)
            yield {
                "id": id,
                "ref": joint.join(units(ref, self.unit)),
                "hyps": [self._record(hyp, ref, len(systems)) for hyp in kept.values()],
                "systems": [
                    [
                        number[text]
                        for text in (changes[id].baseline_text, changes[id].text, best[id])
                    ]
                    for changes, best in zip(by_id, self._best, strict=True)
                ],
            }

    def _record(self, hyp: _Kept, ref: str, systems: int) -> dict[str, Any]:
        text = self.normalize(hyp.text)
        record: dict[str, Any] = {
            "w": separator(self.unit).join(units(text, self.unit)),
            "e": "".join(_LETTERS[edit.kind] for edit in align(ref, text, self.unit)),
            "s": [_rounded(hyp.scores.get(name)) for name in self._names],
        }
        if hyp.totals:
            record["t"] = [_rounded(hyp.totals.get(system)) for system in range(systems)]
        if hyp.tokens:
            record["k"] = {
                name: [
                    "\n".join(piece.replace("\n", "\u240a") for piece, _ in tokens),
                    [round(100 * value) for _, value in tokens],
                ]
                for name, tokens in hyp.tokens.items()
            }
        return record


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
