"""Small lists for an experiment, and the files it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path

from small import LINES


def record(half: str, number: int) -> dict:
    """A list of three: a recogniser that mistakes the last word, and its scores."""
    ref = " ".join(LINES[number % 6].split()[: 3 + number % 4])
    wrong = [ref, ref.rsplit(" ", 1)[0] + " lamp", ref + " the"]
    order = [wrong[(number + k) % 3] for k in range(3)]
    return {
        "id": f"{half}-{number}",
        "ref": ref,
        "hyps": [
            {"text": text, "scores": {"am": -10.0 - 3 * k, "ngram": -float(len(text))}}
            for k, text in enumerate(order)
        ],
    }


def write(name, records):
    Path(name).write_text("".join(json.dumps(item) + "\n" for item in records))


def contents(folder: str) -> dict[str, bytes]:
    """Every file but the seconds, and the table without its last column."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
    del files["seconds.json"]
    files["table.md"] = re.sub(rb"\| *[\d.]* \|$", b"|", files["table.md"], flags=re.MULTILINE)
    return files
