"""One utterance as text: its hypotheses aligned to the reference, with every score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import fill

from rescore.errors import FormatError
from rescore.formats.record import std_error, token_scores
from rescore.fusion.probabilities import POSTERIOR, stored_confidences, stored_posterior
from rescore.fusion.table import TOTAL
from rescore.report.layout import Cell, Paint, blocks, plain, printable
from rescore.report.origins import Origins
from rescore.text import normalizer as named_normalizer
from rescore.types import NBest
from rescore.wer import UNIT_NAMES, Edit, Unit, align, list_errors, reference_length, units

__all__ = ["UtteranceView", "utterance_text"]

_MARKS = {"substitution": "~", "insertion": "+", "deletion": "-", "equal": ""}
_COLUMNS = 80


@dataclass(frozen=True)
class UtteranceView:
    """How an utterance is shown.

    `count` limits the hypotheses to the first ones; the recogniser's first and the one with the
    fewest errors are always among them. `unit` and `normalizer` say what is aligned and counted.
    `per_token` adds what each token contributes to each score, where the list says so.
    """

    count: int = 10
    unit: Unit = "word"
    normalizer: str = "none"
    per_token: bool = False
    paint: Paint = field(default=plain)


def utterance_text(nbest: NBest, view: UtteranceView) -> str:
    """Show a list in lines of up to 80 columns.

    Without a reference, the hypotheses are aligned to the first one. Raises FormatError for
    standard errors, token scores or probabilities that cannot be read, and where `per_token` asks
    for token scores that no hypothesis has.
    """
    rows = _rows(nbest, view)
    parts = [_header(nbest, view, rows), _alignment(nbest, view, rows)]
    if any(hyp.scores for hyp in nbest.hyps):
        parts.append(_scores(nbest, view, rows))
        origins = Origins()
        origins.add(nbest)
        parts.append("\n".join(_wrapped(line) for line in origins.lines()))
    if view.per_token:
        parts.extend(_tokens(nbest, view, rows))
    return "\n\n".join(parts)


@dataclass(frozen=True)
class _Row:
    """A hypothesis that is shown: its index in the list, its label, its errors if there are any."""

    index: int
    label: str
    errors: int | None


def _wrapped(line: str) -> str:
    return fill(printable(line), _COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


def _rows(nbest: NBest, view: UtteranceView) -> list[_Row]:
    errors: Sequence[int] | None = None
    if nbest.ref is not None:
        normalize = named_normalizer(view.normalizer)
        errors = [int(count) for count in list_errors(nbest, view.unit, normalize)]
    first = nbest.first_pass or 0
    best = None if errors is None else min(range(len(errors)), key=errors.__getitem__)
    shown = {*range(min(view.count, len(nbest.hyps))), first, *([] if best is None else [best])}
    digits = len(str(len(nbest.hyps)))
    rows = []
    for index in sorted(shown):
        marks = "W" if index == 0 and nbest.first_pass is not None else " "
        marks += "F" if index == first else " "
        marks += "O" if index == best else " "
        label = f"{index + 1:{digits}} {marks}"
        rows.append(_Row(index, label, None if errors is None else errors[index]))
    return rows


def _header(nbest: NBest, view: UtteranceView, rows: Sequence[_Row]) -> str:
    size = f"{len(nbest.hyps)} hypotheses"
    if len(rows) < len(nbest.hyps):
        size += f", {len(rows)} of them shown"
    if nbest.ref is None:
        size += "; no reference: aligned to the first hypothesis"
    else:
        length = reference_length(named_normalizer(view.normalizer)(nbest.ref), view.unit)
        size += f"; the reference has {length} {UNIT_NAMES[view.unit]}"
    signs = [
        view.paint("~ substituted", "substitution"),
        view.paint("+ inserted", "insertion"),
        view.paint("- deleted", "deletion"),
    ]
    roles = "F first pass" if nbest.ref is None else "F first pass, O fewest errors"
    if nbest.first_pass is not None:
        roles = f"W winner of fuse, {roles}"
    title = view.paint(printable(nbest.place()), "title")
    return "\n".join([title, size, ", ".join(signs), roles])


def _alignment(nbest: NBest, view: UtteranceView, rows: Sequence[_Row]) -> str:
    """The reference above the hypotheses, a column for each of its words and each insertion."""
    normalize = named_normalizer(view.normalizer)
    anchor = normalize(nbest.hyps[0].text if nbest.ref is None else nbest.ref)
    alignments = [align(anchor, normalize(nbest.hyps[row.index].text), view.unit) for row in rows]
    table = _columns_of(units(anchor, view.unit), alignments)
    head = "first" if nbest.ref is None else "reference"
    labels = [head, *(row.label for row in rows)]
    if nbest.ref is not None:
        counts = [Cell("errors"), *(Cell(f"{row.errors:6d}") for row in rows)]
        table = [[count, *cells] for count, cells in zip(counts, table, strict=True)]
    return "\n".join(blocks(labels, table, paint=view.paint, columns=_COLUMNS))


def _columns_of(anchor: Sequence[str], alignments: Sequence[tuple[Edit, ...]]) -> list[list[Cell]]:
    """The reference's row, then one for each alignment, all with as many cells."""
    slots = [_slots(alignment, len(anchor)) for alignment in alignments]
    widest = [
        max((len(inserted[place]) for (inserted, _) in slots), default=0)
        for place in range(len(anchor) + 1)
    ]
    head: list[Cell] = []
    table: list[list[Cell]] = [[] for _ in alignments]
    for place in range(len(anchor) + 1):
        head += [Cell("")] * widest[place]
        for row, (inserted, _) in zip(table, slots, strict=True):
            row += [*inserted[place], *[Cell("")] * (widest[place] - len(inserted[place]))]
        if place < len(anchor):
            head.append(Cell(anchor[place], "title"))
            for row, (_, cells) in zip(table, slots, strict=True):
                row.append(cells[place])
    return [head, *table]


