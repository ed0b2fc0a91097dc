"""What files of other tools do not say: which symbol a column is, the blank, the frame shift.

A file of symbols is one of

    SYMBOL NUMBER     a line each: tokens.txt of icefall and k2, units.txt of Kaldi and WeNet
    SYMBOL            a line each, in the order of columns: token lists of ESPnet, NeMo's vocabulary
    {"SYMBOL": 0}     vocab.json of Hugging Face
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import WORD_START, Symbols, with_segmenter
from rescore.errors import FormatError
from rescore.formats.base import Option, one_of
from rescore.formats.files import PathLike, name_of, read_bytes, text_lines
from rescore.formats.strict_json import decode

__all__ = ["LAYOUT_OPTIONS", "Layout", "read_symbols"]

#: How toolkits write the blank where the option does not say.
_BLANKS = ("<blk>", "<blank>", "<ctc_blank>", "[blank]", "<pad>", "<eps>")
#: How toolkits write the symbol between words.
_BOUNDARIES = ("<space>", "|", " ")
_SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")
#: Disambiguation symbols of k2 and OpenFst, which are no columns.
_DISAMBIGUATION = re.compile(r"#\d+")
_COLUMN = re.compile(r"[0-9]{1,18}")


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


#: The options that every format of other tools has.
LAYOUT_OPTIONS = {
    "symbols": Option("file of the columns' symbols", is_file=True, required=True),
    "frame_shift": Option(
        "seconds from one frame to the next", _seconds, "seconds, such as 0.04", required=True
    ),
    "blank": Option("the blank's symbol, or last: the column after the symbols"),
    "boundary": Option("the symbol between words"),
    "bpe": Option("the recogniser's SentencePiece model", is_file=True),
    "model": Option("name of the recogniser, for signatures; default: a digest of the symbols"),
    "logits": Option(
        "yes: apply log_softmax to every row", one_of("yes", "no"), "yes or no; default no"
    ),
}


@dataclass(frozen=True)
class Layout:
    """What the numbers of a file mean. Raises FormatError where the symbols do not tell."""

    symbols: Symbols
    frame_shift: float
    is_logits: bool = False
    model: str | None = None

    @classmethod
    def of(
        cls,
        *,
        symbols: PathLike,
        frame_shift: float,
        blank: str | None = None,
        boundary: str | None = None,
        bpe: PathLike | None = None,
        logits: str = "no",
        model: str | None = None,
    ) -> Layout:
        """The layout that the options of a format describe."""
        columns = read_symbols(symbols, blank=blank, boundary=boundary, bpe=bpe)
        return cls(columns, frame_shift, logits == "yes", model)

    def posteriors(self, utterance: str, values: np.ndarray, where: str) -> Posteriors:
        """The checked posteriors of an utterance from an array (T, V) of any floating dtype."""
        rows = np.asarray(values)
        if rows.dtype.kind != "f" or rows.ndim != 2:
            raise FormatError(
                f"{where}: utterance {utterance}: got {rows.dtype} of shape {rows.shape}, expected "
                "floating-point numbers of shape (frames, symbols)"
            )
        with np.errstate(all="ignore"):  # what is not finite is refused below
            if self.is_logits and rows.size:
                wide = rows.astype(np.float64)
                wide -= wide.max(axis=1, keepdims=True)
                rows = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
            if rows.dtype != np.float16:
                rows = rows.astype(np.float32)
        signature = f"given {self.model or self.symbols.digest} v1"
        return Posteriors(
            utterance, rows, self.symbols, self.frame_shift, where, signature
        ).checked()


def read_symbols(
    path: PathLike,
    *,
    blank: str | None = None,
    boundary: str | None = None,
    bpe: PathLike | None = None,
) -> Symbols:
    """Read a file of symbols; `blank` and `boundary` as in `LAYOUT_OPTIONS`.

    Pieces that begin with the mark of SentencePiece, or a `bpe` model, make the word rule "mark".
    Symbols such as <unk> are never text. Raises FormatError for a file that is none of the three
    kinds, and where nothing tells the blank; ModelError for a `bpe` model of other symbols.
    """
    pieces = [*_pieces(path)]
    if blank == "last":
        pieces.append("<blank>" if "<blank>" not in pieces else "<blank of CTC>")
    column = len(pieces) - 1 if blank == "last" else _blank(pieces, blank, path)
    is_marked = bpe is not None or any(piece.startswith(WORD_START) for piece in pieces)
    if boundary is None and not is_marked:
        boundary = next((symbol for symbol in _BOUNDARIES if symbol in pieces), None)
    special = {k for k, piece in enumerate(pieces) if _SPECIAL.fullmatch(piece)}
    special -= {column, pieces.index(boundary) if boundary in pieces else column}
    try:
        columns = Symbols(
            tuple(pieces),
            column,
            "mark" if is_marked and boundary is None else "boundary",
            boundary,
            frozenset(special),
        )
    except FormatError as error:
        raise FormatError(f"{name_of(path)}: {error}") from error
    return with_segmenter(columns, bpe)


def _blank(pieces: list[str], blank: str | None, path: PathLike) -> int:
    candidates = [blank] if blank is not None else [b for b in _BLANKS if b in pieces][:1]
    if not candidates or candidates[0] not in pieces:
        named = "no symbol is called like a blank" if blank is None else f"no symbol {blank!r}"
        raise FormatError(
            f"{name_of(path)}: {named}; name the blank (-O blank=SYMBOL, or last for the column "
            "after these symbols, as NeMo has it)"
        )
    return pieces.index(candidates[0])


def _pieces(path: PathLike) -> Iterable[str]:
    """The symbols in the order of their columns."""
    if Path(name_of(path)).suffix == ".json":
        return _ordered(_json_table(path), path)
    lines = [line for _, line in text_lines(path) if line]
    fields = [line.rsplit(maxsplit=1) for line in lines]
    if lines and all(len(parts) == 2 and _COLUMN.fullmatch(parts[1]) for parts in fields):
        table = {
            symbol: int(number)
            for symbol, number in fields
            if not _DISAMBIGUATION.fullmatch(symbol)
        }
        return _ordered(table, path)
    if not lines:
        raise FormatError(f"{name_of(path)}: holds no symbol")
    return lines


def _json_table(path: PathLike) -> dict[str, int]:
    table = decode(read_bytes(path), name_of(path))
    if not isinstance(table, dict) or not all(type(k) is int for k in table.values()):
        raise FormatError(f'{name_of(path)}: expected an object such as {{"a": 5, "b": 6}}')
    return table


def _ordered(table: Mapping[str, int], path: PathLike) -> list[str]:
    pieces = {column: piece for piece, column in table.items()}
    if sorted(pieces) != list(range(len(table))):
        missing = next(k for k in range(len(table) + 1) if k not in pieces)
        raise FormatError(
            f"{name_of(path)}: {len(table)} symbols, but none has the number {missing}; expected "
            "the numbers of columns, from 0"
        )
    return [pieces[column] for column in range(len(pieces))]
