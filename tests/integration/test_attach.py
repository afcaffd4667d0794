"""attach and snapshot, as a person at a terminal has them: exact, harmless, and easy to leave."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from relay_runtime.holder.client import STALL_S
from relay_runtime.screen import exact

from .person import RESTORED, Outer, attached, settled, shell_session, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .cli_program import Program

pytestmark = pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Program]:
    with shell_session(tmp_path) as program:
        yield program


def test_a_person_sees_the_screen_types_and_leaves_the_session_running(shell: Program) -> None:
    with attached(shell) as outer:
        outer.until(r"ready\$")
        outer.enter(b"echo $((6*7)) is it")
        outer.until("42 is it")
        settled(shell, outer)
        outer.detach()
        assert not outer.screen.alternate
        assert not any(outer.screen.mode(mode) for mode in (1, 1000, 1004, 2004))
    with attached(shell) as outer:
        outer.until("42 is it")
        outer.detach()
    assert shell.rows("ps")[0]["state"] == "idle"


def test_what_the_terminal_had_is_there_again_after_leaving(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(
            rb"printf '\033[?2004h\033[?1000h\033[?1h\033[5;20r\033[31m\033]0;other\007\033[8;1H'"
        )
        outer.enter(b"echo o''k")
        outer.until("(?m)ok$")
        assert outer.screen.mode(1000) and outer.screen.mode(2004)
        outer.detach()
        for mode in (1, 1000, 2004):
            assert not outer.screen.mode(mode)
        outer.screen.feed(b"\x1b[40;1Hx\r\ny")
        assert outer.screen.text()[38:] == ["x", "y"], "the scrolling region is left behind"


@pytest.mark.timeout(600)  # each starts a command: half a second, on a busy machine several
def test_a_hundred_visits_leave_the_screen_and_its_modes_as_they_were(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(
            rb"printf '\033[?2004h\033[?1000h\033[2J\033[3;4H\033[1;32mgreen \346\274\242\n'"
        )
        outer.until("green 漢")
        settled(shell, outer)
        outer.detach()
    before = snapshot(shell), shell.run("snapshot", "sh", "--ansi").stdout
    for _ in range(100):
        with attached(shell) as outer:
            outer.until("green 漢")
            outer.detach()
    assert (snapshot(shell), shell.run("snapshot", "sh", "--ansi").stdout) == before


def test_somebody_who_may_only_look_cannot_send_a_byte(shell: Program) -> None:
    before = snapshot(shell)["text"]
    with attached(shell, "sh", "--read-only", rows=20, cols=60) as outer:
        outer.enter(b"echo mischief")
        outer.detach()
    assert snapshot(shell)["text"] == before
    assert snapshot(shell)["rows"] == 40, "nor change its size"


def test_two_people_see_the_same_and_both_can_type(shell: Program) -> None:
    with attached(shell) as one, attached(shell) as two:
        one.enter(b"echo from $((1+0))ne")
        two.until("from 1ne")
        two.enter(b"echo from $((1+1))wo")
        one.until("from 2wo")
        settled(shell, one)
        settled(shell, two)
        one.detach()
        two.enter(b"echo still $((1+2))ere")
        two.until("still 3ere")
        two.detach()


def test_the_session_takes_the_size_of_who_came_last_and_others_see_what_fits(
    shell: Program,
) -> None:
    with attached(shell, rows=40, cols=120) as large:
        with attached(shell, rows=20, cols=50) as small:
            small.enter(b"stty size")
            small.until("20 50")
            large.until("20 50")
            settled(shell, small)
            assert large.screen.text()[:20] == small.screen.text()
            small.detach()
        large.enter(b"stty size")
        large.until("40 120")
        settled(shell, large)


def test_the_smallest_of_all_sizes_can_be_asked_for_or_the_size_be_left_alone(
    shell: Program,
) -> None:
    with attached(shell, rows=30, cols=100) as one:
        with attached(shell, "sh", "--size", "smallest", rows=50, cols=80) as two:
            two.enter(b"stty size")
            one.until("30 80")
            two.detach()
        with attached(shell, "sh", "--size", "fixed", rows=10, cols=40) as three:
            three.enter(b"stty size; echo y''es")
            one.until("(?s)30 100.*yes")
            three.until("yes")
            three.detach()


def test_a_resized_window_resizes_the_session_and_nothing_is_left_over(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(rb"printf '\346\274\242\345\255\227 e\314\201 wide\n'")
        outer.until("漢字")
        for rows, cols in [(60, 200), (10, 5), (24, 80), (60, 200), (10, 40)] * 4:
            outer.terminal.setwinsize(rows, cols)
            outer.screen.resize(rows, cols)
            outer.read()
        outer.enter(b"clear; stty size")
        outer.until("10 40")
        settled(shell, outer)
        outer.detach()


def test_a_program_may_switch_screens_while_somebody_looks(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(
            rb"printf '\033[?1049h\033[2J\033[5;5Hon the other'; read x; printf '\033[?1049l'"
        )
        outer.until("on the other")
        settled(shell, outer)
        assert snapshot(shell)["alternate"] is True
        with attached(shell) as late:
            late.until("on the other")
            late.detach()
        outer.enter(b"")
        outer.until(r"(?m)^ready\$$")
        settled(shell, outer)
        assert outer.screen.alternate, "it is still ours"
        outer.detach()
        assert not outer.screen.alternate


def test_a_message_that_comes_in_is_seen_and_so_is_what_comes_of_it(shell: Program) -> None:
    with attached(shell) as outer:
        outer.until(r"ready\$")
        sent = shell.json("send", "sh", "hello there", "--wait", "delivered")
        assert sent["deliveries"][0]["status"] == "delivered"
        outer.until("relay msg .*from")
        outer.until("hello there")
        settled(shell, outer)


def supervisor_pid(program: Program) -> int:
    return int(program.json("status")["pid"])


def test_the_terminal_works_on_when_the_supervisor_is_killed_and_messages_come_again(
    shell: Program,
) -> None:
    with attached(shell) as outer:
        os.kill(supervisor_pid(shell), signal.SIGKILL)
        outer.enter(b"echo al$((1))ve")
        outer.until("al1ve")
        with attached(shell) as late:
            late.until("al1ve")
            late.detach()
        shell.json("send", "sh", "after the fall", "--wait", "delivered")
        outer.until("after the fall")
        outer.detach()


def test_the_terminal_is_restored_when_the_holder_dies(shell: Program) -> None:
    holder = shell.rows("ps")[0]["holder_pid"]
    with attached(shell) as outer:
        os.kill(int(holder), signal.SIGKILL)
        assert outer.end() == 4
        assert b"is gone" in outer.said.partition(RESTORED)[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_we_are_told_to_end(
    shell: Program, number: signal.Signals
) -> None:
    with attached(shell) as outer:
        outer.terminal.kill(number)
        assert outer.end() == 130
        assert RESTORED in outer.said


def test_it_says_so_when_the_program_has_ended(shell: Program) -> None:
    with attached(shell) as outer:
        outer.enter(b"exit")
        assert outer.end() == 0
        assert b"has ended" in outer.said.partition(RESTORED)[2]


@pytest.mark.timeout(300)  # the holder waits for half a minute before it drops anybody
def test_a_broken_connection_is_mended_and_the_screen_is_as_it_should_be(shell: Program) -> None:
    """As after a laptop slept: the holder has dropped who took nothing for too long."""
    with attached(shell) as sleeper, attached(shell) as awake:
        sleeper.terminal.kill(signal.SIGSTOP)
        awake.enter(b"yes abc | head -c 4000000; echo d''one")
        awake.until("(?m)^done")
        slept = time.monotonic() + STALL_S + 2
        while time.monotonic() < slept:
            awake.read()
        seen = len(sleeper.said)
        sleeper.terminal.kill(signal.SIGCONT)
        sleeper.enter(b"echo we$((1))l")
        sleeper.until("we1l")
        assert b"\x1b[?2026h" in sleeper.said[seen:], "it was painted anew"
        settled(shell, sleeper)


def test_keys_of_ones_own_choice_detach_and_the_usual_ones_then_go_to_the_program(
    shell: Program,
) -> None:
    with attached(shell, "sh", "--detach-keys", "ctrl-p,ctrl-q") as outer:
        outer.type(b"\x10\x11")
        assert outer.end() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sh", "--detach-keys", "q"], 2, "is no chord"),
        (["nobody"], 3, "no session 'nobody'"),
    ],
)
def test_a_mistake_is_said_before_the_terminal_is_touched(
    shell: Program, arguments: list[str], code: int, said: str
) -> None:
    outer = Outer(shell, *arguments)
    assert outer.end() == code
    assert said.encode() in outer.said and b"\x1b" not in outer.said


def test_a_session_is_not_shown_in_itself(shell: Program) -> None:
    inside = {"RELAY_RUNTIME_SESSION": str(shell.rows("ps")[0]["session_id"])}
    done = shell.run("snapshot", "sh", environ=inside)
    assert done.returncode == 6 and "in itself" in done.stderr


def test_without_a_terminal_it_says_what_to_use(shell: Program) -> None:
    done = shell.run("attach", "sh")
    assert done.returncode == 2 and "snapshot" in done.stderr
