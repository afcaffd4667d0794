"""A person at Claude's own terminal, and messages that come while they are there."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from relay_runtime.screen import exact

from .claude_reader import Reader, reading
from .fleets import RealSession, numbered, real_session
from .terminals import SOON_S

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.contract import Json
    from relay_runtime.testing.clis import Cli

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform"),
]

MESSAGES: Final = 20
#: Each is refused in the end, so that no tool ever runs. A second and a half each, in several
#: sessions at once.
DIALOGUES: Final = 200
SESSIONS: Final = 4
REFUSED: Final = "the test says no"
#: The model, before it wants to run a command.
THINKS_S: Final = 0.4
#: Longer than Enter comes after a paste: what was typed under a dialogue has answered it by then.
ENTER_S: Final = 0.15
#: So that a message is typed between a person's keys, not half a minute after them.
QUIET_S: Final = 0.2
NO_PATIENCE: Final[Json] = {"quiet_s": QUIET_S}
#: Some characters are wide, some combine.
LINE: Final = "a draft of 中文 and cafe\u0301, not ye"


# --- drafts -----------------------------------------------------------------------------------------


async def type_one_line(person: Reader) -> None:
    person.types(LINE)
    await person.sees(LINE.replace("e\u0301", "."))


async def type_lines(person: Reader) -> None:
    for keys in ("first of them", "\\", "\r", "  the second", "\\", "\r", "\\", "\r", "the last"):
        person.types(keys)
        await person.sees("first")
    await person.sees("the last")


async def paste_lines(person: Reader) -> None:
    person.types("see: ")
    await person.sees("see:")
    person.pastes("\n".join(f"{number}. pasted line 中文" for number in range(1, 31)))
    await person.sees(r"\[Pasted text #\d+ \+29 lines\]")
    person.types(" and tell")
    await person.sees("and tell")


#: How each begins, and the typing of it.
DRAFTS: Final = {
    "one-line": ("a draft of", type_one_line),
    "lines": ("first of them", type_lines),
    "pasted": ("see:", paste_lines),
}


async def submit(session: RealSession, person: Reader, begin: str) -> str:
    """Press Enter; what the model is given of the draft that begins so."""
    await person.sees_draft()
    before = len(session.model.requests)
    person.types("\r")
    asked = await session.model.requests.wait(lambda r: r.main, SOON_S, since=before)
    await person.sees_empty_box()
    await session.idle()
    return [text for text in asked.texts if begin in text][-1]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("kind", DRAFTS)
async def test_a_half_typed_draft_is_untouched_by_twenty_messages(
    newest_tui: Cli, kind: str, busy: bool, tmp_path: Path
) -> None:
    async with (
        real_session(newest_tui, tmp_path, options=NO_PATIENCE) as session,
        reading(session) as person,
    ):
        begin, type_it = DRAFTS[kind]
        await type_it(person)
        alone = await submit(session, person, begin)  # of a draft that nothing disturbs
        markers = numbered("DRAFT-", MESSAGES)
        if busy:
            says = {"chunks": ["word "] * 15, "chunk_delay": 0.1}
            session.model.script(*({**says, "shell": f"echo {number}"} for number in range(4)))
            session.model.script("all done")
            await session.send("work for a while")
            await person.sees_box(lambda box: box.busy is True)
        await type_it(person)
        for marker in markers:
            mode = "steer" if busy else "next-turn"
            sent = await session.fleet.send(session.name, marker, mode=mode)
            if not busy:
                session.check_delivered(await session.fleet.final(sent["message_id"]))
        if busy:
            await session.fleet.final(sent["message_id"])
        await session.idle()
        session.check_in_context(markers)
        assert await submit(session, person, begin) == alone
        assert session.model.requests.occurrences(alone) == 2


# --- looking on -------------------------------------------------------------------------------------


async def test_who_looks_on_sees_the_message_and_the_answer(
    newest_tui: Cli, tmp_path: Path
) -> None:
    async with (
        real_session(newest_tui, tmp_path) as session,
        reading(session) as person,
    ):
        session.model.script("the ANSWER-1 of the model")
        receipts = await session.fleet.final(await session.send("please do QUESTION-1"))
        await person.sees("please do QUESTION-1", "the ANSWER-1 of the model")
        session.check_delivered(receipts)


async def test_two_people_see_the_same_screen(newest_tui: Cli, tmp_path: Path) -> None:
    async with (
        real_session(newest_tui, tmp_path, options=NO_PATIENCE) as session,
        reading(session) as first,
        reading(session, "--read-only") as second,
    ):
        await first.leaves()  # whoever comes again gets the whole screen at once
        async with reading(session) as again:
            for number in range(5):
                session.model.script(f"the answer {number} 中文 e\u0301")
                await session.fleet.final(await session.send(f"SAME-{number}"))
                await again.sees(f"the answer {number}")
                again.types(f"draft {number} ")
            await session.idle()
            for person in (again, second):
                await person.sees("the answer 4", "draft 0 draft 1 draft 2 draft 3 draft 4")
                await person.sees_no("detaches")
            await second.sees_the_same_as(again)
            second.types("not from me")
            second.pastes("nor this")
            second.types("\r")
            again.types("END")
            await second.sees("draft 4 END")
        session.check_in_context([f"SAME-{number}" for number in range(5)])
        assert session.model.requests.occurrences("not from me") == 0


# --- dialogues --------------------------------------------------------------------------------------


class Race:
    """Turns that each ask for permission while a message comes."""

    def __init__(self, session: RealSession, seed: int) -> None:
        self._session = session
        self._random = random.Random(seed)
        self._cursor = 0
        self.kept = 0  #: messages that had to wait for the answer

    async def run(self, number: int) -> None:
        """One turn, and one message into it."""
        session, fleet, name = self._session, self._session.fleet, self._session.name
        command = f"touch made-{number:03d}Z"
        begins = {"text": "I begin", "shell": "echo begun"}  # which proves that it was told to
        session.model.script(begins, {"shell": command, "delay": THINKS_S}, "then not")
        await session.send(f"GO-{number:03d}Z")
        first = await session.model.requests.wait(f"GO-{number:03d}Z")
        await session.model.requests.wait(f"GO-{number:03d}Z", since=first.index + 1)
        # Before, while and after Claude opens the dialogue.
        await anyio.sleep(self._random.uniform(0, 2 * THINKS_S))
        sent = await fleet.send(name, f"RACE-{number:03d}Z", mode="steer")
        asked = await fleet.wait_event(name, "permission.requested", self._cursor)
        assert command in asked["data"]["detail"]
        await anyio.sleep(ENTER_S)
        (pending,) = (await session.info())["waiting"]
        assert pending["request_id"] == asked["data"]["request_id"]
        await fleet.order(name, "answer", allow=False, message=REFUSED)
        await fleet.wait_event(name, "turn.ended", asked["cursor"])
        receipts = await fleet.final(sent["message_id"])
        session.check_delivered(receipts)
        self.kept += "waiting" in [receipt["reason"] for receipt in receipts]
        self._cursor = asked["cursor"]
        await self._idle()

    async def _idle(self) -> None:
        async for _ in self._session.fleet.follow(self._session.name, self._cursor):
            if (await self._session.info())["state"] == "idle":
                return


@pytest.mark.timeout(900)
async def test_two_hundred_messages_race_two_hundred_dialogues_and_answer_none(
    newest_tui: Cli, tmp_path: Path
) -> None:
    kept: list[int] = []

    async def race(seed: int) -> None:
        kept.append(await run_races(newest_tui, tmp_path / str(seed), seed))

    async with anyio.create_task_group() as tasks:
        for seed in range(SESSIONS):
            tasks.start_soon(race, seed)
    # Else nothing raced: some went in before the dialogue, some had to wait.
    assert DIALOGUES / 10 < sum(kept) < DIALOGUES * 9 / 10, kept


async def run_races(cli: Cli, folder: Path, seed: int) -> int:
    """How many messages had to wait, of one session's share."""
    async with real_session(cli, folder, approval="guarded", options=NO_PATIENCE) as session:
        race, dialogues = Race(session, seed), DIALOGUES // SESSIONS
        for number in range(dialogues):
            await race.run(number)
        assert not list(session.work.iterdir())
        said = str(session.model.requests.main()[-1].body)
        assert said.count(REFUSED) == dialogues
        found = [event["data"] for event in await session.events("permission.resolved")]
        assert [resolved["decision"] for resolved in found] == ["deny"] * dialogues
        markers = [f"RACE-{number:03d}Z" for number in range(dialogues)]
        assert all(session.model.requests.occurrences(marker) == 1 for marker in markers)
        return race.kept


