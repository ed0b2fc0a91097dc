"""What a file of `torch.save` would take in memory, before torch reads it.

torch stores its tensors uncompressed in a zip. Its reader would inflate members that are not, so a
small file could take all memory: such a zip is refused.
"""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from rescore.errors import FormatError

__all__ = ["check_stored"]


def check_stored(file: BinaryIO, where: str) -> None:
    """Raise FormatError for a zip with compressed members, or with more in them than it holds."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(2) != b"PK":
        file.seek(0)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise FormatError(f"{where}: its zip is damaged or cut off; write it again") from error
    is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if is_packed or sum(member.file_size for member in members) > size:
        raise FormatError(
            f"{where}: its zip is compressed, which torch.save never does; write it again"
        )
    file.seek(0)
