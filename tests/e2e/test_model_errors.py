"""The model endpoint refuses, is limited, is down, goes silent or hangs up, under each real CLI.

What was in flight is delivered all the same: it is in the agent's context, and the error is what
became of its turn. What comes meanwhile waits, its sender is told why, and it goes in afterwards.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from relay_runtime.testing.model_server import Outcome

from .fleets import RealSession, numbered, real_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from relay_runtime.contract import Json
    from relay_runtime.testing.clis import Cli
    from relay_runtime.testing.fleet import Answer

    Step = Mapping[str, object]

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

#: Claude would try ten times, for minutes. Codex is bounded by its configuration file, and OpenCode
#: cannot be: it tries six times, so the endpoint must not let it wait long in between.
FEW_RETRIES = {"CLAUDE_CODE_MAX_RETRIES": "1"}
#: Requests of a turn that meets nothing but `down()`.
REQUESTS = {"claude": 2, "codex": 4, "opencode": 6}
WAITING = numbered("WAIT", 3)
CUT_NOTE = "Your previous turn was cut off"


def down(status: int, message: str, retry_after: int) -> list[Step]:
    """An endpoint that refuses every try of a turn, the last of OpenCode's with `retry_after`."""
    refusal = {"status": status, "message": message}
    quick = {**refusal, "headers": {"retry-after-ms": "100"}, "times": 5}
    return [quick, {**refusal, "headers": {"retry-after": str(retry_after)}, "times": 30}]


async def fly_into(session: RealSession, *steps: Step) -> list[int]:
    """A message whose turn meets `steps`, and those that come meanwhile."""
    flying = await session.send(f"in flight FLYING-1 SCRIPT:{json.dumps(steps)}:END")
    await session.model.requests.wait("FLYING-1")
    waiting = [await session.send(f"waits {marker} SCRIPT:[]:END") for marker in WAITING]
    return [flying, *waiting]


async def ended(session: RealSession, outcome: str) -> Answer:
    """The end of the first turn with this outcome."""
    event = await session.fleet.wait_event(session.name, "turn.ended", outcome=outcome)
    data: Answer = event["data"]
    return data


