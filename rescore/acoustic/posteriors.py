"""The posteriors of one utterance: what a CTC recogniser believes, frame by frame.

T frames, V symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.symbols import Symbols
from rescore.errors import FormatError

__all__ = ["DTYPES", "Posteriors", "Recognised"]

#: The dtypes that posteriors are stored in.
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Posteriors:
    """Log-probabilities of every symbol at every frame of an utterance.

    `log_probs` is (T, V), float16 or float32, natural log, every row normalised and finite.
    `frame_shift` is in seconds. `where` is the file, for messages. `signature` names what made
    them: scores from posteriors with equal signatures may be compared.
    """

    id: str
    log_probs: np.ndarray
    symbols: Symbols
    frame_shift: float
    where: str = ""
    signature: str = ""

    @property
    def seconds(self) -> float:
        """The audio that the frames cover."""
        return len(self.log_probs) * self.frame_shift

    def place(self, frame: int | None = None) -> str:
        """Name this utterance (and a frame, counted from 0) for a message."""
        at = f"{self.where}: utterance {self.id}" if self.where else f"utterance {self.id}"
        return at if frame is None else f"{at}, frame {frame}"

    def checked(self) -> Posteriors:
        """These posteriors, if they keep every promise above.

        Raises FormatError naming file, utterance and frame of the first that does not.
        """
        rows = self.log_probs
        if rows.dtype not in DTYPES or rows.ndim != 2:
            raise FormatError(
                f"{self.place()}: got {rows.dtype} of shape {rows.shape}, expected float16 or "
                "float32 of shape (frames, symbols)"
            )
        if rows.shape[1] != len(self.symbols):
            raise FormatError(
                f"{self.place()}: has {rows.shape[1]} columns, expected {len(self.symbols)}, one "
                "for each symbol; are these the symbols of another model?"
            )
        if not (math.isfinite(self.frame_shift) and self.frame_shift > 0):
            raise FormatError(
                f"{self.place()}: the frame shift is {self.frame_shift}, expected seconds above 0"
            )
        if not len(rows):
            raise FormatError(f"{self.place()}: has no frames; leave the utterance out")
        _check_rows(self)
        return self


@dataclass(frozen=True)
class Recognised:
    """What came of an utterance: (T, V) rows, or a problem in one line.

    `rows` is None where there is a problem, and once they are on disk, from byte `start` of the
    file of rows on. `seconds` of audio were read.
    """

    seconds: float = 0.0
    frames: int = 0
    rows: np.ndarray | None = None
    start: int = 0
    problem: str = ""


def _check_rows(posteriors: Posteriors) -> None:
    """Raise FormatError for the first row that is not a normalised, finite log-distribution."""
    rows = posteriors.log_probs.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        frame = int(broken[0])
        column = int(np.flatnonzero(~np.isfinite(rows[frame]))[0])
        raise FormatError(
            f"{posteriors.place(frame)}: symbol {posteriors.symbols.pieces[column]!r} has "
            f"{rows[frame, column]}, expected a finite log-probability; make them again, from "
            "logits if probabilities underflow"
        )
    totals = _log_sum(rows)
    off = np.flatnonzero(np.abs(totals) > tolerance(posteriors.log_probs.dtype, rows.shape[1]))
    if len(off):
        frame = int(off[0])
        raise FormatError(
            f"{posteriors.place(frame)}: the log of the row's sum is {totals[frame]:.4g}, expected "
            f"0: {_diagnosis(rows[frame])}"
        )


def tolerance(dtype: np.dtype, symbols: int) -> float:
    """How far from 0 the log of the sum of a normalised row may lie.

    Rounding moves log p by |log p| u, and so the sum by the entropy times u at most, u half of the
    spacing of numbers at 1: 2^-11 for float16. The entropy is at most log V. Twice that for
    float16; float32 leaves room for a softmax that was summed one by one.
    """
    if dtype == np.float16:
        return (1 + math.log(symbols)) * 2.0**-10
    return 1e-4


def _log_sum(rows: np.ndarray) -> np.ndarray:
    largest = rows.max(axis=1, keepdims=True)
    sums = np.exp(rows - largest).sum(axis=1, dtype=np.float64)
    totals: np.ndarray = np.log(sums) + largest[:, 0]
    return totals


def _diagnosis(row: np.ndarray) -> str:
    """What the row is instead, as far as its numbers tell."""
    wide = row.astype(np.float64)
    if (wide >= 0).all() and abs(wide.sum() - 1) < 1e-2:
        return "these are probabilities; store their natural logs"
    if (wide <= 0).all() and abs((10**wide).sum() - 1) < 1e-2:
        return "these are logs to base 10; multiply them by ln 10"
    if (wide >= 0).all() and abs(np.exp(-wide).sum() - 1) < 1e-2:
        return "these are costs; change their sign"
    return "the row is not normalised; apply log_softmax to logits"
