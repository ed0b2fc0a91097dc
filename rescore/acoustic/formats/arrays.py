"""A folder of NumPy files, one an utterance: ID.npy, or ID.npz with one array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rescore.acoustic.formats.layout import LAYOUT_OPTIONS, Layout
from rescore.acoustic.posteriors import Posteriors
from rescore.errors import FormatError
from rescore.formats.base import Format
from rescore.formats.bounded import check_regular
from rescore.formats.files import PathLike, names_in
from rescore.formats.zips import check_unpacked

__all__ = ["ARRAYS", "read"]


def read(path: PathLike, **layout: Any) -> Iterator[Posteriors]:
    """Yield the posteriors of a folder by file name. Raises FormatError."""
    described = Layout.of(**layout)
    files = [Path(path) / name for name in names_in(path) if name.endswith((".npy", ".npz"))]
    if not files:
        raise FormatError(f"{path}: holds no .npy or .npz file; name the folder that holds them")
    for file in files:
        yield described.posteriors(file.stem, _array(file), str(file))


def _array(file: Path) -> np.ndarray:
    check_regular(file)
    if file.suffix == ".npz":
        check_unpacked(file)
    try:
        loaded: Any = np.load(file, mmap_mode="r" if file.suffix == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = list(loaded)
            if len(names) == 1:
                array: np.ndarray = loaded[names[0]]
                return array
    except Exception as error:  # damaged files raise anything, also errors of zip and of tokens
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"{file}: cannot be read as a NumPy array ({reason})") from error
    raise FormatError(f"{file}: holds {len(names)} arrays ({', '.join(names)}), expected one")


ARRAYS = Format[Posteriors](
    name="arrays",
    read=read,
    help="folder of NumPy arrays, one .npy or .npz an utterance",
    read_options=LAYOUT_OPTIONS,
)
