"""What changes between systems, for people, for programs and as a table of utterances.

CSV columns: `system`, `id`, `outcome` (helped, hurt or unchanged), `baseline_errors`, `errors`,
`oracle_errors` (the best hypothesis of the system's list), `substitutions`, `insertions`,
`deletions`, `reference_words`, `reference`, `baseline_text`, `text`. Errors are counted in the
chosen unit; texts are as they were read.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from rescore.report.layout import Cell, Paint, blocks, clipped, padded, plain, printable
from rescore.report.summary import comparison_details, comparison_in_words
from rescore.types import ErrorCounts
from rescore.wer import UNIT_NAMES, Changes
from rescore.wer.changes import Pair

__all__ = ["changes_csv", "changes_json", "changes_text", "common_pairs", "error_table"]

_KINDS = ("substitutions", "insertions", "deletions")
_HALF = 39  # columns of one of two tables beside each other
_COLUMNS = [
    "system",
    "id",
    "outcome",
    "baseline_errors",
    "errors",
    "oracle_errors",
    *_KINDS,
    "reference_words",
    "reference",
    "baseline_text",
    "text",
]


def changes_text(
    changes: Changes, system: str, baseline: str, *, pairs: int = 10, paint: Paint = plain
) -> str:
    """Lines of up to 80 columns: the rates, utterances helped and hurt, errors fixed and broken.

    `system` and `baseline` are their names; `pairs` limits the errors that are listed.
    """
    errors = changes.errors
    size = f"{len(changes.utterances)} utterances, {errors.reference_words}"
    comparison = comparison_in_words(changes.comparison, errors.wer, "the baseline")
    lines = [
        paint(printable(system), "title"),
        f"against {printable(baseline)}: {size} {UNIT_NAMES[changes.unit]}",
        f"It {comparison}",
        f"  {comparison_details(changes.comparison)}",
        _outcomes(changes, paint),
        "",
        *_error_lines(changes, paint),
        "",
        *_pair_lines(changes, pairs, paint),
    ]
    return "\n".join(lines).rstrip("\n")


def _outcomes(changes: Changes, paint: Paint) -> str:
    counts = changes.outcomes
    reworded = sum(
        change.outcome == "unchanged" and change.baseline_edits != change.edits
        for change in changes.utterances
    )
    helped, hurt = (paint(f"{counts[name]} {name}", name) for name in ("helped", "hurt"))
    others = f" ({reworded} of them with other words)" if reworded else ""
    improvable = sum(change.is_improvable for change in changes.utterances)
    return (
        f"utterances: {helped}, {hurt}, {counts['unchanged']} unchanged{others}\n"
        f"  in {improvable} of all, the list has a hypothesis with fewer errors"
    )


def error_table(changes: Changes) -> list[tuple[str, int, int, int, int]]:
    """For each kind of error, and for all: before, fixed, broken, after."""
    before, after = changes.baseline_errors, changes.errors
    rows = []
    for kind in _KINDS:
        fixed, broken = (
            sum(count for pair, count in pairs.items() if f"{pair.kind}s" == kind)
            for pairs in (changes.fixed, changes.broken)
        )
        rows.append((kind, getattr(before, kind), fixed, broken, getattr(after, kind)))
    fixed, broken = changes.fixed.total(), changes.broken.total()
    return [*rows, ("all errors", before.errors, fixed, broken, after.errors)]


def _error_lines(changes: Changes, paint: Paint) -> list[str]:
    labels, *columns = zip(*error_table(changes), strict=True)
    heads = ["before", "fixed", "broken", "after"]
    table = [[Cell(head, "title") for head in heads]]
    table += [[Cell(str(count)) for count in row] for row in zip(*columns, strict=True)]
    return blocks(["", *labels], table, paint=paint, to_right=True)


def common_pairs(pairs: Counter[Pair], count: int) -> list[tuple[int, Pair]]:
    """The most common kinds of errors with their numbers; ties in the order of the words."""
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(number, pair) for pair, number in ordered[:count]]


def _pair_lines(changes: Changes, count: int, paint: Paint) -> list[str]:
    """The most common errors that were fixed, and beside them those that are new."""
    columns = []
    for head, pairs in (("fixed", changes.fixed), ("broken", changes.broken)):
        lines = [f"{number:5}  {_arrow(pair)}" for number, pair in common_pairs(pairs, count)]
        if lines and len(pairs) > count:
            lines.append(f"       and {len(pairs) - count} others")
        columns.append([head, *(lines or ["       none"])])
    rows = []
    for number, (left, right) in enumerate(zip_longest(*columns, fillvalue="")):
        roles = ("helped", "hurt") if not number else ("", "")
        line = paint(padded(clipped(left, _HALF), _HALF + 2), roles[0])
        rows.append((line + paint(clipped(right, _HALF), roles[1])).rstrip())
    return rows if count else []


def _arrow(pair: Pair) -> str:
    ref, hyp = printable(pair.ref), printable(pair.hyp)
    if pair.kind == "substitution":
        return f"{ref} -> {hyp}"
    return f"+ {hyp}" if pair.kind == "insertion" else f"- {ref}"


def changes_json(systems: Mapping[str, Changes], baseline: str) -> dict[str, Any]:
    """Every system against the baseline as JSON; rates are fractions, not rounded."""
    return {
        "baseline": baseline,
        "systems": [_record(name, changes) for name, changes in systems.items()],
    }


def _record(name: str, changes: Changes) -> dict[str, Any]:
    comparison = asdict(changes.comparison)
    return {
        "system": name,
        "utterances": len(changes.utterances),
        "unit": changes.unit,
        "normalizer": changes.normalizer,
        "seed": changes.seed,
        "tuned_on": changes.tuned_on,
        "wer": changes.errors.wer,
        "ci95": list(changes.ci95),
        "oracle_wer": changes.oracle_wer,
        **{
            key: list(value) if isinstance(value, tuple) else value
            for key, value in comparison.items()
        },
        "helped": changes.outcomes["helped"],
        "hurt": changes.outcomes["hurt"],
        "unchanged": changes.outcomes["unchanged"],
        "improvable": sum(change.is_improvable for change in changes.utterances),
        "baseline_errors": asdict(changes.baseline_errors),
        "errors": asdict(changes.errors),
        "fixed": _pair_records(changes.fixed),
        "broken": _pair_records(changes.broken),
    }


def _pair_records(pairs: Counter[Pair]) -> list[dict[str, Any]]:
    return [{**pair._asdict(), "count": count} for count, pair in common_pairs(pairs, len(pairs))]


def changes_csv(systems: Mapping[str, Changes]) -> str:
    """Every utterance of every system as CSV, a header line first."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_COLUMNS)
    for name, changes in systems.items():
        for change in changes.utterances:
            counts = [change.baseline_errors.errors, change.errors.errors, change.oracle_errors]
            texts = [change.ref, change.baseline_text, change.text]
            row = [name, change.id, change.outcome, *counts, *_kinds(change.errors), *texts]
            table.writerow(row)
    return out.getvalue()


def _kinds(errors: ErrorCounts) -> Sequence[int]:
    return [*(getattr(errors, kind) for kind in _KINDS), errors.reference_words]
