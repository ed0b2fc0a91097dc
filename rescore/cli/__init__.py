"""The command `dlmrescore`: one file per command, imported when the command is called.

Errors become one line and an exit status.
Exit status: 0 success, 1 input or run error, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import logging
import platform
import signal
import sys
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import click
from click.shell_completion import CompletionItem

from rescore.arguments import close_to
from rescore.cli import streams
from rescore.cli.limits import limit_options
from rescore.cli.reporting import Reporter

__all__ = ["main"]

_COMMANDS = {
    "posteriors": "Make the posteriors of a CTC recogniser from audio.",
    "decode": "Make N-best lists from posteriors.",
    "convert": "Convert lists from one format to another.",
    "lattice": "Make N-best lists from lattices: k2, OpenFst, Kaldi, HTK.",
    "check": "Inspect lists before you spend compute.",
    "score": "Add a language-model score to every hypothesis.",
    "merge": "Join the scored shards of one run.",
    "pool": "Join the lists of several systems, by text.",
    "tune": "Find the scales with the fewest errors on dev lists.",
    "sweep": "Count errors on a grid of scales: CSV, curve, heat map.",
    "fuse": "Reorder lists by the tuned total score.",
    "eval": "Evaluate lists: WER, interval, significance, oracle.",
    "run": "Do all of it: score, tune on dev, report on test.",
    "compare": "Compare systems utterance by utterance: helped, hurt, which errors.",
    "show": "Show one utterance: hypotheses aligned, every score.",
    "report": "Write an HTML page: what changed, utterance by utterance.",
    "models": "List the embedded models.",
    "formats": "List the formats of lists, lattices and posteriors.",
    "train": "Train a small MDLM, USDM, AR or n-gram model, or a recogniser.",
    "plugins": "List the plug-ins that other packages provide.",
    "completion": "Print the shell script for Tab completion.",
}


class _Lazy(click.Group):
    """Imports `rescore.cli.<name>_command` when it is called: `--help` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the data flow."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command called `cmd_name`, or None."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"rescore.cli.{cmd_name}_command").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; an unknown one fails with a near name."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{close_to(name, _COMMANDS) or '.'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and the group's options that begin like this, without importing any."""
        commands = [
            CompletionItem(name, help=text)
            for name, text in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        package, torch = _installed("dlmrescore"), _installed("torch")
        click.echo(f"dlmrescore {package} (Python {platform.python_version()}, torch {torch})")
        ctx.exit()


def _installed(name: str) -> str:
    """The version of an installed package, from its metadata: importing torch takes seconds."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _set_verbose(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if isinstance(ctx.obj, Reporter):
        ctx.obj.is_verbose = is_asked


@click.group(
    cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of dlmrescore, Python and torch.",
)
@click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="After the one line of an error, print its traceback too.",
)
@limit_options
def cli() -> None:
    """Rescore ASR N-best lists with diffusion language models.

    \b
    dlmrescore score dev.jsonl -o dev.scored.jsonl
    dlmrescore tune dev.scored.jsonl --scores am,mdlm_nelbo -o fusion.json
    dlmrescore fuse test.scored.jsonl --fusion fusion.json -o best.jsonl
    dlmrescore eval best.jsonl --baseline test.scored.jsonl

    \b
    Exit status: 0 success; 1 an error in the input or the run, which one line explains;
    2 a wrong command line; 130 interrupted. An output file appears only on success.
    """


def main() -> None:
    """Run the command line.

    An error becomes one line on standard error and exit status 1; with --verbose, its traceback
    follows. SIGTERM and SIGHUP end a run as Ctrl-C does; under nohup, SIGHUP stays ignored.
    """
    streams.guard()
    reporter = Reporter()
    signal.signal(signal.SIGTERM, reporter.interrupt)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), reporter.interrupt)
    logging.basicConfig(format="dlmrescore: %(message)s", level=logging.WARNING)
    command = partial(cli.main, prog_name="dlmrescore", standalone_mode=False, obj=reporter)
    sys.exit(reporter.status_of(command))
