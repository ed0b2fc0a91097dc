"""`dlmrescore lattice`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import Sections, format_options, lists_argument, named, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.references import REFERENCE_IDS, read_references
from rescore.lattice import Lattice, LatticeFormat, lattice_format_of
from rescore.lattice.lists import METHODS, Choice, nbests_of
from rescore.registry import LATTICE_FORMATS, lookup
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.options import parse_spec
from rescore.types import NBest

__all__ = ["command"]


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
@lists_argument("LATTICES")
@click.option(
    "--from",
    "format_name",
    type=named("lattice format"),
    help="Format of the lattices; found out where the content proves it.",
)
@click.option(
    "-O",
    "--option",
    "reader_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the format (see `dlmrescore formats`).",
)
@click.option(
    "--words",
    type=click.Path(dir_okay=False),
    help="Table of words, words.txt; short for -O words=FILE.",
)
@click.option(
    "--bpe",
    type=click.Path(dir_okay=False),
    help="sentencepiece model of the labels; short for -O bpe=FILE.",
)
@click.option(
    "--supervisions",
    type=click.Path(dir_okay=False),
    help="lhotse supervisions or cuts, Kaldi text: references, and ids of k2 lattices that have none.",
)
@click.option(
    "--refs-ids",
    type=click.Choice(REFERENCE_IDS),
    default="id",
    show_default=True,
    help="Which ids a lhotse file goes by (docs/formats.md).",
)
@click.option(
    "--lm-name",
    default="lm",
    show_default=True,
    help="Name of the n-gram score in the lists; none leaves it out.",
)
@output_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="nbest",
    show_default=True,
    help="The best word sequences, a sample as icefall draws it, every arc once.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    show_default="100, all of a cover",
    help="Hypotheses of a list, at most; of a sample: paths drawn.",
)
@click.option(
    "--sample-scale",
    type=float,
    default=0.5,
    show_default=True,
    help="Of the totals where paths are drawn (icefall: nbest_scale).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--posterior",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out arcs that are less likely.",
)
@click.option(
    "--posterior-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Of the totals where probabilities are needed.",
)
@click.option(
    "--am-scale", type=float, default=1.0, show_default=True, help="Of the acoustic scores."
)
@click.option(
    "--lm-scale", type=float, default=1.0, show_default=True, help="Of the n-gram or graph scores."
)
@click.option(
    "--word-bonus", type=float, default=0.0, show_default=True, help="Nats for every word."
)
@click.option(
    "--rescore",
    metavar="SPEC",
    help="Search the lattice for the best total with this scorer, [NAME=]SCORER[:ESTIMATOR][@MODEL]: a heuristic (docs/lattices.md).",
)
@click.option("--new-scale", type=float, help="Of the scorer's score; needed with --rescore.")
@click.option("--device", default="cpu", show_default=True, help="torch device of the scorer.")
def command(path: str, output: str, format_name: str | None, lm_name: str, **options: Any) -> None:
    """Make N-best lists of LATTICES: k2, OpenFst, Kaldi or HTK files, without k2.

    \b
    Example: dlmrescore lattice lats.pt --words words.txt -n 100 --supervisions sups.jsonl.gz -o nbest.jsonl
             dlmrescore lattice lats.pt --words words.txt --rescore usdm --new-scale 0.7 -o best.jsonl
    """
    chosen: LatticeFormat = (
        lookup(LATTICE_FORMATS, format_name, "lattice format")
        if format_name
        else lattice_format_of(path)
    )
    keywords = _keywords(chosen, options)
    manifest, ids = options.pop("supervisions"), options.pop("refs_ids")
    for source in (
        path,
        *(value for value in (manifest, *keywords.values()) if isinstance(value, str)),
    ):
        refuse_same_file(source, output)
    references = None if manifest is None else read_references(manifest, ids=ids)
    if references is not None and chosen.takes_ids:
        keywords["unnamed"] = list(references)
    lattices = chosen.read(path, **keywords)
    lists = (
        _searched(lattices, references, lm_name, options)
        if options["rescore"]
        else _listed(lattices, references, lm_name, options)
    )
    total = None if references is None else len(references)
    count = jsonl.write(tqdm(lists, total=total, desc="lattices", unit="utt", disable=None), output)
    click.echo(f"{count} utterances", err=True)


def _listed(
    lattices: Iterator[Lattice],
    references: Mapping[str, str] | None,
    lm_name: str,
    options: dict[str, Any],
) -> Iterator[NBest]:
    """Lists by the recogniser's own scores."""
    if options.pop("new_scale") is not None:
        raise click.UsageError("--new-scale is of the scorer of --rescore; give both or neither")
    choice = Choice(
        **{name: value for name, value in options.items() if name not in ("rescore", "device")},
        lm_name=None if lm_name == "none" else lm_name,
    )
    return nbests_of(lattices, choice, references)


def _searched(
    lattices: Iterator[Lattice],
    references: Mapping[str, str] | None,
    lm_name: str,
    options: dict[str, Any],
) -> Iterator[NBest]:
    """Lists of the paths that a search with a scorer has scored."""
    from rescore.decoding.lattice_search import (  # noqa: PLC0415 - torch
        LatticeWeights,
        SearchOptions,
        rescore_lattices,
    )

    if options["new_scale"] is None or options["method"] != "nbest" or lm_name == "none":
        raise click.UsageError(
            "--rescore needs --new-scale, and goes with neither --method nor --lm-name none"
        )
    name, scorer, settings = parse_spec(options["rescore"], ScorerOptions(device=options["device"]))
    weights = LatticeWeights(
        options["am_scale"],
        options["lm_scale"],
        options["new_scale"],
        options["word_bonus"],
        options["posterior_scale"],
    )
    search = SearchOptions(lm_name=lm_name)
    if options["posterior"]:
        search = replace(search, posterior=options["posterior"])
    if options["count"] is not None:
        search = replace(search, max_paths=options["count"])
    return rescore_lattices(
        lattices,
        load_scorer(scorer, settings),
        weights,
        search,
        name=name,
        references=references,
    )


def _keywords(chosen: LatticeFormat, options: dict[str, Any]) -> dict[str, Any]:
    """The reader's options, with those that have names of their own; they are taken out."""
    given = list(options.pop("reader_options"))
    given += [
        f"{name}={value}" for name in ("words", "bpe") if (value := options.pop(name)) is not None
    ]
    return format_options(chosen.read_options, given, f"the lattice format {chosen.name}", "-O")
