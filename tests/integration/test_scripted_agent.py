"""The scripted agent in a real terminal: one log line for each input, whatever is sent."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pexpect
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Terminal = pexpect.spawn[bytes]

BEGIN, END = b"\x1b[200~", b"\x1b[201~"
PROMPT = rb"agent> "


@contextmanager
def agent(log: Path, *arguments: str) -> Iterator[Terminal]:
    command = ["-m", "relay_runtime.testing.scripted_agent", "--log", str(log), *arguments]
    terminal: Terminal = pexpect.spawn(sys.executable, command, timeout=10)
    try:
        terminal.expect(rb"\x1b\[\?2004h")
        terminal.expect(PROMPT)
        yield terminal
    finally:
        terminal.close(force=True)


def taken(log: Path) -> list[str]:
    return [json.loads(line)["text"] for line in log.read_text("utf-8").splitlines()]


def test_a_pasted_message_is_echoed_answered_and_logged_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with agent(log) as terminal:
        text = "[relay msg 42 from bob]\nhello\n[end of relay msg 42]"
        terminal.send(BEGIN + text.encode() + END + b"\r")
        terminal.expect(rb"relay msg 42 from bob\]\r\nhello")
        terminal.expect(rb"done\. I read msg 42\.")
        terminal.expect(PROMPT)
        assert taken(log) == [text]
        terminal.send(b"\x04")
        terminal.expect(pexpect.EOF)
        terminal.wait()
        assert terminal.exitstatus == 0


def test_input_while_it_works_waits_and_is_taken_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with agent(log) as terminal:
        terminal.send(b"first work=1s\r")
        terminal.expect(rb"\* working, 0\.0 of 1 s")
        terminal.send(b"second\r" + BEGIN + b"third" + END)
        assert taken(log) == ["first work=1s"]
        terminal.expect(rb"done\. I read 13 characters")
        terminal.expect(rb"done\. I read 6 characters")
        terminal.expect(rb"agent> third")
        terminal.send(b"\r")
        terminal.expect(rb"done\. I read 5 characters")
        assert taken(log) == ["first work=1s", "second", "third"]


@pytest.mark.parametrize("how", ["key", "signal"])
def test_work_can_be_interrupted(tmp_path: Path, how: str) -> None:
    with agent(tmp_path / "log") as terminal:
        terminal.send(b"work=600s\r")
        terminal.expect(rb"working")
        if how == "key":
            terminal.send(b"\x03")
        else:
            terminal.kill(signal.SIGINT)
        terminal.expect(rb"interrupted\.")
        terminal.expect(PROMPT)


def test_sigint_ends_it_when_it_is_not_working(tmp_path: Path) -> None:
    with agent(tmp_path / "log") as terminal:
        terminal.kill(signal.SIGINT)
        terminal.expect(pexpect.EOF)
        terminal.wait()
        assert terminal.exitstatus == 0


def test_it_dies_on_its_marker_after_it_took_the_input(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with agent(log, "--crash-on", "BOOM") as terminal:
        terminal.send(b"one\r")
        terminal.expect(rb"done\.")
        terminal.send(b"a BOOM b\r")
        terminal.expect(pexpect.EOF)
        terminal.wait()
        assert terminal.signalstatus == signal.SIGKILL
    assert taken(log) == ["one", "a BOOM b"]


def test_hostile_and_large_input_is_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    hostile = bytes(range(256)).replace(b"\x1b", b"") * 4
    large = b"0123456789abcdef" * 16_384
    with agent(log) as terminal:
        for pasted in (hostile, large):
            terminal.send(BEGIN + pasted + END + b"\r")
            terminal.expect(rb"done\. I read \d+ characters\.")
            terminal.expect(PROMPT)
    first, second = taken(log)
    assert len(first) == len(hostile.decode("utf-8", "replace").replace("\r\n", "\n"))
    assert second == large.decode()
