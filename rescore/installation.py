"""How to install an optional part, in one place: no index has this package yet, so from its source.

docs/installation.md has the parts, and the line without CUDA.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Extra", "install_hint"]

Extra = Literal["asr", "hf", "kenlm", "peft", "plot", "ray", "whisper"]


def install_hint(extra: Extra) -> str:
    """What to do about a library that is missing; `extra` is the part that brings it."""
    return f"run, in the folder of dlmrescore's source: pip install '.[{extra}]'"
