"""The prefix tree of token sequences: what hypotheses have in common is there once, and a causal network looks at it once.

A node is a prefix, its parent the prefix without the last token. Nodes are numbered in preorder (every subtree is a range of numbers that begins
with its root), so a parent comes before its children, and any range of nodes becomes complete with the ancestors of its first node alone: that
is how a tree of any size is cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        keys = [row.astype(">u4").tobytes() for row in rows]  # bytes in the order of the ids: neighbours in sorted order share the longest prefixes
        paths: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(rows)
        fresh, above, count = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], 0
        last, path = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for i in sorted(range(len(rows)), key=keys.__getitem__):
            row, shared = rows[i], _shared(last, rows[i])
            size = len(row) - shared
            path = np.concatenate((path[:shared], np.arange(count, count + size)))
            if size:
                fresh.append(row[shared:])
                above.append(np.concatenate((path[shared - 1 : shared] if shared else [-1], path[shared:-1])))
            paths[i], last, count = path, row, count + size
        return cls(np.concatenate(fresh).astype(np.int64), np.concatenate(above).astype(np.int64), paths)

    def batches(self, size: int) -> Iterator[Batch]:
        """All inner nodes in batches of at most `size` nodes (more only where a node has as many ancestors), each with the ancestors it needs."""
        child = np.flatnonzero(self.parents >= 0)
        inner = np.unique(self.parents[child])
        child = child[np.argsort(self.parents[child], kind="stable")]
        first_child = np.searchsorted(self.parents[child], inner)
        edges = np.append(first_child, len(child))
        start = 0
        while start < len(inner):
            above = self._ancestors(int(inner[start]))
            end = min(len(inner), start + max(1, size - len(above)))
            nodes = np.concatenate((above, inner[start:end]))
            parents = self.parents[nodes]
            local = np.where(parents < 0, -1, np.searchsorted(nodes, parents))
            children = child[edges[start] : edges[end]]
            yield Batch(self.tokens[nodes], local, children, np.searchsorted(nodes, self.parents[children]))
            start = end

    def _ancestors(self, node: int) -> np.ndarray:
        found = []
        while (node := int(self.parents[node])) >= 0:
            found.append(node)
        return np.array(found[::-1], dtype=np.int64)


@dataclass(frozen=True)
class Batch:
    """A part of a tree that a network can look at alone: tokens (n,) and parents (n,) in preorder, counted within the batch.

    children (m,): the nodes of the whole tree whose parents belong to this batch; rows (m,): where in the batch those parents are, ascending.
    """

    tokens: np.ndarray
    parents: np.ndarray
    children: np.ndarray
    rows: np.ndarray


def _shared(a: np.ndarray, b: np.ndarray) -> int:
    """The length of the longest common prefix."""
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
