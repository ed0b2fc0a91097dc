"""The prefixes of a beam search, each one label longer than its parent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["PrefixTree"]

#: Prefixes that a batch may number before those that no beam descends from are dropped: some 50 MB.
_ROOM = 1 << 18


class PrefixTree:
    """Prefixes of a batch by number; each has a parent and a last symbol.

    The number names the content: a prefix that left the beam and comes again keeps its number,
    unless it was dropped in between, when no prefix of a beam began with it any more.
    """

    def __init__(self, roots: int, symbols: int) -> None:
        self._symbols = symbols
        self._parents, self._labels = [-1] * roots, [-1] * roots
        self._children: dict[int, int] = {}
        self._room = _ROOM
        self.slots = np.full(1024 + roots, -1)  # the place of every prefix in its beam, or -1

    @property
    def is_full(self) -> bool:
        """Whether it is time to drop prefixes."""
        return len(self._parents) > self._room

    def keep(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drop all prefixes but these and what they begin with; `slots` is to be filled anew.

        Returns the old numbers of what is kept, ascending, and the new number of every old one; -1
        where it is dropped, and for -1.
        """
        kept: set[int] = set()
        for number in numbers.ravel().tolist():
            ancestor = number
            while ancestor >= 0 and ancestor not in kept:
                kept.add(ancestor)
                ancestor = self._parents[ancestor]
        old = np.array(sorted(kept))
        renumbered = np.full(len(self._parents) + 1, -1)
        renumbered[old] = np.arange(len(old))
        self._parents = renumbered[np.array(self._parents)[old]].tolist()
        self._labels = np.array(self._labels)[old].tolist()
        self._children = {
            parent * self._symbols + symbol: number
            for number, (parent, symbol) in enumerate(zip(self._parents, self._labels, strict=True))
            if parent >= 0
        }
        self._room = max(_ROOM, 2 * len(old))
        self.slots = np.full(1024 + len(old), -1)
        return old, renumbered

    def children(
        self, parents: Sequence[int], symbols: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """The numbers of parents with one more symbol each, and which of the pairs are new."""
        numbers, new = [], []
        for pair, (parent, symbol) in enumerate(zip(parents, symbols, strict=True)):
            key = parent * self._symbols + symbol
            number = self._children.get(key)
            if number is None:
                number = self._children[key] = len(self._parents)
                self._parents.append(parent)
                self._labels.append(symbol)
                new.append(pair)
            numbers.append(number)
        while len(self._parents) > len(self.slots):
            self.slots = np.concatenate([self.slots, np.full(len(self.slots), -1)])
        return numbers, new

    def labels(self, number: int) -> tuple[int, ...]:
        """The labels of a prefix."""
        labels = []
        while self._parents[number] >= 0:
            labels.append(self._labels[number])
            number = self._parents[number]
        return tuple(reversed(labels))
