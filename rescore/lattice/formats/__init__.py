"""Lattice formats, one file each."""
