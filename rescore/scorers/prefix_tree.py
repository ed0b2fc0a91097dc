"""The prefix tree of token sequences: what hypotheses have in common is there once, and a causal network looks at it once.

A node is a prefix, its parent the prefix without the last token. Nodes are numbered in preorder (every subtree is a range of numbers that begins
with its root), so a parent comes before its children, and any range of nodes becomes complete with the ancestors of its first node alone: that
is how a tree of any size is cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Batch", "PrefixTree"]


@dataclass(frozen=True)
class PrefixTree:
    """A tree (a forest, where first tokens differ) of rows of tokens.

    tokens (nodes,) int64, the last token of each prefix; parents (nodes,) int64, -1 at a root; paths: for each row, in the order they were given,
    the node of every position, (length,) int64.
    """

    tokens: np.ndarray
    parents: np.ndarray
    paths: Sequence[np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> PrefixTree:
        """The tree of rows of token ids (length,), not negative and below 2^32. Equal rows share all their nodes."""
        keys = [
            row.astype(">u4").tobytes() for row in rows
        ]  # bytes in the order of the ids: neighbours in sorted order share the longest prefixes
        paths: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(rows)
        fresh, above, count = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], 0
        last, path = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for i in sorted(range(len(rows)), key=keys.__getitem__):
            row, shared = rows[i], _shared(last, rows[i])
            size = len(row) - shared
            path = np.concatenate((path[:shared], np.arange(count, count + size)))
            if size:
                fresh.append(row[shared:])
                above.append(
                    np.concatenate((path[shared - 1 : shared] if shared else [-1], path[shared:-1]))
                )
            paths[i], last, count = path, row, count + size
        return cls(
            np.concatenate(fresh).astype(np.int64), np.concatenate(above).astype(np.int64), paths
        )

    @property
    def inner(self) -> int:
        """The number of nodes with children."""
        return len(self._inner)

    def batches(self, size: int) -> Iterator[Batch]:
        """All inner nodes in batches of one size."""
        start = 0
        while start < self.inner:
            batch = self.batch(start, size)
            yield batch
            start = batch.end

    def batch(self, start: int, size: int) -> Batch:
        """Inner nodes from number `start` on, with the ancestors they need: at most `size` nodes, more only where a node has as many ancestors."""
        above = self._ancestors(int(self._inner[start]))
        end = min(self.inner, start + max(1, size - len(above)))
        nodes = np.concatenate((above, self._inner[start:end]))
        parents = self.parents[nodes]
        local = np.where(parents < 0, -1, np.searchsorted(nodes, parents))
        children = self._children[self._edges[start] : self._edges[end]]
        return Batch(
            self.tokens[nodes], local, children, np.searchsorted(nodes, self.parents[children]), end
        )

    @cached_property
    def _inner(self) -> np.ndarray:
        return np.unique(self.parents[self.parents >= 0])

    @cached_property
    def _children(self) -> np.ndarray:
        """Every node with a parent, by parent."""
        child = np.flatnonzero(self.parents >= 0)
        return child[np.argsort(self.parents[child], kind="stable")]

    @cached_property
    def _edges(self) -> np.ndarray:
        """Where in `_children` those of each inner node begin, and the end."""
        return np.append(
            np.searchsorted(self.parents[self._children], self._inner), len(self._children)
        )

    def _ancestors(self, node: int) -> np.ndarray:
        found = []
        while (node := int(self.parents[node])) >= 0:
            found.append(node)
        return np.array(found[::-1], dtype=np.int64)


@dataclass(frozen=True)
class Batch:
    """A part of a tree that a network can look at alone: tokens (n,) and parents (n,) in preorder, counted within the batch.

    children (m,): the nodes of the whole tree whose parents belong to this batch; rows (m,): where in the batch those parents are, ascending. end: the inner
    node that the next batch begins with.
    """

    tokens: np.ndarray
    parents: np.ndarray
    children: np.ndarray
    rows: np.ndarray
    end: int


def _shared(a: np.ndarray, b: np.ndarray) -> int:
    """The length of the longest common prefix."""
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
