"""`dlmrescore train`: one command per objective, one for n-grams, one for recognisers, one for
their decoders.
"""

from __future__ import annotations

import click

from rescore.cli.train_ctc import ctc_command
from rescore.cli.train_dllm import dllm_command
from rescore.cli.train_mdm import mdm_command
from rescore.cli.train_network import network_command
from rescore.cli.train_ngram import ngram_command
from rescore.models.objectives import OBJECTIVES

__all__ = ["command"]


class _Train(click.Group):
    """The commands in the order of the table; the former `--objective NAME` names the new form."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they were added."""
        del ctx
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse `--objective` in one line, wherever it stands."""
        for position, argument in enumerate(args):
            option, _, name = argument.partition("=")
            if option == "--objective":
                name = name or " ".join(args[position + 1 : position + 2]) or "mdlm"
                raise click.UsageError(
                    f"there is no --objective; write `dlmrescore train {name} ...`", ctx
                )
        return super().parse_args(ctx, args)


@click.group("train", cls=_Train)
def command() -> None:
    """Train a small model on text, resuming where a run in the same directory stopped.

    \b
    Example: dlmrescore train mdlm --text books.txt --valid held_out.txt -o runs/mdlm
    Words: dlmrescore train ngram --text books.txt --valid held_out.txt -o runs/ngram
    """


for _name, _objective in OBJECTIVES.items():
    if not _objective.is_conditioned:
        command.add_command(network_command(_name))
command.add_command(ngram_command)
command.add_command(ctc_command)
command.add_command(mdm_command)
command.add_command(dllm_command)
