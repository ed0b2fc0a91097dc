"""The file to open first: every name a user can give on the command line, and the code behind it.

Each table maps a name to "module:object". Open the module to see what the name does; add a line to
give your own code a name. Other packages add names by entry points (docs/adding.md).

    SCORERS          score --scorer NAME        texts to scores
    DECODERS         decode --method NAME       audio to lists of hypotheses
    FORMATS          --from, convert --to NAME  files of N-best lists to lists, and back
    LATTICE_FORMATS  lattice --from NAME        files of lattices to lattices, and back
    POSTERIOR_FORMATS  posteriors --from NAME   files of other tools to posteriors
    NORMALIZERS      eval --normalizer NAME     text to the words that are compared or modelled
    FUSIONS          "kind": NAME in weights    the scores of one list to totals
    DECISIONS        fuse --decision NAME       a scored list to its winner

Names with few fixed values stay in their rooms: estimators (`--scorer mlm:NAME`) in the scorer's
own module, units of errors in `rescore.wer.counts.UNITS`, ways to take hypotheses from a
lattice in `rescore.lattice.lists.METHODS`, training objectives (`train NAME`) in
`rescore.models.objectives.OBJECTIVES`, embedded models in `rescore.models.embedded`. Commands are
files: `dlmrescore score` is `rescore/cli/score_command.py`.

Nothing is imported before it is used: a missing optional library or a broken plug-in affects only
those who ask for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from rescore.arguments import close_to
from rescore.errors import RescoreError

__all__ = [
    "DECISIONS",
    "DECODERS",
    "FORMATS",
    "FUSIONS",
    "KINDS",
    "LATTICE_FORMATS",
    "NORMALIZERS",
    "POSTERIOR_FORMATS",
    "SCORERS",
    "Kind",
    "lookup",
    "names",
    "package",
    "plugins",
    "resolve",
]

#: Formats of N-best lists: each a `rescore.formats.Format`, reader and perhaps writer.
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
    "whisper": "rescore.formats.whisper:WHISPER",
    "lhotse": "rescore.formats.lhotse:LHOTSE",
    "icefall-recogs": "rescore.formats.icefall_recogs:ICEFALL_RECOGS",
    "ctm": "rescore.formats.ctm:CTM",
    "trn": "rescore.formats.trn:TRN",
    "text": "rescore.formats.plain_text:TEXT",
}

#: Scorers: each a `rescore.scorers.ScorerFamily`, or a function `build(options)` that returns a
#: scorer.
SCORERS: dict[str, str] = {
    "mdlm": "rescore.scorers.mdlm:FAMILY",
    "usdm": "rescore.scorers.usdm:FAMILY",
    "ar": "rescore.scorers.ar:FAMILY",
    "mlm": "rescore.scorers.mlm:FAMILY",
    "ngram": "rescore.scorers.ngram:FAMILY",
    "mdm": "rescore.scorers.mdm:FAMILY",
    "ctc": "rescore.scorers.ctc:FAMILY",
    "ctc_prior": "rescore.scorers.ctc:PRIOR",
}

#: Decoders: each a `rescore.decoding.base.DecoderFamily`.
DECODERS: dict[str, str] = {
    "ctc_greedy": "rescore.decoding.ctc:GREEDY",
    "ctc_beam": "rescore.decoding.ctc:BEAM",
    "joint": "rescore.decoding.joint_method:JOINT",
    "joint_mdlm": "rescore.decoding.joint_method:JOINT_MDLM",
    "mdm": "rescore.decoding.mdm_method:MDM",
    "prior_guided": "rescore.decoding.prior_guided_method:PRIOR_GUIDED",
    "deliberate": "rescore.decoding.deliberate_method:DELIBERATE",
}

#: Text normalisers: each a function `str -> str`. The config.json of a model names one, too.
NORMALIZERS: dict[str, str] = {
    "none": "rescore.text:identity",
    "librispeech": "rescore.text:librispeech",
    "whisper-basic": "rescore.text:whisper_basic",
    "whisper-english": "rescore.text:whisper_english",
}

#: Decisions: each a function `(texts, totals, temperature) -> index of the winner`.
DECISIONS: dict[str, str] = {
    "map": "rescore.fusion.decisions:map_choice",
    "mbr": "rescore.fusion.decisions:mbr_choice",
}

#: Fusions: each a function `(features, scales, words, word_bonus) -> totals`.
FUSIONS: dict[str, str] = {
    "linear": "rescore.fusion.totals:linear",
}

#: Formats of lattices: each a `rescore.formats.Format`, as for lists.
LATTICE_FORMATS: dict[str, str] = {
    "k2": "rescore.lattice.formats.k2:K2",
    "openfst": "rescore.lattice.formats.openfst:OPENFST",
    "kaldi-compact": "rescore.lattice.formats.kaldi_compact:KALDI_COMPACT",
    "slf": "rescore.lattice.formats.slf:SLF",
}

#: Formats of posteriors: each a `rescore.formats.Format`, as for lists.
POSTERIOR_FORMATS: dict[str, str] = {
    "posteriors": "rescore.acoustic.formats.posteriors:POSTERIORS",
    "arrays": "rescore.acoustic.formats.arrays:ARRAYS",
    "kaldi": "rescore.acoustic.formats.kaldi:KALDI",
    "nemo": "rescore.acoustic.formats.nemo:NEMO",
    "lhotse": "rescore.acoustic.formats.lhotse:LHOTSE",
}


class Kind(NamedTuple):
    """One kind of named thing."""

    builtin: Mapping[str, str]  #: the names of this package
    group: str  #: the entry-point group in which other packages add names
    expected: str  #: "module:type" of the objects


#: Kind, as messages call it -> where its names come from.
KINDS: dict[str, Kind] = {
    "format": Kind(FORMATS, "dlmrescore.formats", "rescore.formats.base:Format"),
    "scorer": Kind(SCORERS, "dlmrescore.scorers", "collections.abc:Callable"),
    "decoder": Kind(DECODERS, "dlmrescore.decoders", "rescore.decoding.base:DecoderFamily"),
    "normaliser": Kind(NORMALIZERS, "dlmrescore.normalizers", "types:FunctionType"),
    "decision": Kind(DECISIONS, "dlmrescore.decisions", "collections.abc:Callable"),
    "fusion": Kind(FUSIONS, "dlmrescore.fusions", "collections.abc:Callable"),
    "lattice format": Kind(
        LATTICE_FORMATS, "dlmrescore.lattice_formats", "rescore.formats.base:Format"
    ),
    "posterior format": Kind(
        POSTERIOR_FORMATS, "dlmrescore.posterior_formats", "rescore.formats.base:Format"
    ),
}


def plugins(what: str) -> list[EntryPoint]:
    """Return the entry points that other packages add to a kind, sorted by name; imports none."""
    return list(_points(KINDS[what].group, tuple(sys.path)))


@cache
def _points(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group; packages are looked for once for each search path."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def names(what: str) -> list[str]:
    """Return all names of a kind ("format", "scorer", ...), plug-ins included; imports none."""
    return sorted({*KINDS[what].builtin, *(point.name for point in plugins(what))})


def lookup(table: Mapping[str, str], name: str, what: str) -> Any:
    """Import and return the object called `name` in `table` or among the plug-ins of kind `what`.

    Raises RescoreError, listing the known names, for an unknown one; naming package and entry
    point, if two packages claim the name or a plug-in cannot be used.
    """
    points = [point for point in plugins(what) if point.name == name]
    owners = [
        *([f"dlmrescore ({table[name]})"] if name in table else []),
        *map(_described, points),
    ]
    if not owners:
        known = names(what)
        raise RescoreError(
            f"{what} {name!r} is unknown; known: {', '.join(known)}{close_to(name, known)}"
        )
    if len(owners) > 1:
        raise RescoreError(
            f"{what} {name!r} is claimed by {' and by '.join(owners)}; "
            "uninstall one of them, or rename its entry point"
        )
    return _plugin(points[0], what) if points else resolve(table[name])


def package(point: EntryPoint) -> str:
    """Return name and version of the package that a plug-in belongs to."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def resolve(target: str) -> Any:
    """Import and return what "module:object" names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _plugin(point: EntryPoint, what: str) -> Any:
    try:
        plugin = point.load()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RescoreError(
            f"{what} {point.name!r} of {_described(point)} cannot be loaded ({reason}); "
            "fix or uninstall that package"
        ) from error
    expected = KINDS[what].expected
    if not isinstance(plugin, resolve(expected)):
        raise RescoreError(
            f"{what} {point.name!r} of {_described(point)} is of type {type(plugin).__name__}, "
            f"expected {expected.partition(':')[2]}; see docs/adding.md"
        )
    return plugin


def _described(point: EntryPoint) -> str:
    return f'{package(point)} (entry point "{point.name} = {point.value}" in {point.group})'