async def shown_by_ps(session: RealSession) -> Answer:
    done = await session.fleet.command("ps", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    shown: Answer = row
    return shown


async def error_classes(session: RealSession) -> set[str]:
    """The class of every error that was told."""
    said = [event["data"]["error"] for event in await session.events("error")]
    said += [event["data"]["error"] for event in await session.events("turn.ended")]
    return {error["error"] for error in said if error is not None}


async def check_all_are_delivered(
    session: RealSession, numbers: Sequence[int], markers: Sequence[str] = ()
) -> list[list[Answer]]:
    """Each message once, in order, with receipts that are true; returns those of each message."""
    every = [await session.fleet.final(number) for number in numbers]
    info = await session.idle()
    assert (info["queued"], info["restarts"], info["reason"]) == (0, 0, None)
    for receipts in every:
        session.check_delivered(receipts)
    assert [r["status"] for r in every[0]] == ["accepted", "delivered"]
    session.check_in_context(["FLYING-1", *WAITING, *markers])
    return every


def check_waited_for(receipts: Sequence[Answer], reason: str) -> None:
    reasons = [receipt["reason"] for receipt in receipts if receipt["status"] == "deferred"]
    assert reasons[-1:] == [reason] and set(reasons) <= {"busy", reason}, receipts


# --- held ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "error"), [(401, "auth"), (429, "rate_limit")])
async def test_a_held_session_survives_its_supervisor_and_goes_on_when_it_is_resumed(
    any_cli: Cli, tmp_path: Path, status: int, error: str
) -> None:
    message = {401: "bad key", 429: "rate limit reached"}[status]
    async with real_session(any_cli, tmp_path, FEW_RETRIES) as session:
        numbers = await fly_into(session, *down(status, message, retry_after=60))
        failure = (await ended(session, "failed"))["error"]
        assert (failure["error"], failure["status"]) == (error, status)
        held, agent = await session.info(), await session.agent()
        assert (held["state"], held["reason"]) == ("held", failure["message"])
        assert held["queued"] == len(WAITING)
        for_a_human = held["retry_at"] is None
        assert for_a_human if status == 401 else held["retry_at"] > time.time() + 10
        asked = len(session.model.requests.main())

        session.fleet.kill()
        await session.fleet.up()
        numbers.append(await session.send("late LATE-1 SCRIPT:[]:END"))
        shown = await shown_by_ps(session)
        assert (shown["state"], shown["reason"]) == ("held", failure["message"])
        assert shown["retry_at"] == held["retry_at"] and await session.agent() == agent
        for number in numbers[1:]:
            last = (await session.fleet.receipts(number))["receipts"][-1]
            assert (last["status"], last["reason"]) == ("deferred", "held")
            assert last["next_attempt_at"] == held["retry_at"]
        assert len(session.model.requests.main()) == asked, "nothing goes in meanwhile"

        await session.fleet.order(session.name, "resume")
        every = await check_all_are_delivered(session, numbers, ["LATE-1"])
        for receipts in every[1:]:
            check_waited_for(receipts, "held")
        assert session.model.requests.occurrences(CUT_NOTE) == 1
        assert await error_classes(session) == {error}


async def test_an_endpoint_that_is_down_holds_the_session_for_seconds_and_then_all_goes_in(
    any_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(any_cli, tmp_path, FEW_RETRIES) as session:
        numbers = await fly_into(session, *down(500, "internal server error", retry_after=3))
        failure = (await ended(session, "failed"))["error"]
        held = await session.info()
        assert (held["state"], held["reason"]) == ("held", failure["message"])
        every = await check_all_are_delivered(session, numbers)
        for receipts in every[1:]:
            check_waited_for(receipts, "held")
            assert receipts[-2]["next_attempt_at"] == held["retry_at"] <= receipts[-1]["at"]
        assert session.model.requests.occurrences(CUT_NOTE) == 1
        assert await error_classes(session) == {"overloaded"}


async def test_an_agent_whose_turn_was_cut_off_goes_on_with_it_though_nothing_else_waits(
    newest_cli: Cli, tmp_path: Path
) -> None:
    async with real_session(newest_cli, tmp_path, FEW_RETRIES) as session:
        quick = {"retry-after-ms": "100"}
        refusal = {"status": 500, "headers": quick, "times": REQUESTS[newest_cli.name]}
        session.model.script(refusal, "went on")
        session.check_delivered(await session.fleet.final(await session.send("alone FLYING-1")))
        await ended(session, "failed")
        await ended(session, "completed")
        await session.idle()
        session.check_in_context(["FLYING-1", CUT_NOTE])
        assert (await session.events("transcript"))[-1]["data"]["text"] == "went on"


# --- the CLI itself tries again -----------------------------------------------------------------------


async def test_a_rate_limit_that_passes_is_waited_out_for_as_long_as_the_endpoint_wants(
    any_cli: Cli, tmp_path: Path
) -> None:
    if any_cli.mode == "pty":
        pytest.skip("in its terminal claude tells nobody that it tries again")
    limit = {"status": 429, "message": "rate limit reached", "headers": {"retry-after": "2"}}
    async with real_session(any_cli, tmp_path, FEW_RETRIES) as session:
        numbers = await fly_into(session, limit)
        held = await session.fleet.wait_state(session.name, "held")
        (said,) = [event["data"]["error"] for event in await session.events("error")]
        assert said["retrying"] and held["reason"] == said["message"]
        every = await check_all_are_delivered(session, numbers)
        for receipts in every[1:]:
            reasons = [r["reason"] for r in receipts if r["status"] == "deferred"]
            assert "held" in reasons and set(reasons) <= {"busy", "held"}, receipts
        first, second = session.model.requests.main()[:2]
        assert second.at - first.at >= 1.9, "it is asked again too early"
        if any_cli.name != "codex":  # which says nothing of when it tries again
            assert held["retry_at"] == pytest.approx(second.at, abs=1)
        assert await error_classes(session) == {"rate_limit"}
        assert await outcomes(session) == {"completed"}
        assert len(await session.events("error.cleared")) == 1


async def test_a_stream_that_is_cut_is_asked_for_again_and_nothing_is_lost(
    any_cli: Cli, tmp_path: Path
) -> None:
    cut = {"chunks": ["now ", "here "], "chunk_delay": 0.3, "cut": True}
    # It tries again without a word.
    silent = any_cli.version == "2.1.197" or any_cli.mode == "pty"
    async with real_session(any_cli, tmp_path, FEW_RETRIES) as session:
        numbers = await fly_into(session, cut)
        await check_all_are_delivered(session, numbers)
        assert session.model.requests.main()[0].outcome is Outcome.CUT
        said = [event["data"]["error"]["message"] for event in await session.events("error")]
        states = [event["data"] for event in await session.events("session.state")]
        held = [state["reason"] for state in states if state["state"] == "held"]
        assert held == said and len(held) == (0 if silent else 1)
        assert await error_classes(session) == (set() if silent else {"overloaded"})
        assert await outcomes(session) == {"completed"}


async def outcomes(session: RealSession) -> set[str]:
    return {event["data"]["outcome"] for event in await session.events("turn.ended")}


# --- nothing comes at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("silence", ["headers", "start"])
async def test_a_model_that_hangs_keeps_messages_waiting_until_its_turn_is_interrupted(
    any_cli: Cli, tmp_path: Path, silence: str
) -> None:
    limits: dict[str, Json] = {"watchdog": {"turn_idle_s": 0.5}}
    async with real_session(any_cli, tmp_path, FEW_RETRIES, limits=limits) as session:
        numbers = await fly_into(session, {"hang": silence, "times": 30})
        cursor = (await session.fleet.events(session.name))[-1]["cursor"]
        await session.fleet.wait_event(session.name, "notice", cursor, code="turn.stalled")
        info = await session.info()
        unproven = any_cli.mode == "pty"  # until the model says something
        assert (info["state"], info["queued"]) == ("busy", len(WAITING) + unproven)
        assert info["turn"]
        (hung,) = session.model.requests.main()
        await session.fleet.order(session.name, "interrupt")
        assert (await ended(session, "interrupted"))["error"] is None
        assert await session.model.requests.wait_outcome(hung) is Outcome.ABORTED
        for receipts in (await check_all_are_delivered(session, numbers))[1:]:
            check_waited_for(receipts, "busy")
        assert await error_classes(session) == set()
        assert session.model.requests.occurrences(CUT_NOTE) == 0
