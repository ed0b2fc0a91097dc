"""`dlmrescore posteriors --from FORMAT`: posteriors of other tools, or of the shards of a run."""

from __future__ import annotations

import click
from click.core import ParameterSource

from rescore.acoustic.loading import EncoderOptions
from rescore.acoustic.posterior_file import write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.cli.lists import format_options, refuse_option_files
from rescore.formats import Format
from rescore.registry import POSTERIOR_FORMATS, lookup

__all__ = ["convert", "require_model"]

#: Parameters that go with --from; the others are about audio.
_OF_CONVERSION = {"audio", "output", "format_name", "reader_options", "store"}


def convert(
    path: str, output: str, store: str | None, format_name: str, reader_options: tuple[str, ...]
) -> str:
    """Write what a file of another tool holds as one of ours, and return a summary.

    Raises click.UsageError for options about audio.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        is_default = context.get_parameter_source(name) == ParameterSource.DEFAULT
        if name not in _OF_CONVERSION and not is_default:
            raise click.UsageError(
                f"{parameter.opts[0]} is about audio, and --from {format_name} reads none"
            )
    posterior_format: Format[Posteriors] = lookup(
        POSTERIOR_FORMATS, format_name, "posterior format"
    )
    declared, owner = posterior_format.read_options, f"--from {format_name}"
    options = format_options(declared, reader_options, owner, "-O")
    refuse_option_files(declared, options, output)
    count = write_posteriors(posterior_format.read(path, **options), output, dtype=store)
    return f"{count} utterances"


def require_model(encoder: EncoderOptions, reader_options: tuple[str, ...]) -> None:
    """Raise click.UsageError if audio has no recogniser, or options of a format."""
    if reader_options:
        raise click.UsageError("-O is an option of a format of posteriors; give --from too")
    if not encoder.model:
        raise click.UsageError(
            "audio needs a recogniser (--model), posteriors of another tool their format (--from)"
        )
