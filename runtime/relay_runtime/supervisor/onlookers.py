"""What the supervisor does for those who look at a session's terminal, now or later.

They see how many messages wait for the agent and why, and however much it writes, its screen can be
made again from what is left of the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ..attach import checkpoint, connection
from ..contract import Stream
from ..holder_link import HolderRefused
from ..turn_types import SessionState

if TYPE_CHECKING:
    from ..holder_link import HolderLink
    from .ledger import Ledger

_log = logging.getLogger(__name__)

#: What a holder says when a log goes on in a new file, and may have let go of its oldest.
LOG_ROLLED = "log.rolled"
#: Of the log, between two checkpoints: the screen is kept long before the log has lost its beginning.
SHARE = 1 / 4
_WHY = {
    SessionState.STARTING: "it is starting",
    SessionState.BUSY: "it is working",
    SessionState.WAITING: "it has asked something",
    SessionState.DRAFTING: "you are typing",
    SessionState.UNSURE: "it may not have taken the last one",
}


def waiting_line(count: int, state: SessionState, reason: str | None) -> str | None:
    """One line for people: how many messages wait, and for what. None when none does."""
    if not count:
        return None
    many = "1 message waits" if count == 1 else f"{count} messages wait"
    why = _WHY.get(state)
    if state is SessionState.HELD:
        why = f"held, {reason}" if reason else "held"
    return f"{many}: {why}" if why else many


async def tell(ledger: Ledger, holder: HolderLink) -> None:
    """Keep the holder's word for them up to date, until cancelled. Raises `HarnessGone`."""
    told: str | None = ""  # of a supervisor before this one, and so unknown
    while True:
        changed, shown = ledger.changed, ledger.shown
        line = waiting_line(ledger.waiting, shown.state, shown.reason)
        if line != told:
            told = line
            try:
                await holder.tell(line)
            except HolderRefused:
                return  # it is of an older version
        await changed.wait()


async def keep_screen(folder: str, log_bytes: int, holder: HolderLink) -> None:
    """After a log has rolled: keep the screen before what it is made of is let go of.

    `log_bytes` is what the log keeps. Raises `HarnessGone`.
    """
    end = (await holder.status()).offsets.get(Stream.OUT, 0)
    if end - max(0, checkpoint.newest(folder)) < log_bytes * SHARE:
        return
    try:
        # In a thread: all that output has to go through the emulator, which lets others run.
        await anyio.to_thread.run_sync(connection.keep_screen, folder, abandon_on_cancel=True)
    except (connection.Unreachable, connection.NoTerminal) as error:
        _log.info("the screen in %s is not kept: %s", folder, error, extra={"action": "screen"})


__all__ = ["LOG_ROLLED", "keep_screen", "tell", "waiting_line"]
