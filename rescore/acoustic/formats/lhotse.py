"""Cuts of lhotse with posteriors as a `TemporalArray` in a custom field.

    {"id": "u1", ..., "custom": {"log_probs": {"array": {"storage_type": "numpy_files", ...},
                                               "temporal_dim": 0, "frame_shift": 0.04, "start": 0}}}

The frame shift stands in the manifest. lhotse itself reads the arrays; only storages on this
machine that cannot run code are read. Source: lhotse-speech/lhotse, lhotse/array.py (seen with
1.33.0).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rescore.acoustic.formats.layout import LAYOUT_OPTIONS, Layout
from rescore.acoustic.posteriors import Posteriors
from rescore.errors import FormatError
from rescore.formats.base import Format, Option
from rescore.formats.bounded import check_regular
from rescore.formats.files import PathLike, at_line, byte_lines
from rescore.formats.lhotse_manifest import record_of
from rescore.formats.record import id_of
from rescore.formats.strict_json import described, number, short
from rescore.formats.strict_json import field as required
from rescore.ids import UniqueIds

__all__ = ["LHOTSE", "read"]

_STORAGES = (
    "numpy_files",
    "numpy_hdf5",
    "lilcom_files",
    "lilcom_chunky",
    "lilcom_hdf5",
    "chunked_lilcom_hdf5",
)
_OPTIONS = {
    **{name: option for name, option in LAYOUT_OPTIONS.items() if name != "frame_shift"},
    "field": Option("the custom field; default: the only TemporalArray of the first cut"),
}


def read(path: PathLike, *, field: str | None = None, **layout: Any) -> Iterator[Posteriors]:
    """Yield the posteriors of a manifest's cuts, in its order. Raises FormatError."""
    shared = Layout.of(frame_shift=1.0, **layout)  # each array has its own shift
    ids, place = UniqueIds("read"), at_line(path)
    for line_number, line in byte_lines(path):
        if not line.strip():
            continue
        where = place(line_number)
        record = record_of(line, where)
        utterance = id_of(record, where)
        at = f"{where}: utterance {utterance}"
        custom = record.get("custom") or {}
        if not isinstance(custom, dict):
            raise FormatError(f'{at}: "custom" is {described(custom)}, expected an object')
        field = field or _only_array(custom, at)
        if not _is_array(custom.get(field)):
            raise FormatError(f'{at}: its custom field "{field}" is no TemporalArray')
        shift = number(custom[field].get("frame_shift"), at, '"frame_shift"')
        values = _loaded(custom[field], at)
        layout_of_array = replace(shared, frame_shift=shift)
        posteriors = layout_of_array.posteriors(utterance, values, where)
        ids.add(posteriors)
        yield posteriors


def _is_array(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("array"), dict)


def _only_array(custom: Mapping[str, Any], at: str) -> str:
    names = [name for name, value in custom.items() if _is_array(value)]
    if len(names) != 1:
        raise FormatError(
            f"{at}: has {len(names)} TemporalArrays{''.join(f' {n}' for n in names)}, expected one;"
            " name it (-O field=NAME)"
        )
    return names[0]


def _loaded(manifest: Mapping[str, Any], at: str) -> np.ndarray:
    """The array (T, V). Raises FormatError."""
    storage = manifest["array"].get("storage_type")
    if storage not in _STORAGES:
        names = ", ".join(_STORAGES)
        raise FormatError(f"{at}: stored as {short(repr(storage))}, expected one of {names}")
    if manifest.get("temporal_dim") != 0:
        dimension = short(repr(manifest.get("temporal_dim")))
        raise FormatError(f"{at}: temporal_dim is {dimension}, expected 0")
    _check_stored(manifest["array"], at)
    try:
        from lhotse.array import TemporalArray  # noqa: PLC0415 - optional
    except ImportError as error:
        raise FormatError(f"{at}: arrays of lhotse need lhotse; pip install lhotse") from error
    try:
        array: np.ndarray = TemporalArray.from_dict(dict(manifest)).load()
    except Exception as error:  # what a storage raises is its own affair
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FormatError(f"{at}: its array cannot be loaded ({reason})") from error
    return array


def _check_stored(array: dict[str, Any], at: str) -> None:
    """Raise FormatError unless the array is in a regular file; lhotse would also open URLs."""
    place = required(array, "storage_path", str, at, "a string")
    key = required(array, "storage_key", str, at, "a string")
    is_folder = array["storage_type"] in ("numpy_files", "lilcom_files")
    try:
        check_regular(os.path.join(place, key) if is_folder else place)
    except (FormatError, ValueError) as error:  # ValueError: a null byte in the path
        raise FormatError(f"{at}: its array cannot be loaded ({error})") from error


LHOTSE = Format[Posteriors](
    name="lhotse",
    read=read,
    help="lhotse cuts with a TemporalArray as custom field",
    read_options=_OPTIONS,
)
