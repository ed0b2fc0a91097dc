"""Options and small steps that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from rescore.errors import FormatError
from rescore.formats import Format, Skipped, format_of
from rescore.formats.base import Option, parse_options
from rescore.formats.files import atomic_writer, name_of, refuse_same_file
from rescore.formats.references import REFERENCE_IDS, join_references, read_references
from rescore.pipeline.shards import Shard
from rescore.registry import FORMATS, lookup, names
from rescore.types import NBest
from rescore.wer import UNITS, Unit

__all__ = [
    "Reader", "Sections", "format_options", "input_options", "lists_argument", "named", "names_in_list", "output_option",
    "refuse_option_files", "shard_option", "unit_of", "unit_options", "write_json",
]  # fmt: skip

_F = TypeVar("_F", bound=Callable[..., Any])


class Sections(click.Command):
    """A command whose --help has its options under headings: `headings` maps the option that begins a section to the section's heading."""

    def __init__(self, *arguments: Any, headings: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.headings = {**headings, "--help": "Help"}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section, in the order they have."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in (param for param in self.get_params(ctx) if isinstance(param, click.Option)):
            heading = next(
                (self.headings[name] for name in param.opts if name in self.headings), heading
            )
            sections.setdefault(heading, []).extend(filter(None, [param.get_help_record(ctx)]))
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def named(what: str) -> click.Choice[str]:
    """The names of one kind of thing ("format", "scorer", ...), those of installed plug-ins too."""
    return click.Choice(names(what))


def names_in_list(value: str, what: str) -> tuple[str, ...]:
    """Return the names that commas separate. Raises click.BadParameter, saying `what` was expected, if there are none or one comes twice."""
    found = tuple(name.strip() for name in value.split(",") if name.strip())
    if not found or len(set(found)) < len(found):
        raise click.BadParameter(f"got {value!r}, expected different {what} separated by commas")
    return found


def lists_argument(metavar: str = "LISTS") -> Callable[[_F], _F]:
    """The input of a command, a file or `-`."""
    return click.argument("path", metavar=metavar, type=click.Path(allow_dash=True))


output_option = click.option(
    "-o",
    "--output",
    default="-",
    show_default="standard output",
    type=click.Path(dir_okay=False),
    help="Where the result goes.",
)

_INPUT = [
    click.option(
        "--from",
        "format_name",
        type=named("format"),
        help="Format of the input; found out where the content proves it.",
    ),
    click.option(
        "-O",
        "--option",
        "reader_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of the input's format (see `dlmrescore formats`).",
    ),
    click.option(
        "--refs",
        type=click.Path(dir_okay=False),
        help="References: Kaldi text, .trn or .jsonl; they replace those of the lists.",
    ),
    click.option(
        "--refs-ids",
        type=click.Choice(REFERENCE_IDS),
        default="id",
        show_default=True,
        help="Which ids a lhotse file of --refs goes by (docs/formats.md).",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="Broken records: stop, or leave out and count them.",
    ),
]


def input_options(command: _F) -> _F:
    """Add --from, --option, --refs, --refs-ids and --on-error; `Reader.take` reads them."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_INPUT), command)


def _shard(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else Shard.parse(value)


shard_option = click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Only part I of N, from 0; env: as torchrun or SLURM say; see `merge`.",
)


def format_options(
    declared: Mapping[str, Option], given: Iterable[str], owner: str, flag: str
) -> dict[str, Any]:
    """Return the keywords of a reader or writer. Raises click's usage error for options that do not fit, naming those that do."""
    try:
        return parse_options(declared, given, owner, flag)
    except FormatError as error:
        raise click.UsageError(str(error)) from error


def refuse_option_files(
    declared: Mapping[str, Option], values: Mapping[str, Any], output: str
) -> None:
    """Raise FormatError if the output is a file that one of a format's options names, which is read."""
    for key, option in declared.items():
        if option.is_file and values.get(key) is not None:
            refuse_same_file(values[key], output)


_UNIT = [
    click.option(
        "--unit",
        type=click.Choice(UNITS),
        help="What errors are counted in (docs/terms.md); default: word.",
    ),
    click.option("--cer", is_flag=True, help="Short for --unit char."),
]


def unit_options(command: _F) -> _F:
    """Add --unit and --cer."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_UNIT), command)


def unit_of(unit: Unit | None, cer: bool) -> Unit:
    """Return what --unit and --cer say. Raises click.UsageError if they contradict each other."""
    if cer and unit not in (None, "char"):
        raise click.UsageError(
            f"--cer is short for --unit char, and --unit {unit} is given too; keep one of them"
        )
    return "char" if cer else unit or "word"


class Reader:
    """Reads the lists of one input as the shared options say, and reports what was left out."""

    def __init__(
        self,
        path: str,
        output: str,
        format_name: str | None = None,
        refs: str | None = None,
        refs_ids: str = "id",
        on_error: str = "stop",
        reader_options: Iterable[str] = (),
    ) -> None:
        refuse_same_file(path, output)
        if refs is None and refs_ids != "id":
            raise click.UsageError(
                "--refs-ids says which ids the file of --refs goes by; give --refs"
            )
        self._path, self._refs, self._refs_ids = path, refs, refs_ids
        self._format: Format[NBest] = (
            lookup(FORMATS, format_name, "format") if format_name is not None else format_of(path)
        )
        self._options = format_options(
            self._format.read_options, reader_options, f"--from {self._format.name}", "-O"
        )
        if refs is not None:
            refuse_same_file(refs, output)
        refuse_option_files(self._format.read_options, self._options, output)
        self._skipped = Skipped() if on_error == "skip" else None

    @classmethod
    def take(cls, path: str, output: str, options: dict[str, Any]) -> Reader:
        """Make a reader of a command's options; those of `input_options` are taken out, the others stay for the command."""
        return cls(
            path,
            output,
            **{
                name: options.pop(name)
                for name in ("format_name", "refs", "refs_ids", "on_error", "reader_options")
            },
        )

    def __iter__(self) -> Iterator[NBest]:
        lists: Iterable[NBest] = self._format.read(
            self._path, skipped=self._skipped, **self._options
        )
        if self._refs is not None:
            lists = self._joined(lists, read_references(self._refs, ids=self._refs_ids))
        count = 0
        for count, nbest in enumerate(lists, 1):  # noqa: B007 - counted for the check below
            yield nbest
        self._report()
        if not count:
            raise FormatError(
                f"{name_of(self._path)}: holds no usable list; expected at least one utterance"
            )

    def _joined(self, lists: Iterable[NBest], references: Mapping[str, str]) -> Iterator[NBest]:
        for nbest in lists:
            try:
                yield from join_references([nbest], references)
            except FormatError as error:
                if self._skipped is None:
                    raise
                self._skipped.add(error)

    def _report(self) -> None:
        if self._skipped is not None and self._skipped.count:
            for message in self._skipped.messages:
                click.echo(f"skipped: {message}", err=True)
            click.echo(
                f"{name_of(self._path)}: {self._skipped.count} broken records were skipped",
                err=True,
            )

    def total(self) -> int | None:
        """The number of lines of a plain native file, for progress bars; None where it would have to be guessed."""
        path = Path(self._path)
        if path.suffix != ".jsonl" or not path.is_file():
            return None
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def write_json(result: Any, output: str) -> None:
    """Write one JSON result, indented, to a file (whole or not at all) or to standard output."""
    with atomic_writer(output) as out:
        out.write(json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
