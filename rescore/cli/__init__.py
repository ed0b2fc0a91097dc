"""The command `dlmrescore`. One file a command, imported when it is called; errors become one line and an exit status.

Exit status: 0 success, 1 input or run error, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import logging
import platform
import signal
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import click
from click.shell_completion import CompletionItem

from rescore.errors import RescoreError

__all__ = ["main"]

_COMMANDS = {
    "convert": "Read another tool's lists, write the native JSONL.",
    "lattice": "Make N-best lists of lattices: k2, OpenFst, Kaldi, HTK.",
    "check": "Look at lists before a network evaluation is paid for.",
    "score": "Add one language-model score to every hypothesis.",
    "merge": "Join the scored shards of one run.",
    "tune": "Find the scales with the fewest errors on dev lists.",
    "sweep": "Count errors on a grid of scales: CSV, curve, heat map.",
    "fuse": "Reorder lists by the tuned total score.",
    "eval": "Count errors: WER, oracle, interval, significance.",
    "run": "All of it: score, tune on dev, a table and plots for test.",
    "models": "List the embedded models.",
    "formats": "List the formats that lists are read from and written to.",
    "train": "Train a small MDLM, USDM, AR or n-gram model on text.",
    "plugins": "List what other packages add.",
    "completion": "Print the script for completion with the Tab key.",
}


class _Lazy(click.Group):
    """Finds `rescore.cli.<command>.command` when it is called, so that `--help` does not wait for torch."""

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin like this, without importing any, and the options of the group."""
        commands = [
            CompletionItem(name, help=text)
            for name, text in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        click.echo(
            f"dlmrescore {_installed('dlmrescore')} (Python {platform.python_version()}, torch {_installed('torch')})"
        )
        ctx.exit()


def _installed(name: str) -> str:
    """The version of an installed package, from its metadata: importing torch takes seconds."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


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
def cli() -> None:
    """Rescore ASR N-best lists with diffusion language models.

    \b
    dlmrescore score dev.jsonl -o dev.scored.jsonl
    dlmrescore tune dev.scored.jsonl --scores am,mdlm_nelbo -o fusion.json
    dlmrescore fuse test.scored.jsonl --fusion fusion.json -o best.jsonl
    dlmrescore eval best.jsonl --baseline test.scored.jsonl

    \b
    Exit status: 0 success, 1 an error in the input or the run (one line says which),
    2 a wrong command line, 130 interrupted; without success no output file appears.
    """


def main() -> None:
    """Run the command line. Every RescoreError is one line on standard error and exit status 1; SIGTERM ends a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(format="dlmrescore: %(message)s", level=logging.WARNING)
    try:
        sys.exit(cli.main(prog_name="dlmrescore", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RescoreError as error:
        click.echo(" ".join(str(error).split()), err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo(
            str(error.__cause__ or error)
            or "interrupted; no output file was written; run the same command again",
            err=True,
        )
        sys.exit(130)
