"""Records what `codex app-server` says, for the unit tests of its driver.

    python -m tests.recordings.codex.record

Each scenario is a thread of its own against the scripted model. `NAME.jsonl` is what the server sent
after the thread began, as it came; `NAME.lists.json` its lists of turns and items at the end, newest
first; `NAME.rollout.jsonl` the lines of the rollout that the driver reads. Run it again when the
driver is brought to a newer Codex. (`mcp_tool.jsonl` needs a model that calls tools of MCP servers,
which the scripted one does not; it was recorded by hand.)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from relay_drivers.codex.attach import greet
from relay_drivers.codex.history import newest
from relay_drivers.codex.items import client_id
from relay_drivers.codex.read import Obj, objects, sub, text
from relay_drivers.codex.rpc import Message, Peer, connect
from relay_runtime.contract import HarnessGone
from relay_runtime.testing.clis import find_cli, hermetic_env
from relay_runtime.testing.model_server import run_model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from relay_runtime.contract import Json

HERE = Path(__file__).parent
#: A scenario takes 1 to 8 s.
SCENARIO_S = 40.0
LEFT_OUT = ("session_meta", "turn_context", "world_state", "compacted")
HOOK = """#!/bin/sh
if grep -q BLOCKED; then echo '{"decision":"block","reason":"not here"}'; fi
"""


@dataclass
class Stage:
    """One thread that is being recorded."""

    peer: Peer
    thread: str
    messages: list[Message] = field(default_factory=list)
    answered: set[int | str] = field(default_factory=set)

    async def start(self, write: str, *steps: Json, say: str = "") -> str:
        text_ = f"{say}SCRIPT:{json.dumps(steps)}:END" if steps else say
        return await self.turn("turn/start", write, text_, turnTrigger=client_id(write))

    async def steer(self, write: str, turn: str, say: str) -> None:
        await self.turn("turn/steer", write, say, expectedTurnId=turn)

    async def turn(self, method: str, write: str, say: str, **more: str) -> str:
        given = [{"type": "text", "text": say, "text_elements": []}]
        params: Obj = {
            "threadId": self.thread,
            "clientUserMessageId": client_id(write),
            "input": given,
            **more,
        }
        return text(sub(await self.peer.call(method, params), "turn"), "id")

    async def until(self, true: Callable[[Message], bool], since: int = 0) -> Message:
        while True:
            found = next((m for m in self.messages[since:] if true(m)), None)
            if found is not None:
                return found
            self.messages += await self.peer.batch()

    async def ended(self, turn: str) -> None:
        await self.until(
            lambda m: m.method == "turn/completed" and text(sub(m.params, "turn"), "id") == turn
        )

    async def tool_runs(self) -> None:
        await self.until(
            lambda m: (
                m.method == "item/started"
                and text(sub(m.params, "item"), "type") == "commandExecution"
            )
        )

    async def answer_next(self, decision: str) -> None:
        request = await self.until(lambda m: m.rpc_id is not None and m.rpc_id not in self.answered)
        assert request.rpc_id is not None
        self.answered.add(request.rpc_id)
        await self.peer.reply(request.rpc_id, {"decision": decision})
        await self.until(
            lambda m: (
                m.method == "serverRequest/resolved" and m.params.get("requestId") == request.rpc_id
            )
        )


async def tool_turn(stage: Stage) -> None:
    patch = {"write": {"path": "written.txt", "content": "by the model"}}
    calls: Json = {"text": "let me see", "calls": [{"shell": "echo one"}, {"shell": "exit 3"}]}
    await stage.ended(await stage.start("w1", calls, patch, "all done"))
    await stage.ended(await stage.start("w2", say="and now"))


async def steered(stage: Stage) -> None:
    turn = await stage.start("w1", {"shell": "sleep 1"}, "done")
    await stage.tool_runs()
    await stage.steer("s1", turn, "by the way")
    await stage.ended(turn)


async def steer_lost(stage: Stage) -> None:
    turn = await stage.start("w1", {"shell": "sleep 30"}, "done")
    await stage.tool_runs()
    await stage.steer("s1", turn, "by the way")
    await stage.peer.call("turn/interrupt", {"threadId": stage.thread, "turnId": turn})
    await stage.ended(turn)
    await stage.peer.call("thread/backgroundTerminals/clean", {"threadId": stage.thread})
    await stage.until(
        lambda m: m.method == "item/completed" and text(sub(m.params, "item"), "id").startswith("c")
    )


async def merged(stage: Stage) -> None:
    turn = await stage.start("w1", {"text": "slow", "delay": 0.5})
    await stage.start("w2", say="while it runs")
    await stage.ended(turn)


async def approvals(stage: Stage) -> None:
    patch = {"write": {"path": "asked.txt", "content": "by the model"}}
    turn = await stage.start("w1", {"shell": "touch allowed"}, patch, "done")
    await stage.answer_next("accept")
    await stage.answer_next("decline")
    await stage.ended(turn)


async def interrupted_ask(stage: Stage) -> None:
    turn = await stage.start("w1", {"shell": "touch never"}, "done")
    await stage.until(lambda m: m.rpc_id is not None)
    await stage.peer.call("turn/interrupt", {"threadId": stage.thread, "turnId": turn})
    await stage.until(lambda m: m.method == "serverRequest/resolved")


async def background(stage: Stage) -> None:
    args: Json = {"cmd": "sleep 1; echo late", "yield_time_ms": 250}
    await stage.ended(await stage.start("w1", {"tool": "exec_command", "args": args}, "it runs on"))
    await stage.ended(await stage.start("w2", say="meanwhile"))
    await stage.until(
        lambda m: m.method == "item/completed" and text(sub(m.params, "item"), "id").startswith("c")
    )


async def refused_401(stage: Stage) -> None:
    await stage.ended(await stage.start("w1", {"status": 401, "times": 9}))
    await stage.ended(await stage.start("w2", say="again"))


async def cut_then_ok(stage: Stage) -> None:
    await stage.ended(await stage.start("w1", {"text": "half", "cut": True}, "whole"))


async def usage_limit(stage: Stage) -> None:
    refusal: Json = {
        "status": 429,
        "headers": {
            "x-codex-primary-used-percent": "100",
            "x-codex-primary-window-minutes": "300",
            "x-codex-primary-reset-at": "1900000000",
        },
        "body": {"error": {"type": "usage_limit_reached", "message": "limit"}},
    }
    await stage.ended(await stage.start("w1", refusal))


async def hook_blocked(stage: Stage) -> None:
    await stage.ended(await stage.start("w1", say="BLOCKED words"))
    turn = await stage.start("w2", {"shell": "sleep 0.5"}, "done")
    await stage.tool_runs()
    await stage.steer("s1", turn, "more BLOCKED words")
    await stage.ended(turn)


SCENARIOS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        tool_turn,
        steered,
        steer_lost,
        merged,
        approvals,
        interrupted_ask,
        background,
        refused_401,
        cut_then_ok,
        usage_limit,
        hook_blocked,
    )
}
ASKING = {approvals, interrupted_ask}


@asynccontextmanager
async def serve(environ: dict[str, str], home: Path, *args: str) -> AsyncIterator[Peer]:
    """A codex app-server in `home`, and a connection to it."""
    program = shutil.which("codex", path=environ["PATH"])
    assert program is not None, "no codex in the environment that was made for it"
    socket = home / "sock"
    instant = ("-c", "features.instant_interrupt=false")
    argv = [program, "app-server", "--listen", f"unix://{socket}", *args, *instant]
    async with await anyio.open_process(
        argv, cwd=home / "work", env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                try:
                    async with connect(str(socket.resolve())) as peer:
                        await greet(peer)
                        yield peer
                        break
                except HarnessGone:
                    await anyio.sleep(0.05)
        finally:
            process.terminate()


async def trust_hooks(environ: dict[str, str], home: Path) -> list[str]:
    """Arguments by which codex runs the hook that is set up in `home`."""
    hook = home / "hook.sh"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    entry = {"hooks": [{"type": "command", "command": str(hook), "timeout": 10}]}
    (home / ".codex" / "hooks.json").write_text(
        json.dumps({"hooks": {"UserPromptSubmit": [entry]}})
    )
    async with serve(environ, home) as peer:
        answer = await peer.call("hooks/list", {"cwds": [str(home / "work")]})
    found = next(hook for folder in objects(answer, "data") for hook in objects(folder, "hooks"))
    key, digest = text(found, "key"), text(found, "currentHash")
    return ["-c", f'hooks.state={{"{key}"={{trusted_hash="{digest}"}}}}']


async def record(peer: Peer, home: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    asking = scenario in ASKING
    params: Obj = {
        "cwd": str(home / "work"),
        "approvalPolicy": "untrusted" if asking else "never",
        "sandbox": "workspace-write" if asking else "danger-full-access",
    }
    begun = await peer.call("thread/start", params)
    thread = sub(begun, "thread")
    await peer.call("thread/name/set", {"threadId": text(thread, "id"), "name": name})
    peer.arrived()
    stage = Stage(peer, text(thread, "id"))
    with anyio.fail_after(SCENARIO_S):
        await scenario(stage)
    turns, entries = await newest(peer, stage.thread)
    stage.messages += peer.arrived()
    write(HERE / f"{name}.jsonl", [shown(message) for message in stage.messages], home)
    lists: Json = {"thread": stage.thread, "turns": turns, "items": entries}
    write(HERE / f"{name}.lists.json", [lists], home)
    lines = await anyio.Path(text(thread, "path")).read_text("utf-8")
    kept = [line for line in map(json.loads, lines.splitlines()) if not long_and_useless(line)]
    write(HERE / f"{name}.rollout.jsonl", kept, home)


def long_and_useless(line: dict[str, Json]) -> bool:
    """Instructions and settings: the driver passes them over."""
    return line["type"] in LEFT_OUT or text(sub(line, "payload"), "role") == "developer"


def shown(message: Message) -> dict[str, Json]:
    line: dict[str, Json] = {"method": message.method, "params": message.params}
    if message.rpc_id is not None:
        line["id"] = message.rpc_id
    return line | {"emittedAtMs": round(message.at * 1000)}


def write(path: Path, lines: Sequence[Json], home: Path) -> None:
    texts = [json.dumps(line).replace(str(home), "/home/user") for line in lines]
    path.write_text("".join(f"{line}\n" for line in texts), "utf-8")


async def main() -> None:
    cli = find_cli("codex")
    assert cli is not None, "install the pinned CLIs first"
    async with run_model_server() as model:
        with tempfile.TemporaryDirectory(prefix="codex-") as folder:
            home = Path(folder)
            environ = hermetic_env(cli, home, model.url)
            async with serve(environ, home) as peer:
                for name in SCENARIOS:
                    if name != "hook_blocked":
                        await record(peer, home, name)
            args = await trust_hooks(environ, home)
            async with serve(environ, home, *args) as peer:
                await record(peer, home, "hook_blocked")


if __name__ == "__main__":
    anyio.run(main)
