"""Names -> "module:object". The file to open first: everything a user can name on the command line is found from here.

Other packages add names by entry points (docs/adding.md). Nothing is imported until it is asked for, so that a missing optional library, or a
broken plug-in, is only missed by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from rescore.errors import RescoreError

__all__ = [
    "DECISIONS",
    "FORMATS",
    "FUSIONS",
    "KINDS",
    "LATTICE_FORMATS",
    "NORMALIZERS",
    "SCORERS",
    "Kind",
    "lookup",
    "names",
    "package",
    "plugins",
]

#: Outside formats: an object with `read(path) -> Iterator[NBest]` (and `write` where that makes sense). `dlmrescore convert --from NAME`.
FORMATS: dict[str, str] = {
    "jsonl": "rescore.formats.jsonl:JSONL",
    "hyporadise": "rescore.formats.hyporadise:HYPORADISE",
    "mlm-scoring": "rescore.formats.mlm_scoring:MLM_SCORING",
    "espnet": "rescore.formats.espnet:ESPNET",
    "nemo": "rescore.formats.nemo:NEMO",
    "nemo-beams": "rescore.formats.nemo:NEMO_BEAMS",
    "kaldi": "rescore.formats.kaldi:KALDI",
    "srilm": "rescore.formats.srilm:SRILM",
    "wav2letter": "rescore.formats.wav2letter:WAV2LETTER",
    "lattice-rescore": "rescore.formats.lattice_rescore:LATTICE_RESCORE",
    "returnn": "rescore.formats.returnn:RETURNN",
    "mapped-jsonl": "rescore.formats.mapped_jsonl:MAPPED_JSONL",
    "lhotse": "rescore.formats.lhotse:LHOTSE",
    "icefall-recogs": "rescore.formats.icefall_recogs:ICEFALL_RECOGS",
    "ctm": "rescore.formats.ctm:CTM",
    "trn": "rescore.formats.trn:TRN",
}

#: Scorers: a `rescore.scorers.ScorerFamily`, or a function `build(options)` that returns a scorer.
#: `dlmrescore score --scorer NAME`.
SCORERS: dict[str, str] = {
    "mdlm": "rescore.scorers.mdlm:FAMILY",
    "usdm": "rescore.scorers.usdm:FAMILY",
    "ar": "rescore.scorers.ar:FAMILY",
    "mlm": "rescore.scorers.mlm:FAMILY",
    "ngram": "rescore.scorers.ngram:FAMILY",
}

#: Text normalisers, named in checkpoints and by `eval --normalizer`: `str -> str`.
NORMALIZERS: dict[str, str] = {
    "none": "rescore.text:identity",
    "librispeech": "rescore.text:librispeech",
    "whisper-basic": "rescore.text:whisper_basic",
    "whisper-english": "rescore.text:whisper_english",
}

#: Decisions: how one hypothesis is chosen from a scored list. `dlmrescore fuse --decision NAME`.
DECISIONS: dict[str, str] = {
    "map": "rescore.fusion.decisions:map_choice",
    "mbr": "rescore.fusion.decisions:mbr_choice",
}


#: Fusions: how the scores of one list become totals. `"kind": NAME` in the weights that `dlmrescore fuse --fusion` reads.
FUSIONS: dict[str, str] = {
    "linear": "rescore.fusion.totals:linear",
}

#: Lattice formats: an object with `read(path) -> Iterator[Lattice]` (and `write` where that makes sense).
LATTICE_FORMATS: dict[str, str] = {
    "k2": "rescore.lattice.formats.k2:K2",
    "openfst": "rescore.lattice.formats.openfst:OPENFST",
    "kaldi-compact": "rescore.lattice.formats.kaldi_compact:KALDI_COMPACT",
    "slf": "rescore.lattice.formats.slf:SLF",
}


class Kind(NamedTuple):
    """What can be named: the names built in, the entry-point group in which other packages add theirs, and the type of such an object."""

    builtin: Mapping[str, str]
    group: str
    expected: str


#: What a message calls it -> where its names come from.
KINDS: dict[str, Kind] = {
    "format": Kind(FORMATS, "dlmrescore.formats", "rescore.formats.base:Format"),
    "scorer": Kind(SCORERS, "dlmrescore.scorers", "collections.abc:Callable"),
    "normaliser": Kind(NORMALIZERS, "dlmrescore.normalizers", "types:FunctionType"),
    "decision": Kind(DECISIONS, "dlmrescore.decisions", "collections.abc:Callable"),
    "fusion": Kind(FUSIONS, "dlmrescore.fusions", "collections.abc:Callable"),
    "lattice format": Kind(
        LATTICE_FORMATS, "dlmrescore.lattice_formats", "rescore.formats.base:Format"
    ),
}


def plugins(what: str) -> list[EntryPoint]:
    """Return what other packages add to a kind, by name. Their code is not imported."""
    return sorted(entry_points(group=KINDS[what].group), key=lambda point: point.name)


def names(what: str) -> list[str]:
    """Return all names of a kind ("format", "scorer", ...), those of plug-ins too, sorted, without importing any."""
    return sorted({*KINDS[what].builtin, *(point.name for point in plugins(what))})


def lookup(table: Mapping[str, str], name: str, what: str) -> Any:
    """Import and return what `name` stands for in `table`, or in the plug-ins of the kind `what`.

    Raises RescoreError naming the known names if `name` is not one of them, and naming package and entry point if two packages claim the name or
    a plug-in cannot be used.
    """
    points = [point for point in plugins(what) if point.name == name]
    owners = [
        *(f"dlmrescore ({target})" for known, target in table.items() if known == name),
        *map(_described, points),
    ]
    if not owners:
        raise RescoreError(f"{what} {name!r} is unknown; known: {', '.join(names(what))}")
    if len(owners) > 1:
        raise RescoreError(
            f"{what} {name!r} is claimed by {' and by '.join(owners)}; "
            "uninstall one of them, or rename its entry point"
        )
    return _plugin(points[0], what) if points else _imported(table[name])


def package(point: EntryPoint) -> str:
    """Return the name and the version of the package that brings a plug-in."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _plugin(point: EntryPoint, what: str) -> Any:
    try:
        found = point.load()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RescoreError(
            f"{what} {point.name!r} of {_described(point)} cannot be loaded ({reason}); "
            "mend or uninstall that package"
        ) from error
    expected = KINDS[what].expected
    if not isinstance(found, _imported(expected)):
        raise RescoreError(
            f"{what} {point.name!r} of {_described(point)} is of type {type(found).__name__}, "
            f"expected {expected.partition(':')[2]}; see docs/adding.md"
        )
    return found


def _described(point: EntryPoint) -> str:
    return f'{package(point)} (entry point "{point.name} = {point.value}" in {point.group})'
