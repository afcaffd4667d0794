"""Processes of a session, found and ended without their holder: by (pid, start ticks) and by mark.

Every process of a session carries `RELAY_RUNTIME_SESSION=<id>` in its environment, put there by the
holder. A name never identifies a process here, and neither does a pid alone.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from .holder.proc import (
    Stat,
    boot_id,
    descendants,
    is_alive,
    read_stat,
    scan,
    send_signal,
    start_ticks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .contract import Json

#: How long killed processes may take to vanish. SIGKILL needs milliseconds; a process in the middle
#: of a disk or network wait of the kernel may need seconds.
VANISH_S = 5.0
#: New processes may be born while the ones found are killed; each round kills what the last missed.
MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot; the pair is never used again."""

    pid: int
    start_ticks: int


def descendants_of(pid: int) -> list[Process]:
    """Living processes below `pid`, by one pass over /proc."""
    return _named(descendants(pid, scan()))


def marked(session_id: str) -> list[Process]:
    """Living processes that carry the session's mark, but never this one.

    Only those of this user can be seen. This process itself has the mark when it was started by an
    agent of the session; it is not part of it.
    """
    mark = f"RELAY_RUNTIME_SESSION={session_id}".encode()
    others = (stat for stat in scan() if stat.state not in "ZX" and stat.pid != os.getpid())
    return _named(stat for stat in others if mark in _environ(stat.pid).split(b"\0"))


def alive(processes: Iterable[Process]) -> list[Process]:
    """Those of `processes` that still run."""
    return [process for process in processes if is_alive(process.pid, process.start_ticks)]


def holder_alive(meta: Mapping[str, Json]) -> bool:
    """Whether the holder that wrote `meta` (its meta.json) still runs."""
    recorded = _recorded(meta, "holder")
    return recorded is not None and alive([recorded]) != []


async def reap_orphans(session_id: str, meta: Mapping[str, Json]) -> list[Process]:
    """End what is left of a session whose holder is dead. Returns what was ended.

    That is the child named in `meta` (the holder's meta.json, empty when it is lost), everything
    below it, and every process with the session's mark. What called setsid, lost its parent and
    cleared its environment cannot be told from a stranger: only a living holder finds that. The
    caller makes sure that no holder of the session lives. Raises `TimeoutError` with the pids that would not go.
    """
    ended: dict[Process, None] = {}
    for _ in range(MAX_ROUNDS):
        found = _remains(session_id, meta)
        if not found:
            return list(ended)
        for process in found:
            ended[process] = None
            stat = read_stat(process.pid)
            if stat is not None and stat.start_ticks == process.start_ticks:
                send_signal(stat, signal.SIGKILL)
        await vanished(found)
    left = ", ".join(str(process.pid) for process in _remains(session_id, meta))
    raise TimeoutError(f"processes of session {session_id} keep coming back: {left}")


async def vanished(processes: Iterable[Process]) -> None:
    """Wait until none of `processes` runs. Raises `TimeoutError` with the pids that still do."""
    waiting = list(processes)
    with anyio.move_on_after(VANISH_S):
        for process in waiting:
            await _exit_of(process)
    if left := alive(waiting):
        raise TimeoutError(f"still running: {', '.join(str(process.pid) for process in left)}")


async def _exit_of(process: Process) -> None:
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(process.pid, process.start_ticks):
            await anyio.wait_readable(fd)
    finally:
        os.close(fd)


def _remains(session_id: str, meta: Mapping[str, Json]) -> list[Process]:
    found = dict.fromkeys(marked(session_id))
    child = _recorded(meta, "child")
    if child is not None and alive([child]):
        found |= dict.fromkeys([child, *descendants_of(child.pid)])
    return list(found)


def _recorded(meta: Mapping[str, Json], who: str) -> Process | None:
    """From meta.json, unless it is of an earlier boot: then the numbers name somebody else."""
    pid, ticks = meta.get(f"{who}_pid"), meta.get(f"{who}_start_ticks")
    if not isinstance(pid, int) or not isinstance(ticks, int) or meta.get("boot_id") != boot_id():
        return None
    return Process(pid, ticks)


def _named(stats: Iterable[Stat]) -> list[Process]:
    return [Process(stat.pid, stat.start_ticks) for stat in stats]


def _environ(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


__all__ = [
    "Process",
    "alive",
    "descendants_of",
    "holder_alive",
    "marked",
    "reap_orphans",
    "start_ticks",
    "vanished",
]
