"""Attention on prefix trees: who sees whom, and how the nodes are laid out so that little is computed in vain.

A forest is given by `parents` (n,) int64 in preorder: every subtree is a range of nodes that begins with its root, -1 is the parent of a root, and a
row of tokens is the tree in which the parent of i is i - 1. A node sees itself and its ancestors; its position is its depth. In preorder, j is i
or an ancestor of i iff j <= i < end of the subtree of j, and what a range of nodes sees outside itself are the ancestors of its first node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Chunks", "Packed", "chunks", "depths", "leaf_paths", "packed"]


@dataclass(frozen=True)
class Chunks:
    """Equal ranges of nodes: keys (ranges, k) int64, the nodes a range may look at (its own and the ancestors of its first; node 0 fills up);
    seen (ranges, q, k) bool, whether the i-th node of the range sees the j-th key.
    """

    keys: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Packed:
    """Rows that a network can look at alone: nodes (rows, length) int64, the ancestors of the first own node, then the own nodes (node 0 fills up);
    own (rows, length) bool, each node of the forest once, in order; seen (rows, length, length) bool, where padding sees itself.
    """

    nodes: np.ndarray
    own: np.ndarray
    seen: np.ndarray


def depths(parents: np.ndarray) -> np.ndarray:
    """The number of ancestors of every node, (n,) int64, by doubling the distance looked up."""
    above, depth = parents, (parents >= 0).astype(np.int64)
    while (above >= 0).any():
        depth = depth + np.where(above >= 0, depth[above], 0)
        above = np.where(above >= 0, above[above], -1)
    return depth


def chunks(parents: np.ndarray, size: int) -> Chunks:
    """Ranges of `size` nodes each; the number of nodes must be a multiple of `size`."""
    starts = np.arange(0, len(parents), size)
    own = starts[:, None] + np.arange(size)
    keys = np.concatenate(
        (_pad([_ancestors(parents, start) for start in starts.tolist()]), own), axis=1
    )
    return Chunks(np.maximum(keys, 0), _sees(parents, own, keys))


def packed(parents: np.ndarray, size: int) -> Packed:
    """Rows of at most `size` nodes, ancestors included; `size` must be above the number of ancestors of every node."""
    rows, above, start = [], [], 0
    while start < len(parents):
        outside = _ancestors(parents, start)
        end = min(len(parents), start + size - len(outside))
        rows.append(np.append(outside, np.arange(start, end)))
        above.append(len(outside))
        start = end
    nodes = _pad(rows)
    own = (np.arange(nodes.shape[1]) >= np.array(above)[:, None]) & (nodes >= 0)
    return Packed(
        np.maximum(nodes, 0), own, _sees(parents, nodes, nodes) | np.eye(nodes.shape[1], dtype=bool)
    )


def leaf_paths(parents: np.ndarray) -> list[np.ndarray]:
    """The nodes from the root to each leaf: the rows of the forest."""
    is_leaf = np.ones(len(parents), dtype=bool)
    is_leaf[parents[parents >= 0]] = False
    return [np.append(_ancestors(parents, leaf), leaf) for leaf in np.flatnonzero(is_leaf).tolist()]


def _ancestors(parents: np.ndarray, node: int) -> np.ndarray:
    found = []
    while (node := int(parents[node])) >= 0:
        found.append(node)
    return np.array(found[::-1], dtype=np.int64)


def _ends(parents: np.ndarray) -> np.ndarray:
    """One past the last node of every subtree, (n,) int64."""
    above, size = parents.tolist(), [1] * len(parents)
    for node in range(len(above) - 1, -1, -1):
        if above[node] >= 0:
            size[above[node]] += size[node]
    return np.arange(len(above)) + np.array(size, dtype=np.int64)


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
