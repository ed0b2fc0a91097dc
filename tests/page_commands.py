"""The commands of a page of the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

__all__ = ["console_commands"]


def console_commands(page: Path) -> list[list[str]]:
    """The arguments of the commands of the page's one console block, a command a line."""
    [block] = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [shlex.split(line)[1:] for line in block.splitlines() if line]
