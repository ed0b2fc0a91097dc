"""What is attacked: valid files, and a use of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["Target", "Use", "WrongError"]

Use = Callable[[], object]
#: Writes valid files into an empty folder and returns their use.
Target = Callable[[Path], Use]


class WrongError(Exception):
    """Files were accepted, and what they gave is not what they can mean."""
