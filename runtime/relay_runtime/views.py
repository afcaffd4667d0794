"""Views: a headless session in its harness's own terminal interface, one more process beside it.

A view has a holder of its own, in a folder of the session's, so all who look meet the same screen.
Whoever comes first starts it, with no supervisor in between; some time after the last one has left
it ends by itself. The session's own process notices neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import anyio

from .contract import DriverError, HarnessGone, StartFailed, StopPlan, Stream
from .framing import clean
from .holder_link import connect, launch
from .visible_text import VisibleText

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contract import Harness, Holder, SessionSpec, StartPlan
    from .holder_link import HolderLink

_log = logging.getLogger(__name__)

FOLDER: Final = "view"
#: After the last one has left: long enough to come back with the draft still there when a window
#: was closed by mistake or a connection broke; a terminal interface takes 100 to 300 MB meanwhile.
LEAVE_S: Final = 10.0
#: From nothing to a running view. It takes a tenth of a second, unless the agent is just starting.
OPEN_S: Final = 30.0
#: Terminal interfaces repaint all the time while the agent works; this much is replayed in a second.
LOG_BYTES: Final = 64 * 1024 * 1024
#: It has nothing to save: what a person sent is with the session's own process.
STOP: Final = StopPlan(drain_s=0.0, interrupt_s=0.0, term_s=2.0)
#: From an agent that is told to end until its session is over; asked when a view complains.
ENDING_S: Final = 3.0
#: Of what a view said, when something was wrong with it.
LAST_WORDS: Final = 4096
#: A holder that has just ended frees its folder within milliseconds.
RETRIES_S: Final = (0.02, 0.2, 1.0)

#: In the memory of a view's holder: what was executed, and the run that was ended because the
#: agent's process, started anew, is to be found in another place.
_PLAN, _REPLACED = "view.plan", "view.replaced"
_OVER = "over"  # in the place of a run: the session is, and nothing is wrong with its view


@dataclass(frozen=True, slots=True)
class View:
    """`folder` is that of its holder; `run` counts the starts in it."""

    folder: str
    run: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """The terminal of who starts a view."""

    rows: int
    cols: int
    term: str


def folder_of(session_dir: str) -> str:
    """Where the holder of a session's view serves, if there is one."""
    return os.path.join(session_dir, FOLDER)


async def find_view(session_dir: str) -> View | None:
    """The session's view, if there is one now."""
    folder = folder_of(session_dir)
    with suppress(HarnessGone):
        async with connect(folder) as link:
            status = await link.status()
            if status.pid is not None:
                return View(folder, status.run)
    return None


