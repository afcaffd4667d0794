"""What the supervisor does while people look at a view of a headless session.

Those who look see what waits for the agent, and what kind of input they give becomes events. It never
holds a message back: a draft in a view is out of the way of what comes in.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ..contract import DriverError, HarnessGone, Stream
from ..holder_link import connect
from ..human_input import human_input
from ..views import LOG_BYTES, folder_of
from . import onlookers

if TYPE_CHECKING:
    from ..holder_link import HolderLink
    from .ledger import Ledger


async def attend(folder: str, ledger: Ledger, holder: HolderLink) -> None:
    """For as long as the agent of the session in `folder` runs."""
    with suppress(DriverError):
        offset = (await holder.status()).offsets.get(Stream.HOOKS, 0)
        await _sit_in(folder, ledger, None)  # one from before this supervisor
        async for chunk in holder.read(Stream.HOOKS, offset):
            for line in chunk.data.splitlines():
                if (opened := _announced(line)) is not None:
                    await _sit_in(folder, ledger, opened)


async def _sit_in(folder: str, ledger: Ledger, opened: tuple[int, int] | None) -> None:
    """Until the view that is open now ends. `opened`: its run, and where that began in the log of
    what people type; None: what was typed before is past."""
    with suppress(DriverError):  # whatever is the matter with a view, the session goes on
        async with connect(folder_of(folder)) as view:
            status = await view.status()
            begin = status.offsets.get(Stream.HOOKS, 0)
            if opened is not None and opened[0] == status.run:
                begin = opened[1]
            if status.pid is not None:
                await _until_it_ends(ledger, view, begin)


async def _until_it_ends(ledger: Ledger, view: HolderLink, begin: int) -> None:
    async with anyio.create_task_group() as tasks:

        async def tell() -> None:
            with suppress(HarnessGone):
                await onlookers.tell(ledger, view)

        tasks.start_soon(tell)
        tasks.start_soon(_keep_its_screen, view)
        with suppress(HarnessGone):
            async for chunk in view.read(Stream.HOOKS, begin):
                lines = chunk.data.splitlines()
                events = [event for line in lines if (event := human_input(line)) is not None]
                if events:
                    await ledger.observe(events)
        tasks.cancel_scope.cancel()


async def _keep_its_screen(view: HolderLink) -> None:
    with suppress(HarnessGone):
        async for told in view.notices():
            if told.code == onlookers.LOG_ROLLED and told.stream is Stream.OUT:
                await onlookers.keep_screen(view.session_dir, LOG_BYTES, view)


def _announced(line: bytes) -> tuple[int, int] | None:
    """Run and offset, if this line says that a view was opened."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    match said:
        case {"holder": "view", "run": int(run), "hooks": int(offset)}:
            return run, offset
    return None


__all__ = ["attend"]
