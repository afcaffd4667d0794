"""attach to codex and opencode: their own terminal interface, beside a session that goes on."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import HarnessGone
from relay_runtime.holder_link import connect
from relay_runtime.processes import alive
from relay_runtime.screen import exact
from relay_runtime.views import LEAVE_S, folder_of

from .fleets import RealSession, Word, identity, numbered, real_session
from .terminals import Person, attached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from relay_runtime.processes import Process
    from relay_runtime.testing.clis import Cli

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform"),
]

#: What each shows once one can type.
READY = {"codex": r"Ask Codex to do anything", "opencode": r"ctrl\+p commands"}
#: Keys that answer a request with "once"; what stands there while a turn can be stopped.
ALLOW = {"codex": "y", "opencode": "\r"}
STOPPABLE = "(?i)esc (again )?(to )?interrupt"
DIALOG = "Allow once|Yes, proceed"
#: A program that is asked to end, on a machine that is busy with other tests.
TERM_S = 10.0
#: From when the last one has left until nothing is: first the program goes, then its holder.
GONE_S = 2 * LEAVE_S + TERM_S


@pytest.fixture(params=["codex", "opencode"])
def cli(request: pytest.FixtureRequest) -> Cli:
    found: Cli = request.getfixturevalue(f"{request.param}_cli")
    return found


@asynccontextmanager
async def looking(session: RealSession, *options: str) -> AsyncIterator[Person]:
    """A person who sees the session's interface."""
    async with attached(session.fleet, session.name, *options) as person:
        await person.sees(READY[session.cli.name])
        yield person


async def folder(session: RealSession) -> str:
    return folder_of(str(session.fleet.home / "sessions" / (await session.info())["session_id"]))


async def view_of(session: RealSession) -> list[Process]:
    """The processes of the session's view: its holder and its program."""
    async with connect(await folder(session)) as link:
        pid = (await link.status()).pid
        assert pid is not None
        return [identity(link.holder_pid), identity(pid)]


async def ended(processes: list[Process], within_s: float = GONE_S) -> None:
    """Wait until none of them is alive."""
    with anyio.fail_after(within_s):
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            try:
                if alive([process]):
                    await anyio.wait_readable(fd)
            finally:
                os.close(fd)
    assert not alive(processes)


async def submitted(session: RealSession, since: int) -> str:
    """What the person sent, as the model reads it."""
    request = await session.model.requests.wait("DRAFT", since=since)
    return next(text for text in reversed(request.texts) if "DRAFT" in text)