def _slots(alignment: Sequence[Edit], length: int) -> tuple[list[list[Cell]], list[Cell]]:
    """The words inserted before each word of the reference, and what stands in its place."""
    inserted: list[list[Cell]] = [[] for _ in range(length + 1)]
    cells: list[Cell] = []
    for kind, ref, hyp in alignment:
        text = "-" * max(1, len(ref)) if kind == "deletion" else _MARKS[kind] + hyp
        if kind == "insertion":
            inserted[len(cells)].append(Cell(text, kind))
        else:
            cells.append(Cell(text, "" if kind == "equal" else kind))
    return inserted, cells


def _scores(nbest: NBest, view: UtteranceView, rows: Sequence[_Row]) -> str:
    """Every score that a hypothesis has, with standard errors and posteriors."""
    names = list(dict.fromkeys(name for hyp in nbest.hyps for name in hyp.scores))
    names = [*(name for name in names if name != TOTAL), *(name for name in names if name == TOTAL)]
    columns = [[Cell(name, "title"), *_values(nbest, name, rows)] for name in names]
    posteriors = [stored_posterior(nbest, row.index) for row in rows]
    if any(value is not None for value in posteriors):
        cells = [Cell("" if value is None else f"{value:.3f}") for value in posteriors]
        columns.append([Cell(POSTERIOR, "title"), *cells])
    labels = ["score", *(row.label for row in rows)]
    table = [list(cells) for cells in zip(*columns, strict=True)]
    return "\n".join(blocks(labels, table, paint=view.paint, columns=_COLUMNS, to_right=True))


def _values(nbest: NBest, name: str, rows: Sequence[_Row]) -> Iterator[Cell]:
    for row in rows:
        value = nbest.hyps[row.index].scores.get(name)
        error = std_error(nbest, row.index, name)
        text = "" if value is None else f"{value:.3f}"
        yield Cell(text if error is None else f"{text} \u00b1{error:.2f}")


def _tokens(nbest: NBest, view: UtteranceView, rows: Sequence[_Row]) -> Iterator[str]:
    """For each score, the tokens of each hypothesis above what they add to it."""
    by_row = {row: token_scores(nbest, row.index) for row in rows}
    confidences = [(row, stored_confidences(nbest, row.index)) for row in rows]
    names = list(dict.fromkeys(name for tokens in by_row.values() for name in tokens))
    if not names:
        raise FormatError(
            f"{nbest.place()}: no score has its tokens; write them with"
            " `dlmrescore score --per-token`"
        )
    for name in names:
        lines = [view.paint(f"{name} by token, in nats", "title")]
        for row, tokens in by_row.items():
            lines += _pairs(row, tokens.get(name, ()), view)
        yield "\n".join(lines)
    for row, values in confidences:
        if values:
            pairs = tuple(zip(nbest.hyps[row.index].words, values, strict=True))
            head = view.paint("confidence by word", "title")
            yield "\n".join([head, *_pairs(row, pairs, view)])


def _pairs(row: _Row, pairs: Sequence[tuple[str, float]], view: UtteranceView) -> list[str]:
    """Pieces above their values, in as many blocks as they need."""
    if not pairs:
        return []
    table = [
        [Cell(piece) for piece, _ in pairs],
        [Cell(f"{round(value, 2) + 0.0:.2f}", "value") for _, value in pairs],  # no -0.00
    ]
    lines = blocks([row.label, ""], table, paint=view.paint, columns=_COLUMNS, to_right=True)
    return [line for line in lines if line]
