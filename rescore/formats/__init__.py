"""Formats of N-best lists, one file each.

docs/formats.md describes them; docs/adding_a_format.md shows how to add one.
"""

from rescore.formats.base import Format, Skipped
from rescore.formats.reading import format_of, read_lists

__all__ = ["Format", "Skipped", "format_of", "read_lists"]
