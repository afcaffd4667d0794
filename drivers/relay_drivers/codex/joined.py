"""Joining codex as the user has started it: a thread of their own app-server becomes a session.

A plain `codex` is a terminal interface on the user's app-server, which listens in `CODEX_HOME`. We
are one more client of it: nothing of the user's is started, configured or ended by us.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import HarnessGone, Running, StartFailed, StopPlan

from . import watch_server
from .attach import greet
from .program import codex_home
from .pump import address
from .read import Obj, sub, text, texts
from .rpc import CallRefused, NotListening, Peer, connect
from .session import CodexSession

if TYPE_CHECKING:
    from relay_runtime.contract import SessionSpec

#: Below CODEX_HOME; a link to where codex listens.
CONTROL_SOCKET: Final = "app-server-control/app-server-control.sock"
#: Of a session's options.
OPTION: Final = "join"
#: More open threads than anybody has; a server that names more is not read to the end.
MAX_THREADS: Final = 1000
#: What a person recognises a conversation by.
MAX_TITLE: Final = 60

HOW: Final = (
    "start `codex` with its background server (without --no-daemon and with"
    " features.daemon_auto_start), or run `codex app-server --listen unix://` and then `codex`;"
    " a codex that is on its own cannot be reached"
)


@dataclass(frozen=True, slots=True)
class Join:
    """What a session joins: the thread `thread` of the app-server at `socket`."""

    socket: Path
    thread: str


def read(spec: SessionSpec) -> Join | None:
    """None: the session has an app-server of its own. Raises `StartFailed`."""
    given = spec.options.get(OPTION)
    if given is None:
        return None
    if isinstance(given, Mapping):
        socket, thread = text(given, "socket"), text(given, "thread")
        if os.path.isabs(socket) and thread:
            return Join(Path(socket), thread)
    raise StartFailed(f"the codex option `{OPTION}` needs socket, an absolute path, and thread")


def command(join: Join) -> tuple[str, ...]:
    """Of the process that ends with the user's app-server."""
    return (sys.executable, "-I", "-S", watch_server.__file__, str(join.socket))


class JoinedSession(CodexSession):
    """Leaves everything as it is when it is released."""

    async def drain(self) -> None:
        self._draining = True

    async def release(self, stop: StopPlan) -> None:
        await self._ctx.holder.stop(StopPlan(drain_s=0, interrupt_s=0, term_s=stop.term_s))

    async def _has_ended(self) -> bool:
        ended = (await self._ctx.holder.status()).exit
        return ended is not None and ended.code == 0  # else only the process beside it has


async def running(environ: Mapping[str, str], where: str | None) -> list[Running]:
    """See `Harness.running`. `where` is the path of a socket; None: that of the user's CODEX_HOME."""
    socket = os.path.abspath(where or _control_socket(environ))  # noqa: ASYNC240 - text alone
    try:
        async with connect(address(Path(socket))) as peer:
            await greet(peer)
            found = [await _describe(peer, thread, socket) for thread in await _loaded(peer)]
    except NotListening:
        raise StartFailed(f"no codex listens at {socket}: {HOW}") from None
    except HarnessGone as error:
        raise StartFailed(f"the codex at {socket} does not answer: {error}") from None
    return [one for one in found if one is not None]


def _control_socket(environ: Mapping[str, str]) -> Path:
    home = codex_home(environ)
    if home is None:
        raise StartFailed("set HOME or CODEX_HOME: codex is looked for there")
    return home / CONTROL_SOCKET


async def _loaded(peer: Peer) -> list[str]:
    threads: list[str] = []
    page: Obj = {}
    while len(threads) < MAX_THREADS:
        answer = await peer.call("thread/loaded/list", page)
        threads += texts(answer, "data")
        cursor = text(answer, "nextCursor")
        if not cursor:
            break
        page = {"cursor": cursor}
    return threads


async def _describe(peer: Peer, thread: str, socket: str) -> Running | None:
    """None: it is not a conversation with a person, or has just been closed."""
    try:
        found = sub(await peer.call("thread/read", {"threadId": thread}), "thread")
    except CallRefused:
        return None
    if found.get("ephemeral") is True or text(found, "parentThreadId"):
        return None  # titles and sub-agents
    title = text(found, "name") or text(found, "preview")
    return Running(
        conversation=thread,
        cwd=text(found, "cwd"),
        title=" ".join(title.split())[:MAX_TITLE],
        options={OPTION: {"socket": socket, "thread": thread}},
    )


__all__ = ["Join", "JoinedSession", "command", "read", "running"]
