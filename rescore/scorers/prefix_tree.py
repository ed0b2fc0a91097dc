"""The prefix tree of token sequences: a causal network evaluates each shared prefix once.

A node is a prefix, its parent the prefix without the last token. Nodes are numbered in preorder:
every subtree is a range of numbers that begins with its root. So a parent comes before its
children, and any range of nodes becomes complete with the ancestors of its first node alone: that
is how a tree of any size is cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rescore.models import forest

__all__ = ["Batch", "PrefixTree"]


@dataclass(frozen=True)
class PrefixTree:
    """A tree (a forest, where first tokens differ) of rows of tokens.

    tokens (nodes,) int64: the last token of each prefix. parents (nodes,) int64: -1 at a root.
    paths: for each row, in the order of the input, the node of every position, (L,) int64.
    """

    tokens: np.ndarray
    parents: np.ndarray
    paths: Sequence[np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> PrefixTree:
        """The tree of rows of token ids (L,), not negative and below 2^32.

        Rows are added in sorted order: neighbours share the longest prefixes, and a row that is
        equal to the one before adds no node.
        """
        sort_keys = [row.astype(">u4").tobytes() for row in rows]  # bytes in the order of the ids
        nothing = np.empty(0, dtype=np.int64)
        paths: list[np.ndarray] = [nothing] * len(rows)
        tokens, parents, count = [nothing], [nothing], 0
        last_row, path = nothing, nothing
        for i in sorted(range(len(rows)), key=sort_keys.__getitem__):
            shared = _shared(last_row, rows[i])
            new_nodes = np.arange(count, count + len(rows[i]) - shared)
            path = np.concatenate((path[:shared], new_nodes))
            path_parents = np.concatenate(([-1], path))
            tokens.append(rows[i][shared:])
            parents.append(path_parents[shared : len(path)])
            paths[i], last_row, count = path, rows[i], count + len(new_nodes)
        return cls(
            np.concatenate(tokens).astype(np.int64), np.concatenate(parents).astype(np.int64), paths
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
        """Inner nodes from number `start` on, with the ancestors they need.

        At most `size` nodes; more only where a node has as many ancestors.
        """
        ancestors = forest.ancestors(self.parents, int(self._inner[start]))
        end = min(self.inner, start + max(1, size - len(ancestors)))
        nodes = np.concatenate((ancestors, self._inner[start:end]))
        parents = self.parents[nodes]
        parents_in_batch = np.where(parents < 0, -1, np.searchsorted(nodes, parents))
        children = self._children[self._edges[start] : self._edges[end]]
        rows = np.searchsorted(nodes, self.parents[children])
        return Batch(self.tokens[nodes], parents_in_batch, children, rows, end)

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
        """Where in `_children` the children of each inner node begin, and the end."""
        return np.append(
            np.searchsorted(self.parents[self._children], self._inner), len(self._children)
        )


@dataclass(frozen=True)
class Batch:
    """A part of a tree that a network can look at alone.

    tokens (n,) and parents (n,): in preorder, counted within the batch. children (m,): the nodes of
    the whole tree whose parents belong to this batch. rows (m,): where in the batch those parents
    stand, ascending. end: the inner node that the next batch begins with.
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
