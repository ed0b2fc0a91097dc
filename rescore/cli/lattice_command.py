"""`dlmrescore lattice`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from rescore.cli.lists import format_options
from rescore.cli.options import (
    SEED_RANGE,
    Sections,
    collected,
    lists_argument,
    named,
    output_option,
)
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.references import REFERENCE_IDS, read_references
from rescore.lattice import Lattice, LatticeFormat, lattice_format_of
from rescore.lattice.lists import METHODS, Choice, nbests_of
from rescore.progress import progress_bar
from rescore.registry import LATTICE_FORMATS, lookup
from rescore.scorers import ScorerOptions, Spec, load_scorer
from rescore.types import NBest

__all__ = ["command"]


@dataclass(frozen=True)
class _Source:
    """The lattices to read, how to read them, and their references."""

    path: str
    format_name: str | None
    reader_options: tuple[str, ...]
    words: str | None
    bpe: str | None
    supervisions: str | None
    refs_ids: str

    def format(self) -> LatticeFormat:
        """The format that is named, or that the content proves."""
        if self.format_name is None:
            return lattice_format_of(self.path)
        named_format: LatticeFormat = lookup(LATTICE_FORMATS, self.format_name, "lattice format")
        return named_format

    def references(self) -> dict[str, str] | None:
        """The references by id; None without --supervisions."""
        if self.supervisions is None:
            return None
        return dict(read_references(self.supervisions, ids=self.refs_ids))

    def keywords(self, lattice_format: LatticeFormat) -> dict[str, Any]:
        """The reader's options, those with options of their own included."""
        assignments = list(self.reader_options)
        for name, value in (("words", self.words), ("bpe", self.bpe)):
            if value is not None:
                assignments.append(f"{name}={value}")
        owner = f"the lattice format {lattice_format.name}"
        return format_options(lattice_format.read_options, assignments, owner, "-O")


_SOURCE = [
    lists_argument("LATTICES"),
    click.option(
        "--from",
        "format_name",
        type=named("lattice format"),
        help="Format of the lattices; by default recognised by content, where that is certain.",
    ),
    click.option(
        "-O",
        "--option",
        "reader_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of the format (see `dlmrescore formats`).",
    ),
    click.option(
        "--words",
        type=click.Path(dir_okay=False),
        help="Word table, words.txt; short for -O words=FILE.",
    ),
    click.option(
        "--bpe",
        type=click.Path(dir_okay=False),
        help="SentencePiece model of the labels; short for -O bpe=FILE.",
    ),
    click.option(
        "--supervisions",
        type=click.Path(dir_okay=False),
        help="References (lhotse supervisions or cuts, Kaldi text), which also give ids to k2 "
        "lattices that have none.",
    ),
    click.option(
        "--refs-ids",
        type=click.Choice(REFERENCE_IDS),
        default="id",
        show_default=True,
        help="Which ids of a lhotse file match the lattices (docs/formats.md).",
    ),
]


def _lm_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str | None:
    return None if value == "none" else value


_CHOICE = [
    click.option(
        "--lm-name",
        default="lm",
        show_default=True,
        callback=_lm_name,
        help="Name of the n-gram score in the lists; none leaves the score out.",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="nbest",
        show_default=True,
        help="nbest: the best word sequences; sample: random paths, as icefall draws them; cover: "
        "paths that contain every arc.",
    ),
    click.option(
        "-n",
        "--count",
        type=click.IntRange(1),
        show_default="100, all of a cover",
        help="Largest number of hypotheses in a list; for sample, the number of paths drawn.",
    ),
    click.option(
        "--sample-scale",
        type=float,
        default=0.5,
        show_default=True,
        help="Scale of the totals when paths are drawn (icefall: nbest_scale).",
    ),
    click.option(
        "--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of the sample."
    ),
    click.option(
        "--posterior",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Prune arcs whose posterior probability is lower.",
    ),
    click.option(
        "--posterior-scale",
        type=float,
        default=1.0,
        show_default=True,
        help="Scale of the totals when posteriors are computed.",
    ),
    click.option(
        "--am-scale",
        type=float,
        default=1.0,
        show_default=True,
        help="Scale of the acoustic scores.",
    ),
    click.option(
        "--lm-scale",
        type=float,
        default=1.0,
        show_default=True,
        help="Scale of the n-gram or graph scores.",
    ),
    click.option(
        "--word-bonus", type=float, default=0.0, show_default=True, help="Nats for each word."
    ),
]


