"""How a command ends: the exit codes, which never change their meaning, and the one-line failure."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """Scripts act on these; `docs/cli.md` lists them for people."""

    OK = 0
    FAILED = 1  #: it was carried out and did not succeed: not delivered, did not start
    USAGE = 2  #: the command, an option, a file or a value is wrong
    NOT_FOUND = 3  #: no such session, target or message, or the name fits several
    UNAVAILABLE = 4  #: no supervisor or relay answers; trying later may help
    TIMEOUT = 5  #: the wait ran out; what was asked for goes on
    CONFLICT = 6  #: refused in the present state
    INTERNAL = 70  #: a fault of ours (EX_SOFTWARE of sysexits.h)
    INTERRUPTED = 130  #: Ctrl-C: 128 + SIGINT
    PIPE = 141  #: the reader of our output went away: 128 + SIGPIPE


CODES = """\
Exit codes: 0 done, 1 it did not succeed, 2 wrong usage, 3 no such session or target, \
4 supervisor or relay unreachable, 5 timed out, 6 refused in the present state, 70 internal error."""


class Failure(Exception):
    """Ends the command with `code` after `message` on stderr, as one line."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def fail(code: Exit, message: str) -> NoReturn:
    raise Failure(code, message)


__all__ = ["CODES", "Exit", "Failure", "fail"]
