"""The log of a run: `log.csv`, one line a validation.

Of text: step, tokens, train_nats_per_token, valid_nats_per_token, valid_perplexity_per_word,
tokens_per_second, matmul_share (of the matmul speed that was measured when the run began). Of
speech: valid_wer in place of the perplexity.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rescore.errors import TrainError

__all__ = ["append_row", "read_log", "trim_log"]


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a row, with its columns as the header in front of the first."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(row)
        writer.writerow(row.values())


def trim_log(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`: they belong to no saved state and are logged again."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = lines[:1]
    for line in lines[1:]:
        is_whole = line.endswith(b"\n")
        if is_whole and int(line.split(b",")[0]) <= step:
            kept.append(line)
    if len(kept) > 1:
        path.write_bytes(b"".join(kept))
    else:
        path.unlink(missing_ok=True)


def read_log(path: Path) -> dict[str, list[float]]:
    """Column -> values of a `log.csv`. Raises TrainError that names the file if it is none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise TrainError(
            f"{path}: not the log of a run ({error}); give the log.csv of a run directory"
        ) from error
