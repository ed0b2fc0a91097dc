"""Posteriors that other tools wrote, one format a file; each becomes a file of ours.

`layout` holds what such files do not say themselves: symbols, blank, frame shift.
"""
