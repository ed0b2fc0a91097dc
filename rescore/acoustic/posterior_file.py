"""The file of posteriors: safetensors, one tensor (T, V) an utterance, the rest as metadata.

    format      "dlmrescore-posteriors 1"
    pieces, blank, word_rule, boundary, special, segmenter      the symbols, see `symbols`
    frame_shift                                                 seconds
    signature                                                   what made the posteriors

Metadata of safetensors are strings; every value but the format is JSON. Any safetensors library
reads the file; this module reads one utterance at a time, from a memory map.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from rescore.acoustic.posteriors import DTYPES, Posteriors
from rescore.acoustic.symbols import Segmenter, SegmenterKind, Symbols, WordRule
from rescore.errors import FormatError, ModelError, ScoreError
from rescore.formats.bounded import check_regular
from rescore.formats.files import PathLike, atomic_writer, name_of
from rescore.formats.strict_json import decode, short
from rescore.models.opening import one_line, tensor_shapes

__all__ = [
    "Extent",
    "PosteriorFile",
    "PosteriorHeader",
    "assemble",
    "read_posteriors",
    "write_posteriors",
]

_FORMAT = "dlmrescore-posteriors 1"
_METADATA = "__metadata__"
_DTYPE_NAMES = {"float16": "F16", "float32": "F32"}

#: safetensors refuses longer headers: about a million utterances.
_LONGEST_HEADER = 100_000_000
_BLOCK = 1 << 24  # bytes

#: A blank below the one mean probability, and another column above the other: not the blank.
_RARE_BLANK, _USUAL_BLANK = 0.01, 0.5


@dataclass(frozen=True)
class PosteriorHeader:
    """What the utterances of a file share. `signature` names the recogniser and its settings."""

    symbols: Symbols
    frame_shift: float
    dtype: str = "float32"
    signature: str = ""

    def row_bytes(self) -> int:
        """The bytes of one frame."""
        return len(self.symbols) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Extent:
    """Where the rows of an utterance stand in a file of rows: first byte and number of frames."""

    id: str
    start: int
    frames: int


class PosteriorFile(Mapping[str, Posteriors]):
    """The posteriors of a file by utterance id; each is read and checked when it is asked for.

    Raises FormatError if the file cannot be read or breaks the format.
    """

    def __init__(self, path: PathLike) -> None:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415

        self.name = name_of(path)
        self._shapes = _shapes(path)
        try:
            file: Any = safe_open(path, framework="np")
        except (SafetensorError, OSError, MemoryError) as error:
            raise FormatError(
                f"{self.name}: is no whole safetensors file ({error}); make it with `dlmrescore "
                "posteriors`"
            ) from error
        self._file = file
        self.header = _header_of(file.metadata(), self.name)

    @property
    def symbols(self) -> Symbols:
        """The columns of every utterance."""
        return self.header.symbols

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self.header.frame_shift

    @property
    def signature(self) -> str:
        """Names what made the posteriors."""
        return self.header.signature

    def __getitem__(self, utterance: str) -> Posteriors:
        """The posteriors of an utterance. Raises KeyError, FormatError if they are broken."""
        if utterance not in self._shapes:
            raise KeyError(utterance)
        try:
            rows = self._file.get_tensor(utterance)
        except Exception as error:  # a dtype that NumPy lacks
            raise FormatError(
                f"{self.name}: utterance {utterance}: cannot be read ({error}); make it again"
            ) from error
        return Posteriors(
            utterance, rows, self.symbols, self.frame_shift, self.name, self.signature
        ).checked()

    def of(self, utterance: str, at: str = "") -> Posteriors:
        """The same; `at` names the utterance for the ScoreError where the file lacks it."""
        if utterance not in self._shapes:
            raise ScoreError(
                f"{at or f'utterance {utterance}'}: {self.name} has no posteriors of it; make them "
                "with `dlmrescore posteriors`, or leave the utterance out"
            )
        return self[utterance]

    def frames(self, utterance: str) -> int:
        """The number of frames of an utterance, without reading them. Raises KeyError."""
        return self._shapes[utterance][0]

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def read_posteriors(path: PathLike) -> PosteriorFile:
    """Open a file of posteriors. Raises FormatError."""
    return PosteriorFile(path)


def write_posteriors(
    posteriors: Iterable[Posteriors],
    path: PathLike,
    *,
    dtype: str | None = None,
) -> int:
    """Write posteriors as they come, and return how many; the file appears when it is complete.

    `dtype` is float16, float32, or that of the first. Memory: one utterance, and one small entry
    each. All must share symbols, frame shift and signature, and every id comes once. Raises
    FormatError otherwise, if another column than the blank is what a blank is, and if the file
    cannot be written.
    """
    header: PosteriorHeader | None = None
    extents: list[Extent] = []
    evidence = _BlankEvidence()
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))) as rows:
        for item in posteriors:
            header = header or PosteriorHeader(
                item.symbols, item.frame_shift, dtype or item.log_probs.dtype.name, item.signature
            )
            _check_shared(item, header)
            start = rows.tell()
            rows.write(stored_rows(item.checked(), header.dtype).tobytes())
            extents.append(Extent(item.id, start, len(item.log_probs)))
            evidence.add(item)
        if header is None:
            raise FormatError(f"{name_of(path)}: there are no posteriors to write")
        evidence.check(header.symbols, name_of(path))
        assemble(header, extents, rows, path)
    return len(extents)


class _BlankEvidence:
    """The mean probability of every column, which tells the blank of a CTC recogniser.

    Networks trained with CTC emit the blank at most frames.
    """

    def __init__(self) -> None:
        self._sums: np.ndarray | float = 0.0
        self._frames = 0

    def add(self, posteriors: Posteriors) -> None:
        """Count the frames of an utterance."""
        self._sums = self._sums + np.exp(posteriors.log_probs, dtype=np.float64).sum(axis=0)
        self._frames += len(posteriors.log_probs)

    def check(self, symbols: Symbols, name: str) -> None:
        """Raise FormatError if the blank is all but never emitted, and one column most often."""
        means = np.asarray(self._sums) / self._frames
        likeliest = int(means.argmax())
        if means[symbols.blank] < _RARE_BLANK and means[likeliest] > _USUAL_BLANK:
            raise FormatError(
                f"{name}: the blank {symbols.pieces[symbols.blank]!r} has a mean probability of "
                f"{means[symbols.blank]:.2g}, but {symbols.pieces[likeliest]!r} (column "
                f"{likeliest}) of {means[likeliest]:.2g}; name the right blank (-O blank=SYMBOL)"
            )


def stored_rows(posteriors: Posteriors, dtype: str) -> np.ndarray:
    """The rows in little-endian order and the dtype of the file."""
    return np.ascontiguousarray(posteriors.log_probs, dtype=np.dtype(dtype).newbyteorder("<"))


def assemble(
    header: PosteriorHeader, extents: Sequence[Extent], rows: BinaryIO, path: PathLike
) -> None:
    """Write the file from a file of rows: first the header, then the utterances by their ids.

    The order of ids makes the file independent of the order in which rows were made.
    Raises FormatError for an id that repeats or is reserved, and if the file cannot be written.
    """
    extents = sorted(extents, key=lambda extent: extent.id)
    head = _head(header, extents, name_of(path))
    row_bytes = header.row_bytes()
    with atomic_writer(path) as output:
        output.write(head)
        for extent in extents:
            rows.seek(extent.start)
            rest = extent.frames * row_bytes
            while rest:
                block = rows.read(min(rest, _BLOCK))
                if not block:
                    raise FormatError(
                        f"{name_of(path)}: the stored rows of utterance {extent.id} are cut off; "
                        "delete the .rows and .journal files and run this again"
                    )
                output.write(block)
                rest -= len(block)


def _head(header: PosteriorHeader, extents: Sequence[Extent], name: str) -> bytes:
    """Length and JSON with which a safetensors file begins."""
    table: dict[str, Any] = {_METADATA: _metadata(header)}
    end = 0
    for extent in extents:
        if extent.id in table:
            problem = "is reserved" if extent.id == _METADATA else "came before"
            raise FormatError(f"{name}: utterance {extent.id}: this id {problem}; rename one")
        start, end = end, end + extent.frames * header.row_bytes()
        table[extent.id] = {
            "dtype": _DTYPE_NAMES[header.dtype],
            "shape": [extent.frames, len(header.symbols)],
            "data_offsets": [start, end],
        }
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # rows begin at a multiple of 8 bytes
    if len(text) > _LONGEST_HEADER:
        raise FormatError(
            f"{name}: {len(extents)} utterances are too many for one safetensors file; split the "
            "run with --shard"
        )
    return len(text).to_bytes(8, "little") + text


def _metadata(header: PosteriorHeader) -> dict[str, str]:
    symbols = header.symbols
    segmenter = None
    if symbols.segmenter is not None:
        encoded = base64.b64encode(symbols.segmenter.serialized).decode()
        segmenter = {"kind": symbols.segmenter.kind, "base64": encoded}
    values = {
        "pieces": symbols.pieces,
        "blank": symbols.blank,
        "word_rule": symbols.word_rule,
        "boundary": symbols.boundary,
        "special": sorted(symbols.special),
        "segmenter": segmenter,
        "frame_shift": header.frame_shift,
        "dtype": header.dtype,
        "signature": header.signature,
    }
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return {"format": _FORMAT, **texts}


class _Segmenter(msgspec.Struct):
    """The metadata `segmenter`."""

    kind: SegmenterKind
    base64: str


class _Metadata(msgspec.Struct):
    """The metadata, each decoded from its JSON."""

    pieces: tuple[str, ...]
    blank: int
    word_rule: WordRule
    boundary: str | None
    special: frozenset[int]
    segmenter: _Segmenter | None
    frame_shift: float
    dtype: str
    signature: str


def _shapes(path: PathLike) -> dict[str, tuple[int, ...]]:
    """The shape of every utterance by id, from the checked header."""
    check_regular(path)
    try:
        shapes = tensor_shapes(Path(path))
    except ModelError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise FormatError(
            f"{name_of(path)}: is no whole safetensors file ({reason}); make it with `dlmrescore "
            "posteriors`"
        ) from error
    for utterance, shape in shapes.items():
        if len(shape) != 2:
            raise FormatError(
                f"{name_of(path)}: utterance {utterance}: has shape {shape}, expected (frames, "
                "symbols); make it again"
            )
    return dict(sorted(shapes.items()))


def _header_of(metadata: Mapping[str, str] | None, name: str) -> PosteriorHeader:
    if metadata is None or metadata.get("format") != _FORMAT:
        raise FormatError(
            f"{name}: its metadata lack the format {_FORMAT!r}; make posteriors with `dlmrescore "
            "posteriors`"
        )
    try:
        decoded = {
            key: decode(text.encode(), f"{name}: its metadata {key!r}")
            for key, text in metadata.items()
            if key in _Metadata.__struct_fields__
        }
        values = msgspec.convert(decoded, _Metadata)
        header = PosteriorHeader(
            _symbols_of(values, name), values.frame_shift, values.dtype, values.signature
        )
    except (msgspec.ValidationError, ValueError) as error:
        raise FormatError(
            f"{name}: its metadata are broken ({one_line(error)}); make it again"
        ) from error
    except FormatError as error:
        place = "" if str(error).startswith(f"{name}: ") else f"{name}: "
        raise FormatError(f"{place}{error}") from error
    if header.dtype not in DTYPES:
        raise FormatError(f"{name}: dtype {short(header.dtype)!r}, expected {' or '.join(DTYPES)}")
    return header


def _symbols_of(values: _Metadata, name: str) -> Symbols:
    segmenter = None
    if values.segmenter is not None:
        serialized = base64.b64decode(values.segmenter.base64, validate=True)
        segmenter = Segmenter(values.segmenter.kind, serialized, name)
    return Symbols(
        values.pieces,
        values.blank,
        values.word_rule,
        values.boundary,
        values.special,
        segmenter,
    )


def _check_shared(posteriors: Posteriors, header: PosteriorHeader) -> None:
    if posteriors.symbols != header.symbols:
        raise FormatError(
            f"{posteriors.place()}: has other symbols than the utterances before it; one file "
            "holds the posteriors of one recogniser"
        )
    if posteriors.frame_shift != header.frame_shift:
        raise FormatError(
            f"{posteriors.place()}: has a frame shift of {posteriors.frame_shift} s, expected "
            f"{header.frame_shift} s as before it; write two files"
        )
    if posteriors.log_probs.dtype == np.float16 and header.dtype != "float16":
        raise FormatError(
            f"{posteriors.place()}: is float16, too coarse for a file of {header.dtype}; store all "
            "as float16 (--store float16)"
        )
    if posteriors.signature != header.signature:
        raise FormatError(
            f"{posteriors.place()}: made by {posteriors.signature!r}, expected "
            f"{header.signature!r} as before it; one file holds the posteriors of one recogniser"
        )
