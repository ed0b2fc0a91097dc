"""What a zip would take in memory, before a library unpacks it: torch.save's files, and NumPy's.

torch stores its tensors uncompressed, and its reader would inflate members that are not: such a
zip is refused. NumPy's may be compressed, and are as large as what they hold.
"""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from rescore.errors import FormatError
from rescore.formats.bounded import LIMITS, PathLike, name_of, open_regular, readable_size

__all__ = ["check_stored", "check_unpacked"]


def check_stored(file: BinaryIO, where: str) -> None:
    """Raise FormatError for a zip with compressed members, or with more in them than it holds."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(2) == b"PK":
        members = _members(file, where)
        is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if is_packed or sum(member.file_size for member in members) > size:
            raise FormatError(
                f"{where}: its zip is compressed, which torch.save never does; write it again"
            )
    file.seek(0)


def check_unpacked(path: PathLike) -> None:
    """Raise FormatError for a zip whose members are together larger than the largest file."""
    with open_regular(path) as file:
        size = sum(member.file_size for member in _members(file, name_of(path)))
    if size > LIMITS.get().file:
        raise FormatError(
            f"{name_of(path)}: holds {readable_size(size)}, and is read whole; check that it is "
            "the right file, or raise the limit: dlmrescore --max-file SIZE"
        )


def _members(file: BinaryIO, where: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise FormatError(f"{where}: its zip is damaged or cut off; write it again") from error
