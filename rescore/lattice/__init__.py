"""Lattices: outside files to one in-memory form, and what can be computed on it without k2."""

from rescore.lattice.lattice import Lattice

__all__ = ["Lattice"]
