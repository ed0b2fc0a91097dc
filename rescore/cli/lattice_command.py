"""`dlmrescore lattice`."""

from __future__ import annotations

from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import Sections, format_options, lists_argument, named, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.references import REFERENCE_IDS, read_references
from rescore.lattice import LatticeFormat, lattice_format_of
from rescore.lattice.lists import METHODS, Choice, nbests_of
from rescore.registry import LATTICE_FORMATS, lookup

__all__ = ["command"]


@click.command("lattice", cls=Sections, headings={"--from": "Input and output", "--method": "Which paths", "--am-scale": "Total of a path"})
@lists_argument("LATTICES")
@click.option("--from", "format_name", type=named("lattice format"), help="Format of the lattices; found out where the content proves it.")
@click.option("-O", "--option", "reader_options", multiple=True, metavar="KEY=VALUE", help="Option of the format (see `dlmrescore formats`).")
@click.option("--words", type=click.Path(dir_okay=False), help="Table of words, words.txt; short for -O words=FILE.")
@click.option("--bpe", type=click.Path(dir_okay=False), help="sentencepiece model of the labels; short for -O bpe=FILE.")
@click.option(
    "--supervisions", type=click.Path(dir_okay=False), help="lhotse supervisions or cuts, Kaldi text: references, and ids of k2 lattices that have none."
)
@click.option("--refs-ids", type=click.Choice(REFERENCE_IDS), default="id", show_default=True, help="Which ids a lhotse file goes by (docs/formats.md).")
@output_option
@click.option(
    "--method", type=click.Choice(METHODS), default="nbest", show_default=True, help="The best word sequences, a sample as icefall draws it, every arc once."
)
@click.option("-n", "--count", type=click.IntRange(1), show_default="100, all of a cover", help="Hypotheses of a list, at most; of a sample: paths drawn.")
@click.option("--sample-scale", type=float, default=0.5, show_default=True, help="Of the totals where paths are drawn (icefall: nbest_scale).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option("--posterior", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Leave out arcs that are less likely.")
@click.option("--posterior-scale", type=float, default=1.0, show_default=True, help="Of the totals where probabilities are needed.")
@click.option("--am-scale", type=float, default=1.0, show_default=True, help="Of the acoustic scores.")
@click.option("--lm-scale", type=float, default=1.0, show_default=True, help="Of the n-gram or graph scores.")
@click.option("--word-bonus", type=float, default=0.0, show_default=True, help="Nats for every word.")
@click.option("--lm-name", default="lm", show_default=True, help="Name of the n-gram score in the lists; none leaves it out.")
def command(path: str, output: str, format_name: str | None, lm_name: str, **options: Any) -> None:
    """Make N-best lists of LATTICES: k2, OpenFst, Kaldi or HTK files, without k2.

    \b
    Example: dlmrescore lattice lats.pt --words words.txt -n 100 --supervisions sups.jsonl.gz -o nbest.jsonl
    """
    chosen: LatticeFormat = lookup(LATTICE_FORMATS, format_name, "lattice format") if format_name else lattice_format_of(path)
    keywords = _keywords(chosen, options)
    manifest, ids = options.pop("supervisions"), options.pop("refs_ids")
    for source in (path, *(value for value in (manifest, *keywords.values()) if isinstance(value, str))):
        refuse_same_file(source, output)
    references = None if manifest is None else read_references(manifest, ids=ids)
    if references is not None and chosen.name == "k2":
        keywords["unnamed"] = list(references)
    choice = Choice(**options, lm_name=None if lm_name == "none" else lm_name)
    lists = nbests_of(chosen.read(path, **keywords), choice, references)
    total = None if references is None else len(references)
    count = jsonl.write(tqdm(lists, total=total, desc="lattices", unit="utt", disable=None), output)
    click.echo(f"{count} utterances", err=True)


def _keywords(chosen: LatticeFormat, options: dict[str, Any]) -> dict[str, Any]:
    """The reader's options, with those that have names of their own; they are taken out."""
    given = list(options.pop("reader_options"))
    given += [f"{name}={value}" for name in ("words", "bpe") if (value := options.pop(name)) is not None]
    return format_options(chosen.read_options, given, f"the lattice format {chosen.name}", "-O")
