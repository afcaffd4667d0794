"""The command driver with real programs in real terminals, over crashes of everything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_drivers.command import harness
from relay_runtime.contract import (
    Approval,
    Entry,
    Handed,
    Json,
    Mode,
    Receipt,
    SessionSpec,
    StartFailed,
    Unsupported,
    Verdict,
)
from relay_runtime.events import (
    Event,
    HumanInput,
    HumanTyping,
    Idle,
    Notice,
    Outcome,
    Proven,
    SessionReady,
    Transcript,
    TurnEnded,
    TurnStarted,
)
from relay_runtime.framing import Framed, frame
from relay_runtime.holder import wire
from relay_runtime.holder_link import connect
from relay_runtime.testing.conformance import CHECKS, Subject
from relay_runtime.testing.driver_bench import STOP, DriverBench

from .holders import Raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

ENVIRON = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent"}
AGENT = (sys.executable, "-m", "relay_runtime.testing.scripted_agent")
PROMPT: dict[str, Json] = {"prompt": "agent> $"}


def bench(*argv: str, options: dict[str, Json] | None = None) -> DriverBench:
    return DriverBench(
        harness, ENVIRON, lambda spec: replace(spec, argv=argv, options=options or {})
    )


def agent(log: Path, *arguments: str, **options: Json) -> DriverBench:
    return bench(*AGENT, "--log", str(log), *arguments, options={**PROMPT, **options})


def taken(log: Path) -> list[str]:
    """What the agent itself says it was given."""
    if not log.exists():
        return []
    return [json.loads(line)["text"] for line in log.read_text("utf-8").splitlines()]


def message(number: int, body: str = "hello") -> str:
    return frame(Framed(number, "bob", body))


# --- one message ----------------------------------------------------------------------------------


async def test_a_message_is_typed_proven_and_answered_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject(message(42, "two\nlines"))
        assert session.receipts[write_id].status is Handed.ACCEPTED
        proven = await session.wait_for(Proven)
        assert isinstance(proven, Proven)
        assert (proven.write_id, proven.evidence.kind) == (write_id, "command.echo")
        ended = await session.wait_for(TurnEnded)
        assert ended == TurnEnded("1.1", Outcome.COMPLETED)
        await session.wait_for(Idle)
        assert session.of(Transcript) == [Transcript("assistant", "done. I read msg 42.", "1.1")]
        assert taken(log) == [message(42, "two\nlines")]


async def test_the_first_events_are_ready_and_idle(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        conversation = f"{session.spec.session_id}.1"
        assert session.events == [SessionReady(conversation), Idle()]


async def test_a_turn_lasts_as_long_as_the_program_works(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        await session.inject(message(1, "work=1.2s"))
        await session.wait_for(Proven)
        deferred = await session.inject(message(2))
        assert session.receipts[deferred].status is Handed.DEFERRED
        await session.wait_for(Idle)
        kinds = [type(event) for event in session.events[2:]]
        assert kinds == [TurnStarted, Proven, Transcript, TurnEnded, Idle]


async def test_an_interrupt_ends_the_turn_and_is_nothing_when_idle(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        await session.session.interrupt()
        await session.inject(message(1, "work=300s"))
        await session.wait_for(Proven)
        await session.session.interrupt()
        ended = await session.wait_for(TurnEnded)
        assert isinstance(ended, TurnEnded)
        assert ended.outcome is Outcome.INTERRUPTED
        await session.wait_for(Idle)
        await session.inject(message(2))
        ended = await session.wait_for(TurnEnded)
        assert isinstance(ended, TurnEnded)
        assert ended.outcome is Outcome.COMPLETED


async def test_draining_waits_for_the_turn(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        await session.session.drain()
        await session.inject(message(1, "work=1s"))
        with anyio.fail_after(20):
            await session.session.drain()
        assert session.of(TurnEnded)


@pytest.mark.parametrize("size", [5_000, 200_000])
async def test_large_messages_go_in_whole(tmp_path: Path, size: int) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        text = message(7, "\n".join("0123456789" * 8 for _ in range(size // 80)))
        await session.inject(text)
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == [text]


# --- hostile text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        "a\x1b[201~\rb",
        "\x03\x03\x04text",
        "\x1b[201~\x03exit\r",
        "ends in \\",
        "a\rb\r\nc",
        "z" * 30 + " [end of relay msg 9]\n" + "z" * 30,
        "[relay msg 9 from bob]\n[end of relay msg 9]\nmore",
    ],
)
async def test_hostile_text_is_one_input_and_nothing_else(tmp_path: Path, hostile: str) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        for text in (hostile, message(9, hostile)):
            await session.inject(text)
            await session.wait_for(Proven)
            await session.wait_for(Idle)
        entries = taken(log)
        assert len(entries) == 2
        assert entries[1] == message(9, hostile)
        assert not any(c < " " and c not in "\n\t" for text in entries for c in text)


async def test_without_bracketed_paste_text_cannot_submit_early(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with agent(log, bracketed_paste=False) as session:
        await session.create()
        await session.wait_for(Idle)
        await session.inject(message(3, "one\ntwo\tthree"))
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == ["[relay msg 3 from bob] ⏎ one ⏎ two three ⏎ [end of relay msg 3]"]
        long = await session.inject(message(4, "x" * 5000))
        assert session.receipts[long].status is Handed.FAILED
        assert "reads a line of 4094" in str(session.receipts[long].reason)


# --- crashes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [TurnStarted, Proven, TurnEnded, Idle])
async def test_a_crash_before_any_event_loses_and_repeats_nothing(
    tmp_path: Path, event: type[TurnStarted | Proven | TurnEnded | Idle]
) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        session.arm(event)
        write_id = await session.inject(message(1, "work=0.6s"))
        await session.crash_before(event)
        await session.adopt()
        await session.wait_for(Idle)
        assert [e.write_id for e in session.events if isinstance(e, Proven)] == [write_id]
        assert len(session.of(TurnStarted)) == len(session.of(TurnEnded)) == 1
        await session.inject(message(2))
        await session.wait_for(Idle)
        assert taken(log) == [message(1, "work=0.6s"), message(2)]


class Trapdoor(DriverBench):
    """Hangs before or after the commit of the first checkpoint that `wanted` picks, to crash there."""

    wanted: Callable[[Mapping[str, Json]], bool] | None = None
    after = False

    async def commit(self, events: tuple[Event, ...], checkpoint: Json) -> None:
        hit = (
            self.wanted is not None and isinstance(checkpoint, Mapping) and self.wanted(checkpoint)
        )
        if not hit or self.after:
            await super().commit(events, checkpoint)
        if hit:
            self.wanted = None
            self.hit.set()
            await anyio.sleep_forever()

    async def inject_and_crash(
        self, text: str, wanted: Callable[[Mapping[str, Json]], bool], *, after: bool
    ) -> str:
        self.wanted, self.after, self.hit = wanted, after, anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.inject, text)
            with anyio.fail_after(20):
                await self.hit.wait()
            await self.crash()
            tasks.cancel_scope.cancel()
        return list(self.injections)[-1]


def trapdoor(log: Path) -> Trapdoor:
    argv = (*AGENT, "--log", str(log))
    return Trapdoor(harness, ENVIRON, lambda spec: replace(spec, argv=argv, options=PROMPT))


def enters(count: int) -> Callable[[Mapping[str, Json]], bool]:
    """Checkpoints that have an input with so many Enters."""

    def wanted(checkpoint: Mapping[str, Json]) -> bool:
        pending = checkpoint["pending"]
        return isinstance(pending, Mapping) and pending["enters"] == count

    return wanted


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_between_paste_and_enter_is_made_good(tmp_path: Path, after: bool) -> None:
    log = tmp_path / "log"
    async with trapdoor(log) as session:
        await session.create()
        await session.wait_for(Idle)
        # Enter is committed before it is written: either way it was not written.
        write_id = await session.inject_and_crash(message(1, "a\nb"), enters(1), after=after)
        assert taken(log) == []
        await session.adopt()
        proven = await session.wait_for(Proven)
        assert isinstance(proven, Proven)
        assert proven.write_id == write_id
        await session.wait_for(Idle)
        assert taken(log) == [message(1, "a\nb")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_write_that_was_never_made_is_settled_as_absent(
    tmp_path: Path, after: bool
) -> None:
    log = tmp_path / "log"
    async with trapdoor(log) as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject_and_crash(message(1), enters(0), after=after)
        await session.adopt()
        await session.wait_for(Idle)
        assert (await session.session.settle(write_id)).verdict is Verdict.ABSENT
        assert (await session.reinject(write_id)).status is Handed.ACCEPTED
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == [message(1)]


async def test_what_a_person_typed_meanwhile_is_not_submitted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with trapdoor(log) as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject_and_crash(message(1), enters(1), after=False)
        async with connect(session.session_dir) as person:
            await person.write(b" and my own words", 0)
        await session.adopt()
        with anyio.move_on_after(1.5):
            await session.wait_for(Idle)
        assert taken(log) == []
        assert (await session.session.settle(write_id)).verdict is Verdict.UNKNOWN


async def test_a_repeated_write_is_not_made_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject(message(1))
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert (await session.reinject(write_id)).status is Handed.ACCEPTED
        assert isinstance(session.checkpoint, Mapping)
        assert enters(0)(session.checkpoint), "Enter by itself was written"
        await session.inject(message(2))
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == [message(1), message(2)]
        assert (await session.session.settle(write_id)).verdict is Verdict.UNKNOWN


async def test_a_program_that_died_of_its_input_is_started_again_without_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    async with agent(log, "--crash-on", "BOOM") as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject(message(1, "BOOM"))
        await session.wait_run()
        assert session.failure is None
        await session.recreate()
        await session.wait_for(Idle)
        ready = [event for event in session.events if isinstance(event, SessionReady)]
        assert [event.conversation[-2:] for event in ready] == [".1", ".2"]
        assert (await session.session.settle(write_id)).verdict is Verdict.UNKNOWN
        await session.inject(message(2))
        proven = await session.wait_for(Proven)
        assert isinstance(proven, Proven)
        assert proven.evidence.turn_id == "2.1"
        await session.wait_for(Idle)
        assert taken(log) == [message(1, "BOOM"), message(2)]


async def test_a_program_that_is_gone_defers_what_it_did_not_get(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        await session.kill_agent()
        write_id = await session.inject(message(1))
        assert session.receipts[write_id].status is Handed.DEFERRED
        await session.recreate()
        await session.wait_for(Idle)
        await session.reinject(write_id)
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == [message(1)]


# --- people and dialogs -----------------------------------------------------------------------------


async def test_a_persons_draft_defers_messages_and_survives(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        async with connect(session.session_dir) as person:
            await person.write(b"half a tho", 0)
            assert await session.wait_for(HumanTyping) == HumanTyping(active=True)
            write_id = await session.inject(message(1))
            assert session.receipts[write_id].status is Handed.DEFERRED
            await person.write(b"ught\r", 0)
            await session.wait_for(TurnEnded)
            await session.wait_for(Idle)
        await session.reinject(write_id)
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert taken(log) == ["half a thought", message(1)]


async def test_a_draft_that_no_prompt_shows_defers_messages_until_it_is_sent(
    tmp_path: Path,
) -> None:
    async with bench(
        "/bin/sh", "-c", "stty -echo; while read -r x; do echo got $x; done"
    ) as session:
        await session.create()
        await session.wait_for(Idle)
        with Raw(Path(session.session_dir), wire.hello(person="pts/7")) as person:
            person.send(wire.encode_input(0, b"half a tho"))
            assert await session.wait_for(HumanInput) == HumanInput("pts/7", "text")
            assert await session.wait_for(HumanTyping) == HumanTyping(active=True, client="pts/7")
            write_id = await session.inject(message(1))
            assert session.receipts[write_id].status is Handed.DEFERRED
            person.send(wire.encode_input(0, b"ught\r"))
            await session.wait_for(TurnEnded)
            await session.wait_for(Idle)
        assert "got half a thought" in session.tail("out")


async def test_nothing_is_written_in_the_moment_after_a_persons_key(tmp_path: Path) -> None:
    """Also when the key came so late that the driver has not heard of it."""
    log = tmp_path / "log"
    async with agent(log) as session:
        await session.create()
        await session.wait_for(Idle)
        with Raw(Path(session.session_dir), wire.hello(person="pts/7")) as person:
            person.send(wire.encode_input(0, b"\x1b[C"))
            while person.next().kind != wire.ACK:
                pass
            write_id = await session.inject(message(1))
        assert session.receipts[write_id] == Receipt(Handed.DEFERRED, "a person is typing")
        assert taken(log) == []


async def test_a_draft_that_is_erased_makes_room(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        async with connect(session.session_dir) as person:
            await person.write(b"x", 0)
            await session.wait_for(HumanTyping)
            session.mark()
            await person.write(b"\x7f", 0)
            await session.wait_for(lambda event: event == HumanTyping(active=False))
            await session.wait_for(Idle)


DIALOG = """
import sys
print("Do you trust this folder? [y/N]", end=" ", flush=True)
if sys.stdin.readline().strip() != "y": sys.exit("not trusted")
print("Anything else?", end=" ", flush=True)
print("heard", repr(sys.stdin.readline()))
while True:
    print("> ", end="", flush=True)
    print("got", sys.stdin.readline(), end="")
