"""The commands, put together. Only the module of the one that is wanted is imported: with all of
them, `--help` alone would take noticeably longer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from .failure import CODES

if TYPE_CHECKING:
    from collections.abc import Callable

#: Each command: the module it is in, and what `--help` says about it, in one line.
COMMANDS = {
    "spawn": ("spawn", "Start an agent session."),
    "adopt": ("adopt", "Join a session that you have started by hand."),
    "ps": ("sessions", "List sessions and what each is doing."),
    "send": ("messages", "Send a message, which goes in at the next turn boundary."),
    "receipts": ("messages", "Show what happened to a message, oldest first."),
    "events": ("watch", "Show what sessions did, oldest first."),
    "logs": ("watch", "Show what a session's process wrote."),
    "attach": ("attach", "Show a session's terminal, and type into it."),
    "snapshot": ("attach", "Print what a session's terminal shows now."),
    "interrupt": ("sessions", "Stop the running turn; the session goes on."),
    "pause": ("sessions", "Let messages wait until `resume`."),
    "resume": ("sessions", "Deliver again after `pause`, or after a hold."),
    "approve": ("sessions", "Allow what a session asks permission for."),
    "deny": ("sessions", "Refuse what a session asks permission for."),
    "release": ("sessions", "End a session with every process it has started."),
    "up": ("service", "Start the supervisor in the background."),
    "down": ("service", "Stop the supervisor; sessions live on without --all."),
    "status": ("service", "Show whether the supervisor runs, and with what."),
    "profiles": ("profiles", "Look at named settings for sessions."),
    "harnesses": ("harnesses", "List what can be spawned, and what each can do."),
    "doctor": ("harnesses", "Check this machine: agents, logins and our own state."),
    "relay": ("relay", "Run the relay alone, in the foreground."),
    "demo": ("demo", "Show it all on this machine: no account, no network."),
}


def build(wanted: str | None) -> typer.Typer:
    """The command line with the command `wanted` in it, and the names of the others.

    "*" wants all of them.
    """
    # Rich markup would cost `--help` as much as everything else together.
    app = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Run coding agents, message them at turn boundaries, and trust the receipts.",
        epilog=CODES,
    )
    app.callback()(_root)
    for name, (module, line) in COMMANDS.items():
        command = _load(module, name) if wanted in (name, "*") else _not_wanted
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, short_help=line)
        else:
            app.command(name, short_help=line)(command)
    return app


def _load(module: str, name: str) -> typer.Typer | Callable[..., None]:
    loaded = import_module(f".{module}", __package__)
    command: typer.Typer | Callable[..., None] = getattr(loaded, name)
    return command


def _not_wanted() -> None:
    """Stands in for a command that this process does not run."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay-runtime {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


__all__ = ["COMMANDS", "build"]
