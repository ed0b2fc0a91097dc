"""Renders the page, or several where one would be too large: each is one file without a network.

Every text goes through jinja's escaping, the data through its JSON filter; a Content-Security-
Policy with the digests of the page's own script and style lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from rescore.errors import FormatError
from rescore.formats.bounded import STANDARD
from rescore.formats.files import replace_file
from rescore.report.changes import common_pairs, error_table
from rescore.report.page.calibration import Calibration, confidences_of
from rescore.report.page.charts import calibration_chart, rates_chart, sweep_charts
from rescore.report.page.sources import Shown, Source
from rescore.report.page.utterances import Collector, separator
from rescore.text import normalizer as named_normalizer
from rescore.types import NBest
from rescore.wer import UNIT_NAMES, Changes, changes

__all__ = ["write_report"]

#: The most utterances of a page, and the most bytes of their data: with charts below 5 MB.
PAGE_UTTERANCES, PAGE_BYTES = 1000, 4_300_000
#: How many of the first hypotheses of a list are kept, besides those of the systems.
_HYPOTHESES = 5
_PAIRS = 15


@dataclass(frozen=True)
class _System:
    """A system of the page: what `run` says of it, and what changes with it."""

    shown: Shown
    changes: Changes
    calibration: Calibration

    @property
    def name(self) -> str:
        return self.shown.name


def write_report(source: Source, output: Path, seed: int = 0) -> list[Path]:
    """Write the report; return its pages, the first of which is `output`.

    Further pages are called like it, with a number before the suffix. Raises FormatError if the
    systems have different utterances or references, for lists that cannot be evaluated, and for
    several pages on standard output.
    """
    collector = Collector(source.unit, named_normalizer(source.normalizer), _HYPOTHESES)
    systems = [_compared(source, shown, collector, seed) for shown in source.systems]
    _check_same(systems)
    records = collector.records([system.changes for system in systems])
    parts = list(_parts(_encoded(records)))
    paths = [
        output,
        *(output.with_suffix(f".{n}{output.suffix}") for n in range(2, len(parts) + 1)),
    ]
    if len(parts) > 1 and str(output) == STANDARD:
        raise FormatError(
            f"the report has {len(parts)} pages, and standard output takes one; give -o report.html"
        )
    environment = _environment()
    template = environment.get_template("page.html")
    common = {
        **_static(source, systems),
        "origins": collector.origins.lines(),
        "links": [path.name for path in paths],
        "sizes": [len(part) for part in parts],
    }
    data = _data(source, systems, collector)
    for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
        content = Markup("[\n%s\n]") % Markup(",\n").join(part)
        page = template.render(**common, number=number, settings=data, utterances=content)
        replace_file(path, page.encode())
    return paths


def _compared(source: Source, shown: Shown, collector: Collector, seed: int) -> _System:
    """Read one system once: compare it, keep its hypotheses, and its confidences."""
    calibration = Calibration()
    confidences = confidences_of(shown.temperature)

    def watched(lists: Iterable[NBest]) -> Iterator[NBest]:
        for nbest in lists:
            values = confidences(nbest)
            if values is not None:
                calibration.add(nbest, values, collector.normalize)
            yield nbest

    baseline = None if source.baseline is None else source.baseline()
    result = changes(
        watched(collector.watch(shown.lists())),
        baseline,
        unit=source.unit,
        normalizer=source.normalizer,
        seed=seed,
    )
    return _System(shown, result, calibration)


def _check_same(systems: Sequence[_System]) -> None:
    """Raise FormatError unless all systems have the same utterances with the same references."""
    first = {change.id: change.ref for change in systems[0].changes.utterances}
    for system in systems[1:]:
        other = {change.id: change.ref for change in system.changes.utterances}
        if other != first:
            differing = min(
                id for id in first.keys() | other.keys() if first.get(id) != other.get(id)
            )
            raise FormatError(
                f"{system.name}: utterance {differing} is not that of {systems[0].name}; the"
                " systems of a report need the same utterances and references"
            )


def _encoded(records: Iterable[dict[str, Any]]) -> Iterator[Markup]:
    for record in records:
        yield _json(record)


def _json(value: object) -> Markup:
    """The value as JSON that may stand in a script element: without <, > and &."""
    return htmlsafe_json_dumps(value, dumps=json.dumps, ensure_ascii=False, separators=(",", ":"))


def _parts(records: Iterable[Markup]) -> Iterator[list[Markup]]:
    """The utterances of each page."""
    part: list[Markup] = []
    size = 0
    for record in records:
        length = len(record.encode())
        if part and (len(part) == PAGE_UTTERANCES or size + length > PAGE_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += length
    yield part


def _data(source: Source, systems: Sequence[_System], collector: Collector) -> Markup:
    """What the page's script needs to know besides the utterances."""
    return _json(
        {
            "systems": [system.name for system in systems],
            "shown": source.shown,
            "baseline": source.baseline_name,
            "separator": separator(source.unit),
            "scores": collector.names,
        }
    )


def _static(source: Source, systems: Sequence[_System]) -> dict[str, Any]:
    """What the template shows on every page, or on the first."""
    shown = systems[source.shown]
    rate = "WER" if source.unit == "word" else "CER"
    comparison = shown.changes.comparison
    rows = [(source.baseline_name, comparison.baseline_wer, *comparison.baseline_ci95)]
    rows += [(system.name, system.changes.errors.wer, *system.changes.ci95) for system in systems]
    reliability = shown.calibration.reliability()
    return {
        "source": source,
        "systems": systems,
        "shown": shown,
        "rate": rate,
        "unit": UNIT_NAMES[source.unit],
        "rates": rates_chart(rows, shown.changes.oracle_wer, rate),
        "sweep": sweep_charts(source.sweep) if source.sweep else [],
        "reliability": reliability,
        "calibration": calibration_chart(reliability) if reliability else None,
        "error_table": error_table,
        "pairs": lambda counts: common_pairs(counts, _PAIRS),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rescore.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    environment.globals.update(
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )
    environment.filters["percent"] = lambda rate: f"{round(100 * rate, 2) + 0.0:.2f}"
    return environment


def _asset(name: str) -> str:
    return (files("rescore.report.page") / "templates" / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
