"""Options that several commands share.

A decorator such as `input_options` adds click options to a command and hands them to it as one
frozen record, so that every command takes its parameters by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce, wraps
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from rescore.arguments import close_to
from rescore.cli.lists import InputOptions
from rescore.errors import RescoreError
from rescore.formats.files import atomic_writer
from rescore.formats.references import REFERENCE_IDS
from rescore.pipeline.shards import Shard
from rescore.registry import names
from rescore.scorers.options import FOLDS, Spec
from rescore.wer import UNITS, Unit

__all__ = [
    "NORMALIZER_OPTION",
    "RAY_OPTIONS",
    "SEED_RANGE",
    "UNIT_OPTIONS",
    "Counting",
    "Sections",
    "collected",
    "counting_options",
    "cross_validate_option",
    "device_of",
    "folds_option",
    "input_options",
    "lists_argument",
    "named",
    "names_in_list",
    "output_option",
    "remote_code_option",
    "scorer_option",
    "shard_option",
    "unit_options",
    "uses_ray",
    "write_json",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_Decorator = Callable[[Any], Any]


#: What every --seed may be: torch, NumPy and our own keyed draws take all of these.
SEED_RANGE = click.IntRange(0, 2**32 - 1)


class Sections(click.Command):
    """A command whose --help shows its options under headings.

    `headings` maps the option that begins a section to the heading of the section.
    """

    def __init__(self, *arguments: Any, headings: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.headings = {**headings, "--help": "Help"}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section, in the order of their declaration."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            if not isinstance(param, click.Option):
                continue
            for flag in param.opts:
                heading = self.headings.get(flag, heading)
            row = param.get_help_record(ctx)
            if row is not None:
                sections.setdefault(heading, []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class _Names(click.Choice[str]):
    """A choice of names that says which one was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name. Raises click.BadParameter for one that is unknown."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            meant = close_to(str(value), self.choices)
            raise click.BadParameter(
                f"{error.message.rstrip('.')}{meant or '.'}", ctx, param
            ) from error


def named(kind: str) -> click.Choice[str]:
    """The names of one kind ("format", "scorer", ...), those of installed plug-ins included."""
    return _Names(names(kind))


class _SpecType(click.ParamType[Spec]):
    """`[NAME=]SCORER[:ESTIMATOR][@MODEL]`, as everywhere that a scorer is chosen."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Spec:
        """The specification. Raises click.BadParameter for a scorer that is unknown."""
        if isinstance(value, Spec):
            return value
        try:
            spec = Spec.parse(value)
        except RescoreError as error:
            self.fail(str(error), param, ctx)
        known = names("scorer")
        if spec.scorer not in known:
            self.fail(
                f"{spec.scorer!r} is not one of {', '.join(known)}{close_to(spec.scorer, known)}",
                param,
                ctx,
            )
        return spec

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The scorers that begin like this."""
        return [CompletionItem(name) for name in names("scorer") if name.startswith(incomplete)]


def scorer_option(help_text: str) -> Callable[[_F], _F]:
    """Add --scorer; the command gets a `Spec`."""
    return click.option(
        "--scorer",
        type=_SpecType(),
        default="mdlm",
        show_default=True,
        metavar="SPEC",
        help=f"{help_text} [NAME=]SCORER[:ESTIMATOR][@MODEL], where SCORER is one of "
        f"{', '.join(names('scorer'))}.",
    )


def names_in_list(value: str, expected: str) -> tuple[str, ...]:
    """Return the names that commas separate.

    Raises click.BadParameter, which names what was `expected`, for no names or a repeated one.
    """
    parts = tuple(name.strip() for name in value.split(",") if name.strip())
    if not parts or len(set(parts)) < len(parts):
        raise click.BadParameter(
            f"got {value!r}, expected different {expected} separated by commas"
        )
    return parts


def collected(record: type[Any], keyword: str, options: Sequence[_Decorator]) -> Callable[[_F], _F]:
    """A decorator that adds options and hands them to the command as one record.

    `record` is a dataclass whose fields are called like the options; the command gets it as the
    parameter `keyword`.
    """
    names_of_options = [field.name for field in fields(record)]

    def decorate(command: _F) -> _F:
        @wraps(command)
        def with_record(**parameters: Any) -> Any:
            values = {name: parameters.pop(name) for name in names_of_options}
            return command(**parameters, **{keyword: record(**values)})

        decorated: _F = _add(options, with_record)
        return decorated

    return decorate


def _add(options: Iterable[_Decorator], command: Any) -> Any:
    """Apply decorators so that --help shows the options in this order."""
    return reduce(lambda wrapped, option: option(wrapped), reversed([*options]), command)


def lists_argument(metavar: str = "LISTS") -> Callable[[_F], _F]:
    """The input of a command: a file, or `-` for standard input."""
    return click.argument("path", metavar=metavar, type=click.Path(allow_dash=True))