@dataclass(frozen=True)
class _Search:
    """The search with a scorer: which (None: no search), the scale of its score, the device."""

    rescore: str | None
    new_scale: float | None
    device: str


_SEARCH = [
    click.option(
        "--rescore",
        metavar="SPEC",
        help="Search the lattice for the best total with this scorer, "
        "[NAME=]SCORER[:ESTIMATOR][@MODEL]: a heuristic (docs/lattices.md).",
    ),
    click.option(
        "--new-scale", type=float, help="Scale of the scorer's score; required with --rescore."
    ),
    click.option("--device", default="cpu", show_default=True, help="torch device of the scorer."),
]


@click.command(
    "lattice",
    cls=Sections,
    headings={
        "--from": "Input and output",
        "--method": "Which paths",
        "--am-scale": "Total of a path",
        "--rescore": "Search",
    },
)
@collected(_Source, "source", _SOURCE)
@output_option
@collected(Choice, "choice", _CHOICE)
@collected(_Search, "search", _SEARCH)
def command(source: _Source, output: str, choice: Choice, search: _Search) -> None:
    """Make N-best lists of LATTICES: k2, OpenFst, Kaldi or HTK files, without k2.

    \b
    Example: dlmrescore lattice lats.pt --words words.txt -n 100 -o nbest.jsonl
             dlmrescore lattice lats.pt --rescore usdm --new-scale 0.7 -o best.jsonl
    """
    lattice_format = source.format()
    keywords = source.keywords(lattice_format)
    for path in (source.path, source.supervisions, *keywords.values()):
        if isinstance(path, str):
            refuse_same_file(path, output)
    references = source.references()
    if references is not None and lattice_format.takes_ids:
        keywords["unnamed"] = list(references)
    lattices = lattice_format.read(source.path, **keywords)
    lists = _lists(lattices, references, choice, search)
    total = None if references is None else len(references)
    count = jsonl.write(
        progress_bar(lists, total=total, description="lattices", unit="utterances"), output
    )
    click.echo(f"{count} utterances", err=True)


def _lists(
    lattices: Iterator[Lattice],
    references: Mapping[str, str] | None,
    choice: Choice,
    search: _Search,
) -> Iterator[NBest]:
    """Lists by the recogniser's own scores, or by the search with a scorer."""
    if search.rescore is not None:
        return _searched(lattices, references, choice, search)
    if search.new_scale is not None:
        raise click.UsageError(
            "--new-scale is the scale of the scorer of --rescore; give both or neither"
        )
    return nbests_of(lattices, choice, references)


def _searched(
    lattices: Iterator[Lattice],
    references: Mapping[str, str] | None,
    choice: Choice,
    search: _Search,
) -> Iterator[NBest]:
    """Lists of the paths that the search has scored."""
    from rescore.decoding.lattice_search import (  # noqa: PLC0415 - torch
        LatticeWeights,
        SearchOptions,
        rescore_lattices,
    )

    if search.new_scale is None or choice.method != "nbest" or choice.lm_name is None:
        raise click.UsageError(
            "--rescore needs --new-scale, and works with neither --method nor --lm-name none"
        )
    spec = Spec.parse(search.rescore or "")
    scorer = load_scorer(spec.scorer, spec.options(ScorerOptions(device=search.device)))
    weights = LatticeWeights(
        choice.am_scale,
        choice.lm_scale,
        search.new_scale,
        choice.word_bonus,
        choice.posterior_scale,
    )
    options = SearchOptions(lm_name=choice.lm_name)
    if choice.posterior:
        options = replace(options, posterior=choice.posterior)
    if choice.count is not None:
        options = replace(options, max_paths=choice.count)
    return rescore_lattices(
        lattices, scorer, weights, options, name=spec.name, references=references
    )
