"""What a report is about: the folder of a `run`, or files of lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.formats.files import read_bytes
from rescore.formats.strict_json import decode
from rescore.fusion import load
from rescore.types import NBest
from rescore.wer import UNITS, Unit

__all__ = ["DevFigures", "Shown", "Source", "source_of_folder", "source_of_lists"]


@dataclass(frozen=True)
class DevFigures:
    """What `run` says of a system on dev: the rate on held-out folds, and whether it is kept."""

    held_out_wer: float | None
    kept: str


@dataclass(frozen=True)
class Shown:
    """A system of the report: its name, how to read its lists, what dev says of it.

    `temperature` makes probabilities of totals where the lists hold none; None: not known.
    """

    name: str
    lists: Callable[[], Iterable[NBest]]
    dev: DevFigures | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Source:
    """Everything a report shows.

    `systems` are compared with `baseline`, or with the first pass where it is None. `shown` is the
    index of the system that the page opens with. `verdict` and `sweep` (CSV) are empty where there
    are none.
    """

    title: str
    systems: tuple[Shown, ...]
    shown: int = 0
    baseline: Callable[[], Iterable[NBest]] | None = None
    baseline_name: str = "first pass"
    unit: Unit = "word"
    normalizer: str = "none"
    verdict: str = ""
    sweep: str = ""


def source_of_lists(
    systems: Mapping[str, Callable[[], Iterable[NBest]]],
    baseline: tuple[str, Callable[[], Iterable[NBest]]] | None = None,
    sweep: str = "",
    *,
    unit: Unit = "word",
    normalizer: str = "none",
) -> Source:
    """The report of files of lists: each is a system, by name; the page opens with the last.

    `baseline` is a name and its lists. `sweep` is the CSV of a sweep.
    """
    shown = tuple(Shown(name, lists) for name, lists in systems.items())
    report = Source(", ".join(systems), shown, len(shown) - 1, unit=unit, normalizer=normalizer)
    if baseline is not None:
        report = replace(report, baseline_name=baseline[0], baseline=baseline[1])
    return replace(report, sweep=sweep)


def source_of_folder(folder: Path) -> Source:
    """The report of a folder that `run` has finished.

    Raises FormatError if files are missing or not what `run` writes.
    """
    settings = decode(read_bytes(folder / "run.json"), str(folder / "run.json"))
    unit, normalizer = _counting(settings, folder)
    groups = _groups(folder)
    chosen = read_bytes(folder / "fusion.json")
    shown = [
        number
        for number, group in enumerate(groups)
        if read_bytes(folder / f"fusion.{group}.json") == chosen
    ]
    return Source(
        "Test lists, rescored",  # not the folder's name: equal runs make equal pages
        tuple(_system(folder, group, row) for group, row in groups.items()),
        shown[0] if shown else len(groups) - 1,
        unit=unit,
        normalizer=normalizer,
        verdict=_verdict(folder),
        sweep=_text(folder / "sweep.csv"),
    )


def _counting(settings: object, folder: Path) -> tuple[Unit, str]:
    unit = settings.get("unit") if isinstance(settings, dict) else None
    normalizer = settings.get("normalizer") if isinstance(settings, dict) else None
    for known in UNITS:
        if known == unit and isinstance(normalizer, str):
            return known, normalizer
    raise FormatError(f"{folder / 'run.json'}: does not say how errors are counted; run again")


def _groups(folder: Path) -> dict[str, Mapping[str, str]]:
    """The systems of the folder as `run` names their files, with their rows of `systems.csv`."""
    path = folder / "systems.csv"
    rows = list(csv.DictReader(io.StringIO(_text(path))))
    groups: dict[str, Mapping[str, str]] = {}
    for row in rows[1:-1]:  # without the first pass and the oracle
        scores = (row.get("scores") or "").split()
        groups[scores[0] if len(scores) == 1 else "all" if scores else "base"] = row
    if not groups or any("system" not in row for row in rows):
        raise FormatError(f"{path}: not a table of systems as `dlmrescore run` writes it")
    return groups


def _system(folder: Path, group: str, row: Mapping[str, str]) -> Shown:
    path = folder / f"best.{group}.jsonl"
    held_out = row.get("held_out_wer") or row.get("held_out_cer")
    try:
        dev = DevFigures(float(held_out) if held_out else None, row.get("kept") or "")
    except ValueError as error:
        raise FormatError(f"{folder / 'systems.csv'}: {held_out!r} is not a rate") from error
    temperature = load(folder / f"fusion.{group}.json").temperature
    return Shown(row["system"].removeprefix("+ "), lambda: jsonl.read(path), dev, temperature)


def _verdict(folder: Path) -> str:
    """The last paragraph of the table."""
    paragraph = _text(folder / "table.md").rstrip().rpartition("\n\n")[2]
    return " ".join(paragraph.split()) if paragraph.startswith("Verdict: ") else ""


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8; run again") from error
