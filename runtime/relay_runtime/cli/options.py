"""Options and arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
SessionName = Annotated[
    str, typer.Argument(metavar="NAME", help="Session: its name, its id or its agent's id.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Do not wait for the running turn: end it now.")
]

__all__ = ["AsJson", "Force", "SessionName"]
