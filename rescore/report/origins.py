"""What made each score of the lists, in a line: the command, and the file that it took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rescore.fusion.table import TOTAL
from rescore.types import NBest, Provenance

__all__ = ["Origins"]

_RECOGNISER = "came with the lists"


@dataclass
class Origins:
    """The scores of lists that go by, and what their records say of them."""

    _origins: dict[str, dict[str, None]] = field(default_factory=dict)

    def watched(self, lists: Iterable[NBest]) -> Iterator[NBest]:
        """The lists, as they come."""
        for nbest in lists:
            self.add(nbest)
            yield nbest

    def add(self, nbest: NBest) -> None:
        """Note the scores of one list."""
        for name in dict.fromkeys(name for hyp in nbest.hyps for name in hyp.scores):
            origin = _origin(nbest.provenance.get(name))
            self._origins.setdefault(name, {}).setdefault(origin)

    def by_name(self) -> dict[str, list[str]]:
        """Score -> what made it, as in `lines`."""
        return {name: [*origins] for name, origins in self._origins.items()}

    def lines(self) -> list[str]:
        """`ar: dlmrescore score --scorer ar`, a line a score; those of the recogniser in one.

        A score that several commands made, on different lists, has them all.
        """
        recogniser = [
            name for name, origins in self._origins.items() if [*origins] == [_RECOGNISER]
        ]
        lines = [f"{', '.join(recogniser)}: {_RECOGNISER}"] if recogniser else []
        names = [name for name in self._origins if name not in recogniser]
        for name in sorted(names, key=lambda name: name == TOTAL):
            lines.append(f"{name}: {'; or '.join(self._origins[name])}")
        return lines


def _origin(provenance: Provenance | None) -> str:
    """The command, where the record has it; otherwise its signature."""
    if provenance is None:
        return _RECOGNISER
    command = provenance.get("command")
    if isinstance(command, str):
        return command
    return provenance.signature or "the record does not say"
