"""The first words with an app-server: who we are, and which thread this is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import ResumeRefused, StartFailed

from . import history
from .program import LOGIN, thread_settings
from .protocol import Thread
from .read import Obj, sub, text
from .rpc import CallRefused

if TYPE_CHECKING:
    from datetime import tzinfo

    from relay_runtime.contract import SessionSpec

    from .rpc import Peer

#: Deltas: every text comes whole when its item is complete, and they are most of the traffic.
UNWANTED: Final = (
    "item/agentMessage/delta",
    "item/commandExecution/outputDelta",
    "item/commandExecution/terminalInteraction",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "item/mcpToolCall/progress",
    "item/plan/delta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "turn/diff/updated",
    "turn/plan/updated",
)
_VERSION: Final = re.compile(r"^\S+?/(\S+)")


@dataclass(frozen=True, slots=True)
class Begun:
    """A thread that is ours from now on."""

    thread: Thread
    rollout: str
    model: str | None
    fresh: bool  #: it has no history


async def greet(peer: Peer) -> str | None:
    """Open the protocol; the server's version. Nothing else may be called before."""
    hello = await peer.call(
        "initialize",
        {
            "clientInfo": {"name": "relay_runtime", "title": "relay-runtime", "version": "1"},
            "capabilities": {
                "experimentalApi": True,
                "requestAttestation": False,
                "optOutNotificationMethods": UNWANTED,
            },
        },
    )
    await peer.notify("initialized")
    found = _VERSION.match(text(hello, "userAgent"))
    return found[1] if found else None


async def begin(peer: Peer, spec: SessionSpec, zone: tzinfo | None) -> Begun:
    """Start a thread, or continue `spec.conversation`. Raises `StartFailed`, `ResumeRefused`."""
    settings = thread_settings(spec, await _instructions(peer, spec))
    if spec.conversation is None:
        try:
            answer = await peer.call("thread/start", settings)
        except CallRefused as error:
            raise StartFailed(f"codex refused to start: {error}") from None
    else:
        answer = await _resume(peer, spec.conversation, settings)
    await _check_login(peer)
    thread = Thread(text(sub(answer, "thread"), "id"), zone)
    # Codex writes a thread to disk with its first turn, or with its name. A thread that is not on
    # disk cannot be resumed, neither by a new connection nor by a new process.
    await peer.call("thread/name/set", {"threadId": thread.conversation, "name": spec.name})
    if spec.conversation is not None:
        await _skip_history(peer, thread, _rollout(answer))
    model = text(answer, "model") or None
    return Begun(thread, _rollout(answer), model, fresh=spec.conversation is None)


async def join(peer: Peer, conversation: str, name: str, zone: tzinfo | None) -> Begun:
    """Take part in a thread of the user's, as it is. Raises `ResumeRefused`."""
    try:
        answer = await _resume(peer, conversation, {})
    except ResumeRefused:
        # Nothing was said in it, so it is not on disk yet; with a name it is.
        try:
            await peer.call("thread/name/set", {"threadId": conversation, "name": name})
        except CallRefused as error:
            raise ResumeRefused(f"codex has no thread {conversation} open: {error}") from None
        answer = await _resume(peer, conversation, {})
    thread = Thread(conversation, zone)
    await _skip_history(peer, thread, _rollout(answer))
    return Begun(thread, _rollout(answer), text(answer, "model") or None, fresh=False)


async def rejoin(peer: Peer, thread: Thread) -> str:
    """Subscribe to a thread of a running server; its rollout. Open requests are sent again."""
    return _rollout(await _resume(peer, thread.conversation, {}))


async def _resume(peer: Peer, conversation: str, settings: Obj) -> Obj:
    try:
        return await peer.call(
            "thread/resume", {**settings, "threadId": conversation, "excludeTurns": True}
        )
    except CallRefused as error:
        raise ResumeRefused(f"codex does not continue {conversation}: {error}") from None


async def _skip_history(peer: Peer, thread: Thread, rollout: str) -> None:
    turns, entries = await history.newest(peer, thread.conversation)
    record = await history.read_rollout(rollout)
    thread.skip(turns, entries, record.total if record else None)


def _rollout(answer: Obj) -> str:
    return text(sub(answer, "thread"), "path")


async def _check_login(peer: Peer) -> None:
    try:
        account = await peer.call("account/read", {"refreshToken": False})
    except CallRefused:
        return  # the first turn will tell
    if account.get("account") is None and account.get("requiresOpenaiAuth") is True:
        raise StartFailed(f"codex is not logged in: {LOGIN}")


async def _instructions(peer: Peer, spec: SessionSpec) -> str | None:
    """Ours after those of the user's configuration, which they would replace."""
    if spec.instructions is None:
        return None
    config: Obj = {"includeLayers": False, "cwd": spec.cwd}
    try:
        answer = await peer.call("config/read", config)
    except CallRefused:
        return spec.instructions
    users = text(sub(answer, "config"), "developer_instructions")
    return f"{users}\n\n{spec.instructions}" if users else spec.instructions


__all__ = ["Begun", "begin", "greet", "join", "rejoin"]
