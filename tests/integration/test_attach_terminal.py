"""attach on terminals that do not behave, and what it says beside the session's own output."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, cast

import pexpect
import pytest

from relay_runtime.attach.chord import PASTE_S
from relay_runtime.attach.terminal import LEAVE_S
from relay_runtime.screen import exact

from .cli_program import SOON
from .person import DETACH, RESTORED, Outer, attached, settled, shell_session, snapshot

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from .cli_program import Program

pytestmark = pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Program]:
    with shell_session(tmp_path) as program:
        yield program


def flooded(program: Program, outer: Outer) -> None:
    """Until the program has written far more than a terminal holds that nobody reads."""
    outer.enter(b"yes abc | head -c 3000000; echo d''one")
    deadline = time.monotonic() + SOON
    while "done" not in str(snapshot(program)["text"]):
        assert time.monotonic() < deadline, "the program waits for the terminal"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_can_leave_a_terminal_that_takes_no_output(
    shell: Program, number: signal.Signals
) -> None:
    with attached(shell) as outer:
        flooded(shell, outer)
        told = time.monotonic()
        outer.terminal.kill(number)
        while outer.terminal.isalive():
            assert time.monotonic() < told + LEAVE_S + SOON / 4, "it waits for the terminal"
        assert outer.terminal.exitstatus == 130


def test_a_terminal_that_was_stopped_shows_the_screen_as_it_is_once_it_goes_on(
    shell: Program,
) -> None:
    with attached(shell) as outer:
        flooded(shell, outer)
        seen = len(outer.said)
        outer.until("(?m)^done")
        settled(shell, outer)
        assert len(outer.said) - seen < 2_000_000, "not everything that nobody could see"
        outer.enter(b"echo we$((1))l")
        outer.until("we1l")
        outer.detach()


def test_a_paste_without_its_end_does_not_keep_one_from_leaving(shell: Program) -> None:
    with attached(shell) as outer:
        outer.type(b"\x1b[200~never" + DETACH)
        deadline = time.monotonic() + PASTE_S + SOON
        while outer.terminal.isalive():
            assert time.monotonic() < deadline, "the paste never ends"
            outer.type(DETACH)
            try:
                outer.said += outer.terminal.read_nonblocking(65_536, timeout=2 * PASTE_S)
            except (pexpect.TIMEOUT, pexpect.EOF):
                continue
        assert RESTORED in outer.said


def test_messages_that_wait_are_told_beside_the_session_and_the_title_stays_the_programs(
    shell: Program,
) -> None:
    with attached(shell) as outer:
        outer.enter(rb"printf '\033]2;my work\007'")
        settled(shell, outer)
        assert outer.screen.title == "my work"
        assert shell.run("pause", "sh").returncode == 0
        shell.json("send", "sh", "one")
        shell.json("send", "sh", "two")
        outer.until("2 messages wait: held, paused")
        assert outer.screen.title == "[2 messages wait] my work"
        outer.enter(rb"printf '\033]2;other work\007'; echo o''k")
        outer.until("(?m)ok$")
        assert outer.screen.title == "[2 messages wait] other work"
        settled(shell, outer)  # the notice has gone by itself
        with attached(shell) as late:
            late.until("2 messages wait: held, paused")
            assert late.screen.title == "[2 messages wait] other work"
            late.detach()
        assert shell.run("resume", "sh").returncode == 0
        outer.until("(?s)relay msg.*one")
        settled(shell, outer)
        assert outer.screen.title == "other work"
        outer.detach()
    assert snapshot(shell)["title"] == "other work"


def test_what_people_type_is_told_with_the_terminal_they_typed_at(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(b"echo typ''ed")
        outer.until("(?m)^typed")
        session = shell.rows("ps")[0]["session_id"]
        hooks = b"".join(
            path.read_bytes()
            for path in (shell.home / "sessions" / str(session) / "log").glob("hooks-*.log")
        )
        assert re.search(rb'"client": ?"pts/\d+"', hooks), hooks
        outer.detach()


def test_a_snapshot_is_a_picture_in_a_file_or_a_pipe_but_not_on_a_terminal(shell: Program) -> None:
    path = shell.work / "shown.png"
    assert shell.run("snapshot", "sh", "--png", "--output", str(path)).returncode == 0
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    piped = shell.shell("relay-runtime snapshot sh --png | head -c 4 | tail -c 3")
    assert piped.stdout == "PNG", piped
    assert shell.run("snapshot", "sh", "--output", str(path)).returncode == 2
    assert shell.run("snapshot", "sh", "--png", "--json").returncode == 2
    with shell.terminal("snapshot", "sh", "--png") as terminal:
        terminal.expect("name a file with --output")


#: `attach` as on a platform for which there is no terminal emulator.
WITHOUT_EMULATOR = """
from relay_runtime.screen import abi
def load(): raise abi.LibraryMissing("none here")
abi.load = load
from relay_runtime.cli import main
main()
"""


def test_without_an_emulator_all_output_is_shown_and_the_notice_takes_none_of_it(
    shell: Program,
) -> None:
    environ = cast("os._Environ[str]", shell.environ)
    command = ["-P", "-c", WITHOUT_EMULATOR, "attach", "sh"]
    terminal = pexpect.spawn(
        sys.executable, command, env=environ, dimensions=(40, 120), timeout=SOON
    )
    terminal.delaybeforesend = None
    terminal.expect_exact(b"detaches")
    terminal.send(b"echo se''en\r")
    terminal.expect_exact(b"\nseen")
    terminal.expect_exact(b"\x1b[40;1H\x1b[m\x1b[K\x1b8")  # the notice has gone, and nothing else
    terminal.send(b"yes abc | head -c 3000000; echo d''one\r")
    terminal.expect_exact(b"\ndone", timeout=SOON, searchwindowsize=100)
    terminal.send(DETACH)
    terminal.expect_exact(b"which goes on")
    terminal.close()


def test_nothing_that_takes_long_is_imported_before_the_first_screen() -> None:
    program = (
        "import sys, relay_runtime.cli, relay_runtime.cli.quick\n"
        "from relay_runtime.screen import new_screen; new_screen(2, 2)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"anyio", "asyncio", "dataclasses", "httpx", "inspect", "pydantic", "rich", "typer"}
    assert not heavy & set(done.stdout.split())