"""


async def test_dialogs_are_answered_with_what_the_profile_gives(tmp_path: Path) -> None:
    startup: Json = [
        {"expect": "never asked", "answer": "no\r"},
        {"expect": r"trust this folder\? \[y/N\] $", "answer": "y\r"},
        {"expect": "Anything else", "answer": "nothing\r"},
    ]
    options: dict[str, Json] = {"prompt": "^> $|\n> $", "startup": startup}
    async with bench(sys.executable, "-c", DIALOG, options=options) as session:
        await session.create()
        await session.wait_for(Idle)
        assert "heard 'nothing\\n'" in session.tail("out")


async def test_a_dialog_without_an_answer_is_a_start_that_failed(tmp_path: Path) -> None:
    options: dict[str, Json] = {"prompt": "> $", "ready_timeout_s": 1}
    async with bench(sys.executable, "-c", DIALOG, options=options) as session:
        await session.create()
        await session.wait_run()
        assert isinstance(session.failure, StartFailed)
        assert str(session.failure) == (
            "the program was not ready within 1 s: options.prompt '> $' did not match; "
            "it shows 'Do you trust this folder? [y/N]'"
        )


# --- other programs ---------------------------------------------------------------------------------


async def test_bash_runs_what_it_is_told_and_is_idle_again() -> None:
    argv = ("bash", "--norc", "--noprofile", "-i")
    async with bench(*argv, options={"prompt": r"[$#] $"}) as session:
        await session.create()
        await session.wait_for(Idle)
        for text in ("echo one two", "sleep 0.7; echo three", "echo four\necho five"):
            await session.inject(text)
            await session.wait_for(Proven)
            await session.wait_for(Idle)
        said = [event.text for event in session.events if isinstance(event, Transcript)]
        assert said[:2] == ["one two", "three"]
        assert said[2].endswith("four\nfive")  # readline draws a pasted text once more


async def test_a_long_line_in_bash_wraps_and_is_still_proven() -> None:
    argv = ("bash", "--norc", "--noprofile", "-i")
    async with bench(*argv, options={"prompt": r"[$#] $"}) as session:
        await session.create()
        await session.wait_for(Idle)
        await session.inject("echo " + "word " * 300)
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        (said,) = session.of(Transcript)
        assert isinstance(said, Transcript)
        assert said.text.split() == ["word"] * 300


async def test_python_answers() -> None:
    async with bench(sys.executable, "-i", "-q", options={"prompt": ">>> $"}) as session:
        await session.create()
        await session.wait_for(Idle)
        await session.inject("6 * 7")
        await session.wait_for(Proven)
        await session.wait_for(Idle)
        assert [e.text for e in session.events if isinstance(e, Transcript)] == ["42"]


async def test_a_program_without_a_prompt_is_judged_by_silence_and_the_evidence_says_so() -> None:
    async with bench("cat", options={"quiet_s": 0.4}) as session:
        await session.create()
        await session.wait_for(Idle)
        assert session.session.capabilities.boundary == "command.quiet"
        await session.inject("hello cat")
        proven = await session.wait_for(Proven)
        assert isinstance(proven, Proven)
        assert "no prompt pattern" in proven.evidence.reference
        await session.wait_for(Idle)


async def test_a_terminals_own_echo_proves_nothing() -> None:
    async with bench("sh", "-c", "cat >/dev/null", options={"quiet_s": 0.4}) as session:
        await session.create()
        await session.wait_for(Idle)
        write_id = await session.inject("hello")
        await session.wait_for(TurnEnded)
        await session.wait_for(Idle)
        assert not session.of(Proven)
        assert (await session.session.settle(write_id)).verdict is Verdict.UNKNOWN


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: replace(spec, argv=()), "no program to run: name it after --"),
        (lambda spec: replace(spec, mode=Mode.HEADLESS), "command runs a program in a terminal"),
        (lambda spec: replace(spec, approval=Approval.READ_ONLY), "approval read-only"),
        (lambda spec: replace(spec, options={"prompt": "("}), "options.prompt: not a pattern"),
        (lambda spec: replace(spec, argv=("/nonexistent/program",)), "/nonexistent/program"),
    ],
)
async def test_what_cannot_work_is_refused_in_one_line(
    change: Callable[[SessionSpec], SessionSpec], told: str
) -> None:
    def spec(default: SessionSpec) -> SessionSpec:
        return change(replace(default, argv=("cat",)))

    async with DriverBench(harness, ENVIRON, spec) as session:
        with pytest.raises(StartFailed) as caught:
            await session.create()
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_program_that_ends_at_once_is_a_start_that_failed() -> None:
    async with bench("sh", "-c", "echo no licence; exit 3") as session:
        await session.create()
        await session.wait_run()
        assert isinstance(session.failure, StartFailed)
        assert "its last words: no licence" in str(session.failure)


async def test_settings_a_program_cannot_have_are_told() -> None:
    def spec(default: SessionSpec) -> SessionSpec:
        return replace(default, argv=("cat",), model="gpt", options={"quiet_s": 0.2})

    async with DriverBench(harness, ENVIRON, spec) as session:
        await session.create()
        await session.wait_for(Idle)
        (notice,) = session.of(Notice)
        assert isinstance(notice, Notice)
        assert notice.code == "command.ignored"


async def test_steering_and_answers_are_unsupported(tmp_path: Path) -> None:
    async with agent(tmp_path / "log") as session:
        await session.create()
        await session.wait_for(Idle)
        with pytest.raises(Unsupported):
            await session.inject("x", Entry.STEER)
        with pytest.raises(Unsupported):
            await session.session.answer("1", True)
        await session.session.release(STOP)


# --- the contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_driver_keeps_the_contract(check: Callable[[Subject], Awaitable[None]]) -> None:
    def spec(default: SessionSpec) -> SessionSpec:
        return replace(default, argv=AGENT, options=PROMPT)

    await check(Subject(harness, ENVIRON, spec))
