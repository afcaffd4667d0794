"""Claude Code in its own terminal interface: dialogues, drafts, keys of people, and their messages."""

from __future__ import annotations

import json
import random
import re
import secrets
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.testing.fleet import FleetError

from .fleets import numbered, real_session
from .keyboard import person

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.contract import Json
    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Answer

    from .fleets import RealSession

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: So that a test need not wait for half a minute until nobody is at the keyboard.
SOON: Json = {"quiet_s": 1}
ESCAPE, ENTER, INTERRUPT = "\x1b", "\r", "\x03"
ASKS = "Do you want to"


async def at_the_keyboard(session: RealSession) -> str:
    session_id: str = (await session.info())["session_id"]
    return session_id


async def asked(session: RealSession, file: str) -> Answer:
    """Have the agent ask whether it may write a file."""
    session.model.script({"write": {"path": str(session.work / file), "content": "x"}}, "went on")
    await session.send(f"write {file}")
    event = await session.fleet.wait_event(session.name, "permission.requested")
    data: Answer = event["data"]
    return data


# --- permissions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("allow", [True, False])
async def test_a_permission_request_is_shown_and_answered_from_outside(
    tui_cli: Cli, tmp_path: Path, allow: bool
) -> None:
    async with real_session(tui_cli, tmp_path, approval="guarded") as session:
        request = await asked(session, "new.txt")
        assert request["tool"] == "Write" and "new.txt" in request["detail"]
        info = await session.info()
        assert info["state"] == "waiting"
        assert [w["request_id"] for w in info["waiting"]] == [request["request_id"]]
        with person(session, info["session_id"]) as someone:
            await someone.see(ASKS)
            waiting = await session.send("waits WAIT-1")
            await session.fleet.order(session.name, "answer", allow=allow, message="relay says no")
            await someone.see(lambda screen: ASKS not in screen)
        (answered,) = await session.events("permission.resolved")
        assert answered["data"]["decision"] == ("allow" if allow else "deny")
        session.check_delivered(await session.fleet.final(waiting))
        await session.idle()
        assert (session.work / "new.txt").exists() is allow
        told = json.dumps(session.model.requests.main()[1].body)
        assert ("relay says no" in told) is not allow
        session.check_in_context(["write new.txt", "WAIT-1"])


@pytest.mark.parametrize("keys", ["1", ESCAPE])
async def test_a_permission_request_is_answered_in_the_terminal(
    tui_cli: Cli, tmp_path: Path, keys: str
) -> None:
    async with real_session(tui_cli, tmp_path, approval="guarded", options=SOON) as session:
        request = await asked(session, "new.txt")
        with person(session, await at_the_keyboard(session)) as someone:
            await someone.see(ASKS)
            await someone.answer(keys, ASKS)
            found = await session.fleet.wait_event(session.name, "permission.resolved")
        wanted = "allow" if keys == "1" else "deny"
        assert found["data"] == {"request_id": request["request_id"], "decision": wanted}
        await session.idle()
        assert (session.work / "new.txt").exists() is (keys == "1")
        with pytest.raises(FleetError):
            await session.fleet.order(session.name, "answer", allow=False)
        session.check_delivered(await session.fleet.final(await session.send("after AFTER-1")))


async def test_a_permission_request_survives_a_restart_of_the_supervisor(
    newest_tui: Cli, tmp_path: Path
) -> None:
    async with real_session(newest_tui, tmp_path, approval="guarded") as session:
        request = await asked(session, "new.txt")
        session.fleet.kill()
        await session.fleet.up()
        info = await session.fleet.wait_state(session.name, "waiting")
        assert [w["request_id"] for w in info["waiting"]] == [request["request_id"]]
        await session.fleet.order(session.name, "answer", allow=True)
        await session.idle()
        assert (session.work / "new.txt").exists()
        assert len(await session.events("permission.requested")) == 1
        assert len(await session.events("permission.resolved")) == 1


# --- what it asks before it starts ----------------------------------------------------------------------


STARTS = {"projects": "trust", "customApiKeyResponses": "API key"}


NO_IS_CHOSEN = re.compile(r"❯ (\d\. )?No")
UP, DOWN = "\x1b[A", "\x1b[B"