output_option = click.option(
    "-o",
    "--output",
    default="-",
    show_default="standard output",
    type=click.Path(dir_okay=False),
    help="Output file.",
)

_INPUT = [
    click.option(
        "--from",
        "format_name",
        type=named("format"),
        help="Format of the input; by default recognised by its content, where that is certain.",
    ),
    click.option(
        "-O",
        "--option",
        "reader_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of the input format (see `dlmrescore formats`).",
    ),
    click.option(
        "--refs",
        type=click.Path(dir_okay=False),
        help="References (Kaldi text, .trn or .jsonl), in place of those in the lists.",
    ),
    click.option(
        "--refs-ids",
        type=click.Choice(REFERENCE_IDS),
        default="id",
        show_default=True,
        help="Which ids of a lhotse file in --refs match the lists (docs/formats.md).",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="At a broken record: stop, or skip it and report the count.",
    ),
]


def input_options(metavar: str | None = "LISTS") -> Callable[[_F], _F]:
    """Add the argument for the lists and the options that say how to read them.

    The command gets them as `source`, an `InputOptions`. None as `metavar` leaves the argument
    out: the command then declares a parameter `path` of its own.
    """
    argument = [] if metavar is None else [lists_argument(metavar)]
    return collected(InputOptions, "source", [*argument, *_INPUT])


def _shard(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else Shard.parse(value)


shard_option = click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Score only shard I of N, from 0; env: as torchrun or SLURM set it. Join with `merge`.",
)

#: Options of a run whose chunks may be evaluated by Ray: `workers` and `ray_address`.
RAY_OPTIONS = [
    click.option(
        "--ray",
        "workers",
        metavar="N",
        type=click.IntRange(1),
        help="Number of Ray workers (docs/large_runs.md).",
    ),
    click.option(
        "--ray-address",
        help="Address of a running Ray cluster, or auto; default: start one on this machine.",
    ),
]


def uses_ray(workers: int | None, address: str | None) -> bool:
    """Whether a run uses Ray. Raises click.UsageError for an address without workers."""
    if workers is None and address is not None:
        raise click.UsageError(
            "--ray-address is the address of the cluster for --ray N; give --ray too"
        )
    return workers is not None


def device_of(shard: Shard | None, device: str) -> str:
    """The device of a shard: the processes of one machine get a GPU each for `cuda`."""
    if shard is None or device != "cuda":
        return device
    import torch  # noqa: PLC0415 - takes seconds

    return shard.device(device, torch.cuda.device_count())


folds_option = click.option(
    "--folds",
    type=click.IntRange(1),
    help="K evaluations for the PLL of mdlm or mlm, each hiding every K-th token. Default: one "
    f"evaluation for each token, but {FOLDS} folds for mdlm without an estimator.",
)

remote_code_option = click.option(
    "--remote-code",
    is_flag=True,
    help="Run code that comes with a Hub model. Only for repositories that you trust.",
)


def _cer(context: click.Context, _parameter: click.Parameter, is_char: bool) -> None:
    """Settle the unit. --unit is eager, so that it is read before --cer."""
    unit: Unit | None = context.params["unit"]
    if is_char and unit not in (None, "char"):
        raise click.UsageError(
            f"--cer is short for --unit char, but --unit {unit} is given too; keep one of them"
        )
    context.params["unit"] = "char" if is_char else unit or "word"


UNIT_OPTIONS = [
    click.option(
        "--unit",
        type=click.Choice(UNITS),
        is_eager=True,
        help="Unit in which errors are counted (docs/terms.md); default: word.",
    ),
    click.option(
        "--cer",
        is_flag=True,
        expose_value=False,
        callback=_cer,
        help="Short for --unit char.",
    ),
]
NORMALIZER_OPTION = click.option(
    "--normalizer",
    type=named("normaliser"),
    default="none",
    show_default=True,
    help="Applied to references and hypotheses before errors are counted.",
)


def unit_options(command: _F) -> _F:
    """Add --unit and --cer; the command gets them as `unit`."""
    decorated: _F = _add(UNIT_OPTIONS, command)
    return decorated


@dataclass(frozen=True)
class Counting:
    """How errors are counted: in which unit, after which normaliser."""

    unit: Unit
    normalizer: str


#: Add --unit, --cer and --normalizer; the command gets them as `counting`, a `Counting`.
counting_options = collected(Counting, "counting", [*UNIT_OPTIONS, NORMALIZER_OPTION])


def _folds(_context: click.Context, _parameter: click.Parameter, value: int | None) -> int:
    return value or 0


def cross_validate_option(help_text: str) -> Callable[[_F], _F]:
    """Add --cross-validate; the command gets the number of folds, 0 without the option."""
    return click.option(
        "--cross-validate",
        type=click.IntRange(2),
        callback=_folds,
        metavar="K",
        help=help_text,
    )


def write_json(result: Any, output: str) -> None:
    """Write one JSON result, indented, to a file (whole or not at all) or to standard output."""
    with atomic_writer(output) as out:
        out.write(json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