async def test_a_person_sees_what_comes_in_and_the_answer_and_takes_part(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session:
        async with looking(session) as person:
            session.model.script("the answer to it")
            session.check_delivered(await session.fleet.final(await session.send("FIRST-1")))
            await person.sees("relay msg 1 from tester", "FIRST-1", "the answer to it")
            await session.idle()
            before = len(await session.events("turn.ended"))
            session.model.script("the answer to you")
            person.types("please do SECOND-2")
            await person.sees("please do SECOND-2")
            person.types("\r")
            await person.sees("the answer to you")
            await session.idle()
            assert len(await session.events("turn.ended")) == before + 1
            said = [event["data"]["text"] for event in await session.events("transcript")]
            assert said[-2:] == ["please do SECOND-2", "the answer to you"]
            typed = [event["data"] for event in await session.events("human.input")]
            assert [event["kind"] for event in typed] == ["text", "submit"], "never what it was"
            assert typed[0]["client"].startswith("pts/")
            assert "which goes on" in await person.leaves()
        session.check_in_context(["FIRST-1", "SECOND-2"])


async def one_line(person: Person) -> None:
    person.types("DRAFT of one line, with ünïcode 漢字")
    await person.sees("DRAFT of one line.*ünïcode")


async def several_lines(person: Person) -> None:
    """At the pace of a person: what comes at once is taken for a paste, with its line breaks."""
    for line in ("DRAFT one", "second", "    fourth"):
        person.types(line)
        await person.sees(rf"{line}\s*(\n|$)")
        if line != "    fourth":
            person.types("\n")
    await person.sees(r"DRAFT one\s*\n.*second\s*\n.* {4}fourth")


async def pasted(person: Person) -> None:
    person.pastes("DRAFT a\nb\n\tc\nd")
    await person.sees("DRAFT a|Pasted")


@pytest.mark.parametrize("draft", [one_line, several_lines, pasted])
async def test_a_draft_is_what_it_was_after_many_messages(
    cli: Cli, draft: Callable[[Person], Awaitable[None]], tmp_path: Path
) -> None:
    hold = Word(tmp_path / "hold")
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        # The interface has ways of its own with what one types: the same draft first, undisturbed.
        await draft(person)
        person.types("\r")
        wanted = await submitted(session, 0)
        assert "DRAFT" in wanted
        await session.idle()

        since = len(session.model.requests)
        await draft(person)
        idle = numbered("IDLE", 20)
        for marker in idle[:5]:
            await session.fleet.final(await session.send(marker))
        for number in [await session.send(marker) for marker in idle[5:]]:
            await session.fleet.final(number)
        await session.idle()
        session.model.script({"shell": f"cat {hold.path}"}, "it went on")
        busy = numbered("BUSY", 20)
        sent = [await session.send(busy[0])]
        await session.fleet.wait_event(session.name, "tool.started")
        sent += [await session.send(marker) for marker in busy[1:]]
        await anyio.Path(hold.path).write_text("go\n")
        for number in sent:
            session.check_delivered(await session.fleet.final(number))
        await session.idle()
        assert session.model.requests.occurrences("DRAFT") == 1, "it was not sent by any of them"
        session.check_in_context([*idle, *busy])

        person.types("\r")
        await session.model.requests.wait(
            lambda r: r.main and sum("DRAFT" in text for text in r.texts) == 2, since=since
        )
        last = session.model.requests.main()[-1].texts
        assert [text for text in last if "DRAFT" in text] == [wanted, wanted]
        await session.idle()


async def test_two_people_see_the_same_and_who_may_only_look_sends_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    async with (
        real_session(cli, tmp_path) as session,
        attached(session.fleet, session.name) as one,
        attached(session.fleet, session.name) as two,
        attached(session.fleet, session.name, "--read-only") as reader,
    ):
        for person in (one, two, reader):  # who have come at the same moment
            await person.sees(READY[cli.name])
        view = await view_of(session)
        one.types("from the first,")
        await two.sees("from the first,")
        two.types(" from the second")
        await one.sees("from the first, from the second")
        reader.types(" MISCHIEF\r\x03\x1b")
        await session.fleet.final(await session.send("SEEN-1"))
        for person in (one, two, reader):
            await person.sees("SEEN-1", "from the first, from the second")
            await person.sees_no("detaches")
        await session.idle()
        await one.sees_that(lambda: one.shown == two.shown, "what the second sees")
        assert "MISCHIEF" not in one.shown
        await two.leaves()
        await reader.leaves()
        one.types("!")
        await one.sees("from the second!")
        assert await view_of(session) == view, "the same for all, from the first to the last"
        assert session.model.requests.occurrences("MISCHIEF") == 0


async def test_who_looks_is_told_what_waits(cli: Cli, tmp_path: Path) -> None:
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        await session.fleet.order(session.name, "pause")
        sent = await session.send("LATER-1")
        await person.sees("1 message waits: held")
        await session.fleet.order(session.name, "resume")
        session.check_delivered(await session.fleet.final(sent))
        await person.sees("LATER-1")


async def test_nothing_is_left_of_a_view_after_the_last_one_has_left(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session:
        agent = await session.agent()
        programs: set[Process] = set()
        for visit in range(3):
            async with looking(session) as person:
                holder, program = await view_of(session)
                programs.add(program)
                await person.leaves()
            if visit == 1:  # now stay away
                await ended([program], LEAVE_S + TERM_S)
        assert len(programs) == 2, "who comes back soon finds the same view"
        await ended([program], LEAVE_S + TERM_S)
        await ended([holder])
        await session.fleet.final(await session.send("AFTER-1"))
        assert await session.agent() == agent
        with pytest.raises(HarnessGone):
            await view_of(session)


async def test_the_supervisor_is_killed_while_somebody_looks_and_types(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        session.fleet.kill()
        session.model.script("nobody supervises")
        person.types("please do ALONE-1")
        await person.sees("please do ALONE-1")
        person.types("\r")
        await person.sees("nobody supervises")
        async with looking(session) as late:
            await late.sees("nobody supervises")
            person.types("a draft")
            await late.sees("a draft")
        await session.fleet.up()
        session.check_delivered(await session.fleet.final(await session.send("BACK-2")))
        await person.sees("BACK-2", "a draft")
        await session.idle()
        said = [event["data"]["text"] for event in await session.events("transcript")]
        assert "please do ALONE-1" in said
        session.check_in_context(["ALONE-1", "BACK-2"])


async def test_a_view_can_be_opened_while_there_is_no_supervisor_and_ends_all_the_same(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session:
        where = await folder(session)
        session.fleet.kill()
        async with attached(session.fleet, session.name) as person:
            await person.sees(READY[cli.name])
            async with connect(where) as link:
                pid = (await link.status()).pid
                assert pid is not None
                view = [identity(link.holder_pid), identity(pid)]
            command = await anyio.Path(f"/proc/{pid}/cmdline").read_bytes()
            async with connect(str(Path(where).parent)) as link:
                secrets = [text for text in (await link.status()).memo.values() if len(text) > 20]
            assert all(secret.encode() not in command for secret in secrets)
            await person.leaves()
        await ended(view)
        await session.fleet.up()
        await session.idle()


async def test_a_request_is_answered_in_the_view_or_outside_by_who_is_first(
    cli: Cli, tmp_path: Path
) -> None:
    async with (
        real_session(cli, tmp_path, approval="guarded") as session,
        looking(session) as person,
    ):
        for number, inside in enumerate((True, False, True)):
            made = session.work / f"made-{number}"
            session.model.script({"shell": f"touch {made.name}"}, f"done with {number}")
            sent = await session.send(f"NEED-{number}")
            await session.fleet.wait_state(session.name, "waiting")
            await person.sees(rf"touch {made.name}", DIALOG)
            if inside:
                await person.presses(ALLOW[cli.name], DIALOG)
            else:
                await session.fleet.order(session.name, "answer", allow=True)
            await person.sees(f"done with {number}")
            session.check_delivered(await session.fleet.final(sent))
            info = await session.idle()
            assert info["waiting"] == [] and made.exists()
        kinds = [event["type"] for event in await session.fleet.events(session.name)]
        assert kinds.count("permission.requested") == kinds.count("permission.resolved") == 3


async def test_a_turn_that_is_stopped_in_the_view_ends_in_idle_and_messages_go_on(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        begun = Word(tmp_path / "begun")
        session.model.script({"shell": f"echo begun > {begun.path}; sleep 60"}, "never", "again")
        sent = await session.send("LONG-1")
        await begun.lines()
        await person.sees(STOPPABLE)
        await person.presses("\x1b", STOPPABLE)  # opencode asks for it twice
        await session.idle()
        session.check_delivered(await session.fleet.final(sent))
        (turn,) = [event["data"] for event in await session.events("turn.ended")]
        assert turn["outcome"] == "interrupted"
        session.check_delivered(await session.fleet.final(await session.send("NEXT-2")))
        await person.sees("NEXT-2")


async def test_who_looks_when_the_agent_dies_sees_the_next_one(cli: Cli, tmp_path: Path) -> None:
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        session.check_delivered(await session.fleet.final(await session.send("BEFORE-1")))
        await person.sees("BEFORE-1")
        agent = await session.agent()
        events = await session.fleet.events(session.name)
        os.kill(agent.pid, signal.SIGKILL)
        await session.fleet.wait_event(session.name, "session.ready", events[-1]["cursor"])
        await session.idle()
        session.check_delivered(await session.fleet.final(await session.send("AFTER-2")))
        await person.sees("BEFORE-1", "AFTER-2")
        await session.idle()
        person.types("and I do THIRD-3")
        await person.sees("and I do THIRD-3")
        person.types("\r")
        await session.model.requests.wait("THIRD-3")
        await session.idle()


async def test_it_says_so_when_the_session_is_released_and_leaves_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    async with real_session(cli, tmp_path) as session, looking(session) as person:
        view = await view_of(session)
        await session.fleet.order(session.name, "release", force=True)
        assert f"{session.name} has ended" in await person.is_left()
        await ended(view, within_s=10.0)


async def test_a_snapshot_is_of_the_view_while_there_is_one(cli: Cli, tmp_path: Path) -> None:
    async with real_session(cli, tmp_path) as session:
        none = await session.fleet.command("snapshot", session.name)
        assert none.returncode == 6 and b"nobody is attached" in none.stderr
        async with looking(session) as person:
            person.types("a draft to see")
            await person.sees("a draft to see")
            taken = await session.fleet.command("snapshot", session.name)
            assert taken.returncode == 0 and b"a draft to see" in taken.stdout