# --- windows and supervisors that go away -----------------------------------------------------------


async def test_a_storm_of_sizes_disturbs_neither_messages_nor_the_screen(
    newest_tui: Cli, tmp_path: Path
) -> None:
    sizes = ((60, 200), (5, 10), (40, 120), (10, 5), (24, 80), (12, 31), (200, 60), (10, 40))
    async with (
        real_session(newest_tui, tmp_path, options=NO_PATIENCE) as session,
        reading(session) as person,
    ):
        markers = numbered("STORM-", MESSAGES)
        words = "中文 cafe\u0301 👩\u200d👩\u200d👧 \u05d0\u05d1 e\u0301\u0302\u0303"
        session.model.script(*(f"{words} {words * 9} ANSWER-{marker}" for marker in markers))

        async def shake() -> None:
            for size in itertools.cycle(sizes):
                person.resizes(*size)
                await anyio.sleep(0.05)  # as fast as the edge of a window is dragged

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shake)
            for marker in markers:
                sent = await session.send(f"{marker} {words}\n{words}")
                session.check_delivered(await session.fleet.final(sent))
            tasks.cancel_scope.cancel()
        await session.idle()
        session.check_in_context(markers)
        for size in ((30, 100), (40, 120)):
            person.resizes(*size)
            await person.sees_empty_box()  # which goes from edge to edge
            await person.sees(f"ANSWER-{markers[-1]}")
        async with reading(session) as late:
            await late.sees_no("detaches")
            await person.sees_the_same_as(late)


async def test_the_terminal_works_on_when_the_supervisor_is_killed(
    newest_tui: Cli, tmp_path: Path
) -> None:
    async with (
        real_session(newest_tui, tmp_path, options=NO_PATIENCE) as session,
        reading(session) as person,
    ):
        session.check_delivered(await session.fleet.final(await session.send("BEFORE-1")))
        session.model.script({"shell": "echo from-the-tool"}, "on its OWN-1")
        person.types("half a dra")
        await person.sees("half a dra")
        session.fleet.kill()
        person.types("ft of OWN-0")
        await person.sees("half a draft of OWN-0")
        person.types("\r")
        await person.sees("on its OWN-1")
        await person.sees_empty_box()
        person.types("another one")
        await person.sees("another one")
        await session.fleet.up()
        session.check_delivered(await session.fleet.final(await session.send("AFTER-1")))
        await session.idle()
        assert person.box.input == "draft"
        assert await submit(session, person, "another") == "another one"
        session.check_in_context(["BEFORE-1", "half a draft of OWN-0", "AFTER-1", "another one"])
