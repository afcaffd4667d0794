"""Whoever runs the command: their environment, where they are, and who they are."""

from __future__ import annotations

import os
from pathlib import Path

from .failure import Exit, fail
from .output import note


def is_utf8(text: str) -> bool:
    """Whether `text` from the command line or the environment is text at all.

    Python keeps other bytes as lone surrogates, which no JSON can carry.
    """
    return not any("\ud800" <= char <= "\udfff" for char in text)


def environment() -> dict[str, str]:
    """Theirs. What is not UTF-8 cannot be handed on, and is told rather than mangled."""
    bad = {name for name, value in os.environ.items() if not is_utf8(name + value)}
    for name in sorted(bad):
        note(f"relay-runtime: {name!a} is not UTF-8 and is left out of the environment")
    return {name: value for name, value in os.environ.items() if name not in bad}


def working_directory() -> Path:
    try:
        here = Path.cwd()
    except OSError:
        fail(Exit.USAGE, "the working directory is gone: cd to one that exists")
    if not is_utf8(str(here)):
        fail(Exit.USAGE, "the path of the working directory is not UTF-8: cd to another")
    return here


def default_sender() -> str:
    """The agent in whose session this runs, else the person at this machine."""
    import getpass
    import socket

    if agent := os.environ.get("AGENT_RELAY_AGENT_ID"):
        return agent
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine, as in many containers
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


__all__ = ["default_sender", "environment", "is_utf8", "working_directory"]
