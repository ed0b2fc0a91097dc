"""icefall's result files for rescored lists, by icefall's own functions.

They are recogs-, errs- and wer-summary- files, and a block for RESULTS.md.
`python3 -m dlm_rescore.results DIR` reads what dlm_rescoring.sh wrote to DIR: scored-SET.jsonl
(first pass), best-SET.jsonl, eval-SET.json, fusion.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import rescore
from rescore.errors import RescoreError
from rescore.types import NBest

__all__ = ["block", "main", "write_files"]

UNSCORED = "nbest"
RESCORED = "dlm-rescoring"

#: Decoding method, set -> WER in percent, comment.
Row: TypeAlias = tuple[str, dict[str, float], str]


def write_files(folder: Path, part: str) -> dict[str, float]:
    """Write the files of one set and return setting -> WER in percent, as icefall rounds it.

    Raises RescoreError if icefall cannot be imported.
    """
    try:
        from icefall.utils import store_transcripts, write_error_stats  # noqa: PLC0415
    except ImportError as error:
        raise RescoreError(
            f"icefall cannot be imported ({error}); put its checkout on PYTHONPATH: "
            "export PYTHONPATH=/path/to/icefall:$PYTHONPATH"
        ) from error
    wers = {}
    for setting, name in ((UNSCORED, f"scored-{part}.jsonl"), (RESCORED, f"best-{part}.jsonl")):
        results = sorted(_result(nbest) for nbest in rescore.read(folder / name))
        store_transcripts(filename=folder / f"recogs-{part}-{setting}.txt", texts=results)
        with open(folder / f"errs-{part}-{setting}.txt", "w", encoding="utf8") as file:
            wers[setting] = write_error_stats(file, f"{part}-{setting}", results, enable_log=True)
    lines = [f"{setting}\t{wer}" for setting, wer in sorted(wers.items(), key=lambda item: item[1])]
    (folder / f"wer-summary-{part}-{RESCORED}.txt").write_text(
        "\n".join(["settings\tWER", *lines, ""]), encoding="utf8"
    )
    return wers


def _result(nbest: NBest) -> tuple[str, list[str], list[str]]:
    if nbest.ref is None:
        raise RescoreError(f"{nbest.place()}: there is no reference")
    return nbest.id, nbest.ref.split(), nbest.hyps[0].text.split()


def block(
    folder: Path, wers: dict[str, dict[str, float]], dev_sets: Sequence[str], decode: str
) -> str:
    """Return the section for RESULTS.md: the table, the tuned scales, the commands."""
    lines = [
        "##### N-best lists rescored with diffusion LMs",
        "",
        *_table(list(wers), _rows(folder, wers, dev_sets)),
        "",
        "The decoding commands are:",
        "```bash",
        f"{decode} --decoding-method nbest-dump",
        "./dlm_rescoring.sh --stage 1",
        "```",
        "",
    ]
    return "\n".join(lines)


def _rows(folder: Path, wers: dict[str, dict[str, float]], dev_sets: Sequence[str]) -> list[Row]:
    """Return the rows of the table, from fusion.json and eval-SET.json."""
    fusion = _json(folder / "fusion.json")
    weights = {**fusion["scales"], "word_bonus": fusion["word_bonus"]}
    scales = ", ".join(f"{name} {value:.4g}" for name, value in weights.items())
    unscored = {part: by_setting[UNSCORED] for part, by_setting in wers.items()}
    rescored = {part: by_setting[RESCORED] for part, by_setting in wers.items()}
    oracle = {
        part: round(100 * _json(folder / f"eval-{part}.json")["oracle_wer"], 2) for part in wers
    }
    return [
        (UNSCORED, unscored, f"first pass{_settings(folder, next(iter(wers)))}"),
        (RESCORED, rescored, f"scales tuned on {' + '.join(dev_sets)}: {scales}"),
        ("nbest-oracle", oracle, "best of every list"),
    ]


def _table(parts: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table."""
    columns = " | ".join(f"{part:10}" for part in parts)
    lines = [
        f"| {'decoding method':20} | {columns} | comment |",
        f"|{'-' * 22}|" + "|".join("-" * 12 for _ in parts) + "|---------|",
    ]
    for name, by_part, comment in rows:
        values = " | ".join(f"{by_part[part]:<10}" for part in parts)
        lines.append(f"| {name:20} | {values} | {comment} |")
    return lines


def _json(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return record


def _settings(folder: Path, part: str) -> str:
    """Say how the lists were made: the numbers in the first one's `meta`."""
    meta = next(iter(rescore.read(folder / f"scored-{part}.jsonl"))).raw.get("meta", {})
    return "".join(
        f", {name} {value}"
        for name, value in meta.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files of every test set and RESULTS-dlm-rescoring.md; print the latter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev-sets", nargs="+", default=["dev-clean", "dev-other"])
    parser.add_argument("--test-sets", nargs="+", default=["test-clean", "test-other"])
    parser.add_argument("--decode", default="./zipformer/ctc_decode.py")
    options = parser.parse_args(arguments)
    try:
        wers = {part: write_files(options.folder, part) for part in options.test_sets}
        text = block(options.folder, wers, options.dev_sets, options.decode)
    except RescoreError as error:
        print(f"dlm_rescore.results: {error}", file=sys.stderr)
        return 1
    (options.folder / "RESULTS-dlm-rescoring.md").write_text(text, encoding="utf8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
