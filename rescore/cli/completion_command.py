"""`dlmrescore completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete a command line with the Tab key.

    It completes commands, options, their values and file names.

    \b
    Bash, in ~/.bashrc: eval "$(dlmrescore completion bash)"
    Zsh, in ~/.zshrc:   eval "$(dlmrescore completion zsh)"
    Fish, once:         dlmrescore completion fish > ~/.config/fish/completions/dlmrescore.fish

    \b
    Example: dlmrescore completion bash
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"this version of click has no completion for {shell}; update click")
    root = ctx.find_root().command
    click.echo(completion(root, {}, "dlmrescore", "_DLMRESCORE_COMPLETE").source())
