"""Our own files: the shards of a run, one after the other, or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rescore.acoustic.posterior_file import read_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.errors import FormatError
from rescore.formats.base import Format
from rescore.formats.files import PathLike, names_in
from rescore.ids import UniqueIds

__all__ = ["POSTERIORS", "read"]

_SUFFIX = ".safetensors"


def read(path: PathLike) -> Iterator[Posteriors]:
    """Yield the posteriors of a file, or of all files of a folder. Raises FormatError."""
    files = [path]
    if os.path.isdir(path):
        files = [Path(path) / name for name in names_in(path) if name.endswith(_SUFFIX)]
        if not files:
            raise FormatError(f"{path}: holds no {_SUFFIX} file; name the folder of the shards")
    ids = UniqueIds("read")
    for file in files:
        for item in read_posteriors(file).values():
            ids.add(item)
            yield item


POSTERIORS = Format[Posteriors](
    name="posteriors",
    read=read,
    help="our own file, or a folder of the files of shards",
)
