"""Errors: counts, significance, evaluation."""
