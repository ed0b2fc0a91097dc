"""The canvas that a sampler works on: a sequence, and which of its positions may still change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rescore.diffusion.queries import Query
from rescore.errors import ScoreError
from rescore.interfaces import Condition
from rescore.scorers.sequences import cut

__all__ = ["Canvas"]


@dataclass(frozen=True)
class Canvas:
    """A sequence of L tokens under construction; every method returns another one.

    `tokens` (L,) int64, BOS and EOS included. `open` (L,) bool: still to be decided; a masked
    sampler shows a mask symbol there. `editable` (L,) bool: may be opened at all. `padding` (L,)
    bool: behind the sequence, where the network does not look. Raises ScoreError for arrays of
    other shapes, open positions that are not editable, and editable padding.
    """

    tokens: np.ndarray
    open: np.ndarray
    editable: np.ndarray
    padding: np.ndarray

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.tokens, self.open, self.editable, self.padding)}
        if len(shapes) > 1 or self.tokens.ndim != 1:
            raise ScoreError(f"the arrays of a canvas have the shapes {sorted(shapes)}")
        if (self.open & ~self.editable).any() or (self.editable & self.padding).any():
            raise ScoreError("only editable positions of a canvas can be open, and no padding")

    @classmethod
    def of(cls, tokens: np.ndarray, editable: np.ndarray) -> Canvas:
        """A canvas without padding on which nothing is open."""
        nowhere = np.zeros(len(tokens), dtype=bool)
        return cls(np.asarray(tokens, np.int64), nowhere, np.asarray(editable, bool), nowhere)

    @classmethod
    def of_text(cls, tokens: np.ndarray) -> Canvas:
        """A text between BOS and EOS, which alone may not change."""
        editable = np.ones(len(tokens), dtype=bool)
        editable[[0, -1]] = False
        return cls.of(tokens, editable)

    def padded(self, length: int, pad_id: int) -> Canvas:
        """The same sequence on `length` positions. Raises ScoreError if it is longer."""
        extra = length - len(self.tokens)
        if extra < 0:
            raise ScoreError(f"a canvas of {len(self.tokens)} positions cannot have {length}")
        nowhere = np.zeros(extra, dtype=bool)
        return Canvas(
            np.append(self.tokens, np.full(extra, pad_id)),
            np.append(self.open, nowhere),
            np.append(self.editable, nowhere),
            np.append(self.padding, ~nowhere),
        )

    def filled(self, tokens: np.ndarray) -> Canvas:
        """With other tokens at the editable positions, (editable,) in their order."""
        changed = self.tokens.copy()
        changed[self.editable] = tokens
        return replace(self, tokens=changed)

    def opened(self, positions: np.ndarray, mask_id: int) -> Canvas:
        """With these positions, bool (L,), open and masked. Raises ScoreError if not editable."""
        return replace(
            self,
            tokens=np.where(positions, mask_id, self.tokens),
            open=self.open | positions,
        )

    def committed(self, positions: np.ndarray, tokens: np.ndarray) -> Canvas:
        """With tokens (n,) at open positions, indices (n,), which are then decided.

        Raises ScoreError for a position that is not open.
        """
        if not self.open[positions].all():
            raise ScoreError("only open positions of a canvas can be committed")
        changed, is_open = self.tokens.copy(), self.open.copy()
        changed[positions], is_open[positions] = tokens, False
        return replace(self, tokens=changed, open=is_open)

    def noise(self, hidden: np.ndarray) -> float:
        """The noise level that a masked network is told: the share of positions that are hidden.

        `hidden` (L,) bool; BOS and padding are not counted.
        """
        return int(hidden.sum()) / (int((~self.padding).sum()) - 1)

    def queries(
        self,
        noise: float,
        positions: np.ndarray,
        window: int,
        condition: Condition | None = None,
    ) -> list[Query]:
        """What to ask the network about positions, bool (L,), none of them padding.

        A sequence longer than `window` is asked about in windows, each position once, where it lies
        most central; the answers follow each other from left to right.
        """
        tokens, asked = self.tokens[~self.padding], positions[~self.padding]
        queries = []
        for start, end, first, stop in cut(len(tokens), window):
            central = first + np.flatnonzero(asked[first:stop])
            if len(central):
                queries.append(Query(tokens[start:end], noise, central - start, None, condition))
        return queries
