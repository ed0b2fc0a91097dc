"""Attention on prefix trees: which node sees which, and layouts that waste little work.

A forest is given by `parents` (n,) int64 in preorder: every subtree is a range of nodes that begins
with its root, -1 is the parent of a root, and a row of tokens is the tree in which the parent of i
is i - 1. A node sees itself and its ancestors; its position is its depth. In preorder, j is i or an
ancestor of i iff j <= i < end of the subtree of j, and what a range of nodes sees outside itself
are the ancestors of its first node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Chunks", "Packed", "ancestors", "chunks", "depths", "leaf_paths", "packed"]


@dataclass(frozen=True)
class Chunks:
    """Equal ranges of nodes, each with the nodes it may look at.

    keys (ranges, k) int64: the ancestors of the first node of a range, then its own nodes; node 0
    fills up. seen (ranges, q, k) bool: whether the i-th node of the range sees the j-th key.
    """

    keys: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Packed:
    """Rows that a network can look at alone.

    nodes (rows, length) int64: the ancestors of the first new node, then the new nodes; node 0
    fills up. is_new (rows, length) bool: each node of the forest once, in order. seen (rows,
    length, length) bool: which node sees which; padding sees itself.
    """

    nodes: np.ndarray
    is_new: np.ndarray
    seen: np.ndarray


def depths(parents: np.ndarray) -> np.ndarray:
    """The number of ancestors of every node, (n,) int64.

    Doubles the distance in each step: `above` is 1, 2, 4, ... nodes above.
    """
    above, depth = parents, (parents >= 0).astype(np.int64)
    while (above >= 0).any():
        depth = depth + np.where(above >= 0, depth[above], 0)
        above = np.where(above >= 0, above[above], -1)
    return depth


def chunks(parents: np.ndarray, size: int) -> Chunks:
    """Ranges of `size` nodes each; the number of nodes must be a multiple of `size`."""
    starts = np.arange(0, len(parents), size)
    queries = starts[:, None] + np.arange(size)
    keys = np.concatenate(
        (_pad([ancestors(parents, start) for start in starts.tolist()]), queries), axis=1
    )
    return Chunks(np.maximum(keys, 0), _sees(parents, queries, keys))


def packed(parents: np.ndarray, size: int) -> Packed:
    """Rows of at most `size` nodes, ancestors included.

    `size` must be above the number of ancestors of every node.
    """
    rows, repeated, start = [], [], 0
    while start < len(parents):
        above = ancestors(parents, start)
        end = min(len(parents), start + size - len(above))
        rows.append(np.append(above, np.arange(start, end)))
        repeated.append(len(above))
        start = end
    nodes = _pad(rows)
    is_new = (np.arange(nodes.shape[1]) >= np.array(repeated)[:, None]) & (nodes >= 0)
    itself = np.eye(nodes.shape[1], dtype=bool)
    return Packed(np.maximum(nodes, 0), is_new, _sees(parents, nodes, nodes) | itself)


def leaf_paths(parents: np.ndarray) -> list[np.ndarray]:
    """The nodes from the root to each leaf: the rows of the forest."""
    is_leaf = np.ones(len(parents), dtype=bool)
    is_leaf[parents[parents >= 0]] = False
    return [np.append(ancestors(parents, leaf), leaf) for leaf in np.flatnonzero(is_leaf).tolist()]


def ancestors(parents: np.ndarray, node: int) -> np.ndarray:
    """The ancestors of a node, from the root down."""
    upwards = []
    while (node := int(parents[node])) >= 0:
        upwards.append(node)
    return np.array(upwards[::-1], dtype=np.int64)


def _ends(parents: np.ndarray) -> np.ndarray:
    """One past the last node of every subtree, (n,) int64."""
    size = [1] * len(parents)
    for node, parent in reversed(list(enumerate(parents.tolist()))):
        if parent >= 0:
            size[parent] += size[node]
    return np.arange(len(parents)) + np.array(size, dtype=np.int64)


def _pad(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one array; -1 fills up."""
    padded = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def _sees(parents: np.ndarray, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(ranges, q) queries and (ranges, k) keys, -1 = padding -> (ranges, q, k) bool."""
    ends = np.where(keys < 0, -1, _ends(parents)[keys])
    seen: np.ndarray = (keys[:, None, :] <= queries[:, :, None]) & (
        queries[:, :, None] < ends[:, None, :]
    )
    return seen
