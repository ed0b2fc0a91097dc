"""Lattices: file formats to one in-memory form, and algorithms on it that need no k2."""

from rescore.lattice.formats.base import LatticeFormat
from rescore.lattice.lattice import Lattice
from rescore.lattice.reading import lattice_format_of, read_lattices
from rescore.lattice.symbols import text_of

__all__ = ["Lattice", "LatticeFormat", "lattice_format_of", "read_lattices", "text_of"]
