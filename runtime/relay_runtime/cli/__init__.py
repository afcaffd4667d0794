"""The `relay-runtime` command. `main` is its entry point; `docs/cli.md` describes it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ..paths import StateHomeError
from .failure import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer import TyperException

PROGRAM = "relay-runtime"
#: Set by the shell functions that `--install-completion` writes.
COMPLETION = "_RELAY_RUNTIME_COMPLETE"


def main() -> NoReturn:
    """Run the command line of this process and end it with the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding cannot show must not end a command half-way.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of these arguments. Every failure is one line on stderr, never a traceback."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Failure as failure:
        return _end(failure.code, failure.message)
    except StateHomeError as error:
        return _end(Exit.USAGE, str(error))
    except Exception as error:
        if os.environ.get("RELAY_RUNTIME_DEBUG"):
            raise
        return _end(*_unexpected(error))
    return code


def _invoke(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["attach"]:
        from .quick import attach

        if attach(arguments[1:]):
            return Exit.OK
    import typer
    from typer.main import get_command

    from .app import build
    from .caller import is_utf8

    if not all(map(is_utf8, arguments)):
        raise Failure(Exit.USAGE, "an argument is not UTF-8 text")
    try:
        if COMPLETION in os.environ:  # a shell asks what could come next
            get_command(build("*")).main(list(arguments), prog_name=PROGRAM)
        wanted = next((word for word in arguments if not word.startswith("-")), None)
        command = get_command(build(wanted))
        # Not `main`: it has exit codes and error messages of its own.
        with command.make_context(PROGRAM, list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        raise Failure(Exit.USAGE, _usage(error)) from error
    return Exit.OK


def _usage(error: TyperException) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
    return f"{error.format_message().rstrip('.')}; see `{path} --help`"


def _unexpected(error: Exception) -> tuple[Exit, str]:
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return Exit.FAILED, f"{about}{error.strerror or error}"
    what = f"{type(error).__name__}: {error}"
    return Exit.INTERNAL, f"internal error: {what} (RELAY_RUNTIME_DEBUG=1 shows where)"


def _end(code: Exit, message: str) -> int:
    """Say what is wrong after whatever the command has printed, and return its exit code."""
    from .output import note, one_line

    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    with suppress(OSError):  # nobody reads any more; the code still tells
        note(f"{PROGRAM}: {one_line(message, 1000)}")
    return code


def _reader_gone() -> int:
    _discard_output()
    return Exit.PIPE


def _discard_output() -> None:
    """Python flushes once more when it ends, and would complain then."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


__all__ = ["main", "run"]