@pytest.mark.parametrize("name", STARTS)
async def test_a_dialogue_at_the_start_is_reported_and_waits_for_a_person(
    tui_cli: Cli, tmp_path: Path, name: str
) -> None:
    async with real_session(tui_cli, tmp_path, unanswered=name) as session:
        info = await session.fleet.wait_state(session.name, "waiting")
        (request,) = info["waiting"]
        assert STARTS[name] in f"{request['tool']} {request['detail']}"
        number = await session.send("too early EARLY-1")
        with person(session, info["session_id"]) as someone:
            await someone.see("❯")
            with pytest.raises(FleetError, match="attach"):
                await session.fleet.order(session.name, "answer", allow=True)
            session.fleet.kill()
            await session.fleet.up()
            assert (await session.fleet.wait_state(session.name, "waiting"))["waiting"] == [request]
            if NO_IS_CHOSEN.search(someone.screen):
                someone.press(UP if name == "customApiKeyResponses" else DOWN)
                await someone.see(lambda screen: not NO_IS_CHOSEN.search(screen))
            someone.press(ENTER)
            await session.idle()
        session.check_delivered(await session.fleet.final(number))
        assert len(await session.events("permission.resolved")) == 1


async def test_a_dialogue_at_the_start_is_answered_once_where_the_profile_says_so(
    newest_tui: Cli, tmp_path: Path
) -> None:
    options: Json = {"startup": [{"expect": "trust this folder", "answer": f"{DOWN}{ENTER}"}]}
    async with real_session(
        newest_tui, tmp_path, unanswered="projects", options=options
    ) as session:
        await session.idle()
        session.check_delivered(await session.fleet.final(await session.send("hello HI-1")))
        (said,) = await session.events("notice")
        assert said["data"]["code"] == "claude.answered"
        assert await session.events("permission.requested") == []


# --- people ---------------------------------------------------------------------------------------------