async def open_view(harness: Harness, spec: SessionSpec, outlook: Outlook) -> View | None:
    """The session's view, started if there is none. None: the harness has no terminal interface.

    `spec.conversation` is set. Raises `HarnessGone` when the session does not run, `StartFailed`
    when the view cannot be started.
    """
    if (view := await find_view(spec.state_dir)) is not None:
        return view
    folder = folder_of(spec.state_dir)
    try:
        with anyio.fail_after(OPEN_S):
            async with connect(spec.state_dir) as session:
                plan = await harness.view(spec, session)
                environ = await session.environ()
            if plan is None:
                return None
            await _ensure_holder(folder, spec.session_id, environ)
            async with connect(folder) as link:
                offset = (await link.status()).offsets.get(Stream.HOOKS, 0)
                run = await _begin(link, plan, environ, outlook)
            await _announce(spec.state_dir, run, offset)
            return View(folder, run)
    except TimeoutError:
        raise HarnessGone(f"{spec.harness} is not ready for it: try again") from None


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a view has ended: to make room for another one, or by itself, with its last words if
    something was wrong."""

    replaced: bool = False
    complaint: str | None = None


async def how_it_ended(view: View) -> Ending:
    """Of a view that is over."""
    try:
        async with connect(view.folder) as link:
            status = await link.status()
            if status.run > view.run or status.memo.get(_REPLACED) == str(view.run):
                return Ending(replaced=True)
            over = status.memo.get(_REPLACED) == _OVER
            if over or status.exit is None or not status.exit.code:
                return Ending()
            last = await _last_line(link, status.offsets.get(Stream.OUT, 0))
    except HarnessGone:
        return Ending()
    if await _ends(os.path.dirname(view.folder)):
        return Ending()  # it had nobody to talk to any more
    return Ending(complaint=f"exit status {status.exit.code}: {last}")


async def _ends(session_dir: str) -> bool:
    """Whether the session is just ending, of which its view may have noticed first."""
    try:
        async with connect(session_dir) as session:
            with anyio.move_on_after(ENDING_S):
                async for _ in session.notices():
                    pass
                return True
    except HarnessGone:
        return True
    return False


async def _last_line(link: HolderLink, end: int) -> str:
    """Of the text in its output, without what a terminal makes of it."""
    text, said = VisibleText(), ""
    async for chunk in link.read(Stream.OUT, max(0, end - LAST_WORDS)):
        said += text.feed(chunk.data.decode(errors="replace"))
    lines = [line.strip() for line in clean(said).splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


async def refresh(harness: Harness, spec: SessionSpec, session: Holder) -> None:
    """The agent's process was started again: end a view that would not find it any more.

    Those who look open the next one.
    """
    with suppress(HarnessGone):
        async with connect(folder_of(spec.state_dir)) as link:
            status = await link.status()
            if status.pid is None:
                return
            plan = await harness.view(spec, session)
            if plan is not None and _digest(plan) == status.memo.get(_PLAN):
                return
            await link.remember({_REPLACED: str(status.run)})
            await link.stop(STOP)


async def end_view(session_dir: str) -> None:
    """The session is over. Nothing happens when it has no view."""
    try:
        async with connect(folder_of(session_dir)) as link:
            await link.remember({_REPLACED: _OVER})
            await link.stop(STOP)
            await link.quit()
    except HarnessGone:
        return
    except DriverError as error:  # of another version: it ends with those who look at it
        _log.warning("the view in %s was not ended: %s", session_dir, error)


async def _announce(session_dir: str, run: int, offset: int) -> None:
    """In the session's own log, where its supervisor reads it, at once or when there is one."""
    async with connect(session_dir) as session:
        await session.hook(json.dumps({"holder": "view", "run": run, "hooks": offset}))


async def _begin(
    link: HolderLink, plan: StartPlan, environ: Mapping[str, str], outlook: Outlook
) -> int:
    """The run of the view. Somebody else may have been faster."""
    env = dict(plan.env)
    if environ.get("TERM", "dumb") == "dumb":  # spawned by a script, but shown to a person
        env["TERM"] = outlook.term
    await link.remember({_PLAN: _digest(plan)})
    try:
        await link.start(replace(plan, env=env, rows=outlook.rows, cols=outlook.cols))
    except StartFailed:
        if (await link.status()).pid is None:
            raise
    return (await link.status()).run


async def _ensure_holder(folder: str, session_id: str, environ: Mapping[str, str]) -> None:
    """One that serves, for as long as it takes somebody to look at it."""
    for wait_s in (*RETRIES_S, None):
        try:
            async with connect(folder):
                return
        except HarnessGone:
            pass
        try:
            async with launch(folder, session_id, environ, log_bytes=LOG_BYTES, leave_s=LEAVE_S):
                return
        except StartFailed:  # somebody else was faster, or the one before is just ending
            if wait_s is None:
                raise
        await anyio.sleep(wait_s)


def _digest(plan: StartPlan) -> str:
    return hashlib.sha256(json.dumps([plan.argv, dict(plan.env)]).encode()).hexdigest()


__all__ = [
    "LEAVE_S",
    "LOG_BYTES",
    "Ending",
    "Outlook",
    "View",
    "end_view",
    "find_view",
    "folder_of",
    "how_it_ended",
    "open_view",
    "refresh",
]
