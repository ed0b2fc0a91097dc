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
from rescore.formats.files import atomic_writer, read_bytes

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
    """Drop the lines of steps after `step`: they belong to no saved state and are logged again.

    Raises TrainError for a file that is not the log of a run; it stays as it is.
    """
    if not path.exists():
        return
    lines = read_bytes(path).splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines) if _is_kept(path, number, line, step)]
    if len(kept) > 1:
        with atomic_writer(path) as output:
            output.write(b"".join(kept))
    else:
        path.unlink()


def _is_kept(path: Path, number: int, line: bytes, step: int) -> bool:
    """Whether a line stays: the header, and whole rows up to `step`. Raises TrainError."""
    first, comma, _ = line.partition(b",")
    is_whole = line.endswith(b"\n")
    if not is_whole and number:  # a kill or a full disk cut it off
        return False
    if number == 0 and (first == b"step" or (not is_whole and b"step,".startswith(line))):
        return True
    if number == 0 or not comma or not first.isdigit():
        raise TrainError(
            f"{path}:{number + 1}: not the log of a run; move the file away, or give another "
            "--output"
        )
    return int(first) <= step


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