async def test_an_interrupt_in_the_terminal_ends_the_turn_and_what_waits_goes_in(
    tui_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(tui_cli, tmp_path, options=SOON) as session:
        session.model.script({"shell": "echo on; sleep 60"})
        flying = await session.send("long FLYING-1")
        await session.fleet.wait_event(session.name, "tool.started")
        waiting = await session.send("waits WAIT-1")
        with person(session, await at_the_keyboard(session)) as someone:
            someone.press(ESCAPE)
            ended = await session.fleet.wait_event(session.name, "turn.ended")
        assert ended["data"]["outcome"] == "interrupted"
        for number in (flying, waiting):
            session.check_delivered(await session.fleet.final(number))
        session.check_in_context(["FLYING-1", "WAIT-1"])
        typed = [event["data"] for event in await session.events("human.input")]
        assert typed == [{"client": "pts/9", "kind": "interrupt"}]


async def test_a_message_that_a_person_takes_back_is_delivered_only_when_it_is_in_again(
    tui_cli: Cli, tmp_path: Path
) -> None:
    """An interrupt before the first word puts the message into the input box."""
    async with real_session(tui_cli, tmp_path, options=SOON) as session:
        session.model.script({"hang": "headers"})
        number = await session.send("back TAKEN-1")
        await session.model.requests.wait("TAKEN-1")
        with person(session, await at_the_keyboard(session)) as someone:
            someone.press(ESCAPE)
            await someone.see(lambda screen: screen.rindex("TAKEN-1") > screen.rindex("❯"))
            await session.fleet.wait_event(session.name, "turn.ended", outcome="interrupted")
            someone.press(INTERRUPT)
            await someone.see(lambda screen: "TAKEN-1" not in screen)
            told = (await session.fleet.receipts(number))["receipts"]
            assert [receipt["status"] for receipt in told] == ["accepted"]
            session.check_delivered(await session.fleet.final(number))
        await session.idle()
        session.check_in_context(["TAKEN-1"])


async def test_who_types_is_told_and_never_what(newest_tui: Cli, tmp_path: Path) -> None:
    async with real_session(newest_tui, tmp_path, options=SOON) as session:
        with person(session, await at_the_keyboard(session)) as someone:
            someone.press("a SECRET-1")
            assert await session.fleet.wait_state(session.name, "drafting")
            someone.press(ENTER)
            await session.fleet.wait_event(session.name, "turn.ended")
        await session.idle()
        told = [e for e in await session.fleet.events(session.name) if e["type"] != "transcript"]
        assert "SECRET-1" not in json.dumps(told)
        kinds = [e["data"]["kind"] for e in told if e["type"] == "human.input"]
        assert kinds[0] == "text" and kinds[-1] == "submit"


async def test_a_message_to_somebody_who_has_just_typed_touches_nothing_of_theirs(
    newest_tui: Cli, tmp_path: Path
) -> None:
    async with real_session(newest_tui, tmp_path, options={"quiet_s": 3600}) as session:
        with person(session, await at_the_keyboard(session)) as someone:
            someone.press("hello")
            someone.press(ENTER)
            await session.fleet.wait_event(session.name, "turn.ended")
            await session.idle()
            session.check_delivered(await session.fleet.final(await session.send("quiet NOW-1")))
            await someone.see("relay message received")
        assert session.model.requests.occurrences("NOW-1") == 1


# --- what it does by itself -----------------------------------------------------------------------------


async def test_a_conversation_that_a_person_cleared_goes_on_as_another(
    tui_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(tui_cli, tmp_path, options=SOON) as session:
        session.check_delivered(await session.fleet.final(await session.send("before FIRST-1")))
        before = await session.idle()
        cursor = (await session.fleet.events(session.name))[-1]["cursor"]
        with person(session, before["session_id"]) as someone:
            someone.press("/clear")
            await someone.see("/clear")
            someone.press(ENTER)
            ready = await session.fleet.wait_event(session.name, "session.ready", cursor)
        assert ready["data"]["conversation"] != before["conversation"]
        session.check_delivered(await session.fleet.final(await session.send("after SECOND-2")))
        after = await session.idle()
        assert after["conversation"] == ready["data"]["conversation"]
        last = session.model.requests.main()[-1]
        assert last.holds("SECOND-2") and not last.holds("FIRST-1")


async def test_a_turn_that_claude_begins_by_itself_is_told(tui_cli: Cli, tmp_path: Path) -> None:
    async with real_session(tui_cli, tmp_path) as session:
        args = {"command": "sleep 1; echo over", "run_in_background": True, "description": "d"}
        session.model.script({"tool": "Bash", "args": args}, "started", "noted")
        session.check_delivered(await session.fleet.final(await session.send("begin BEGIN-1")))
        noted = await session.fleet.wait_event(
            session.name, "transcript", role="assistant", text="noted"
        )
        await session.fleet.wait_event(session.name, "session.idle", noted["cursor"])
        started, ended = await session.events("turn.started"), await session.events("turn.ended")
        turns = [[e["data"]["turn_id"] for e in told] for told in (started, ended)]
        assert turns[0] == turns[1] and len(set(turns[0])) == 2
        assert noted["data"]["turn_id"] == turns[0][1]


@pytest.mark.timeout(240)
async def test_kills_of_the_supervisor_lose_and_repeat_nothing_that_a_hook_takes_in(
    newest_tui: Cli, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    markers = numbered("WOKEN", 18)
    async with real_session(newest_tui, tmp_path, options={"quiet_s": 3600}) as session:
        with person(session, await at_the_keyboard(session)) as someone:
            someone.press("hello")
            await someone.see("hello")
            someone.press(ENTER)
            await session.fleet.wait_event(session.name, "turn.ended")
        numbers: list[int] = []
        for kill in range(6):
            for marker in markers[kill * 3 : kill * 3 + 3]:
                numbers.append(await session.send(marker))
            await anyio.sleep(chance.uniform(0, 0.5))
            session.fleet.kill()
            await session.fleet.up()
        for number in numbers:
            session.check_delivered(await session.fleet.final(number))
        await session.idle()
        session.check_in_context(markers)
        context = json.dumps(session.model.requests.main()[-1].body)
        assert context.count("Message from the relay:") >= 6, "they did not go in through a hook"
