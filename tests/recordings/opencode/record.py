"""Records what `opencode serve` says, for the unit tests of its driver.

    python -m tests.recordings.opencode.record

Each scenario is a conversation of its own on one server, against the scripted model. `NAME.sse` is
its part of the event stream as it came (events about no session are left out), `NAME.json` the
server's message list at the end. Run it again when the driver is brought to a newer OpenCode.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from relay_drivers.opencode.api import Api, open_api
from relay_drivers.opencode.protocol import at, items_at, message_id, part_id, text_at
from relay_drivers.opencode.sse import EventParser
from relay_runtime.testing.clis import find_cli, hermetic_env
from relay_runtime.testing.model_server import run_model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskStatus

    from relay_runtime.contract import Json

HERE = Path(__file__).parent
#: A scenario takes 1 to 8 s.
SCENARIO_S = 30.0
ASK = {"bash": {"*": "allow", "rm *": "ask"}, "external_directory": "allow"}


@dataclass
class Stage:
    """One conversation that is being recorded."""

    name: str
    api: Api
    home: Path
    session: str = ""
    events: list[bytes] = field(default_factory=list)
    about: set[str] = field(default_factory=set)
    news: anyio.Event = field(default_factory=anyio.Event)

    async def say(self, message: str, *steps: Json) -> None:
        # A script in a script must not end the outer one.
        script = json.dumps(steps).replace("]:END", "\\u005d:END")
        text = f"SCRIPT:{script}:END" if steps else message
        write = self.write(message)
        await self.api.prompt(self.session, message_id(write), part_id(write), text)

    def write(self, message: str) -> str:
        """Ids are global in OpenCode: one that another conversation has would be lost silently."""
        return f"{self.name}-{message}"

    async def until(self, true: Callable[[Json], bool], since: int = 0) -> Json:
        while True:
            news = self.news
            for data in self.events[since:]:
                found: Json = json.loads(data)
                if true(found):
                    return found
            await news.wait()

    async def seen(self, kind: str, since: int = 0) -> Json:
        return await self.until(lambda e: text_at(e, "type") == kind, since)

    async def stored(self, message: str) -> None:
        wanted = message_id(self.write(message))
        await self.until(lambda e: text_at(e, "properties", "info", "id") == wanted)

    async def tool_runs(self) -> None:
        status = ("properties", "part", "state", "status")
        await self.until(lambda e: text_at(e, *status) == "running")

    async def over(self, since: int = 0) -> None:
        """Idle, and the step ended: after an abort these come in either order."""

        def ended(event: Json) -> bool:
            info = at(event, "properties", "info")
            return (
                text_at(info, "role") == "assistant" and at(info, "time", "completed") is not None
            )

        def idle(event: Json) -> bool:
            mine = text_at(event, "properties", "sessionID") == self.session
            return mine and text_at(event, "type") == "session.idle"

        await self.until(ended, since)
        first = next(
            i for i, data in enumerate(self.events) if i >= since and ended(json.loads(data))
        )
        await self.until(idle, first)

    async def reply(self, answer: Json) -> None:
        request = items_at(await self.api.get("/permission"))[-1]
        await self.api.post(f"/permission/{text_at(request, 'id')}/reply", answer)


async def tool_turn(stage: Stage) -> None:
    """A shell call and a new file; a message comes in the middle and enters the next step."""
    work = stage.home / "work"
    path: Json = {"path": str(work / "new.txt"), "content": "hello"}
    calls: Json = {"text": "let me", "calls": [{"shell": "sleep 1; echo hi"}, {"write": path}]}
    await stage.say("first", calls, {"text": "fin"})
    await stage.tool_runs()
    await stage.say("steer")
    await stage.over()


async def patch(stage: Stage) -> None:
    """With snapshots on, in a git repository: an edit by tool, and files made by the shell."""
    work = stage.home / "work"
    edit: Json = {"filePath": str(work / "old.txt"), "oldString": "one", "newString": "two"}
    read: Json = {"tool": "read", "args": {"filePath": str(work / "old.txt")}}
    await stage.say(
        "first",
        read,
        {"tool": "edit", "args": edit},
        {"shell": f"cd {work} && touch made; exit 3"},
        {"text": "fin"},
    )
    await stage.over()


async def aborted(stage: Stage) -> None:
    """A message waits for the next step when the turn is aborted; it is taken back."""
    await stage.say("first", {"shell": "sleep 30"}, {"text": "fin"})
    await stage.tool_runs()
    await stage.say("steer")
    await stage.stored("steer")
    await stage.api.post(f"/session/{stage.session}/abort")
    await stage.over()
    await stage.api.delete_message(stage.session, message_id(stage.write("steer")))
    await stage.seen("message.removed")


async def refused_401(stage: Stage) -> None:
    await stage.say("first", {"status": 401, "message": "bad key"})
    await stage.over()


async def retried_429(stage: Stage) -> None:
    """Two refusals with a wish to wait, then it gets through."""
    refusal: Json = {
        "status": 429,
        "message": "slow down",
        "headers": {"retry-after": "1"},
        "times": 2,
    }
    await stage.say("first", refusal, {"text": "fin"})
    await stage.over()


async def abort_in_retry(stage: Stage) -> None:
    refusal: Json = {"status": 429, "message": "slow", "headers": {"retry-after": "20"}, "times": 5}
    await stage.say("first", refusal, {"text": "fin"})
    await stage.until(lambda e: text_at(e, "properties", "status", "type") == "retry")
    await stage.api.post(f"/session/{stage.session}/abort")
    await stage.over()


async def permission(stage: Stage) -> None:
    """Allowed once, then rejected, then left open by an abort: that one stays in the list."""
    for message, answer in (("first", "once"), ("second", "reject"), ("third", "")):
        since = len(stage.events)
        await stage.say(message, {"shell": "rm -f zz"}, {"text": "fin"})
        await stage.seen("permission.asked", since)
        if answer:
            await stage.reply({"reply": answer})
        else:
            await stage.api.post(f"/session/{stage.session}/abort")
        await stage.over(since)


async def question(stage: Stage) -> None:
    options: Json = [{"label": "A", "description": "a"}, {"label": "B", "description": "b"}]
    ask: Json = {"questions": [{"question": "Which?", "header": "H", "options": options}]}
    for message in ("first", "second"):
        since = len(stage.events)
        await stage.say(message, {"tool": "question", "args": ask}, {"text": "fin"})
        asked = await stage.seen("question.asked", since)
        path = f"/question/{text_at(asked, 'properties', 'id')}"
        if message == "first":
            await stage.api.post(f"{path}/reply", {"answers": [["A"]]})
        else:
            await stage.api.post(f"{path}/reject")
        await stage.over(since)


async def subagent(stage: Stage) -> None:
    """A subagent asks for permission, in a session of its own."""
    prompt = f"SCRIPT:{json.dumps([{'shell': 'rm -f yy'}, {'text': 'sub done'}])}:END"
    args: Json = {"description": "d", "prompt": prompt, "subagent_type": "general"}
    await stage.say("first", {"tool": "task", "args": args}, {"text": "fin"})
    await stage.seen("permission.asked")
    await stage.reply({"reply": "once"})
    await stage.until(
        lambda e: (
            text_at(e, "type") == "session.idle"
            and text_at(e, "properties", "sessionID") == stage.session
        )
    )


async def unknown_model(stage: Stage) -> None:
    """An error before there is a step: the message stays without an answer."""
    body: Json = {
        "messageID": message_id(stage.write("first")),
        "model": {"providerID": "scripted", "modelID": "nope"},
        "parts": [{"type": "text", "id": part_id(stage.write("first")), "text": "hi"}],
    }
    await stage.api.post(f"/session/{stage.session}/prompt_async", body)
    await stage.seen("session.idle")
    await stage.api.delete_message(stage.session, message_id(stage.write("first")))
    await stage.seen("message.removed")


async def human_shell(stage: Stage) -> None:
    """What `!command` does in the terminal interface: a tool call without a model."""
    body: Json = {"agent": "build", "command": "echo by-hand"}
    await stage.api.post(f"/session/{stage.session}/shell", body)
    await stage.over()


SCENARIOS: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    tool_turn,
    patch,
    aborted,
    refused_401,
    retried_429,
    abort_in_retry,
    permission,
    question,
    subagent,
    unknown_model,
    human_shell,
)


def concerns(event: Json, stage: Stage) -> bool:
    """About this conversation or one of its subagents."""
    properties = at(event, "properties")
    info = at(properties, "info")
    if text_at(event, "type") == "session.created" and text_at(info, "parentID") in stage.about:
        stage.about.add(text_at(info, "id"))
    return text_at(properties, "sessionID") in stage.about


async def listen(stage: Stage, *, task_status: TaskStatus[None]) -> None:
    parser = EventParser()
    async with stage.api.events() as chunks:
        task_status.started()
        async for chunk in chunks:
            for data in parser.feed(chunk):
                if concerns(json.loads(data), stage):
                    stage.events.append(data)
            stage.news.set()
            stage.news = anyio.Event()


async def record(scenario: Callable[[Stage], Awaitable[None]], api: Api, home: Path) -> None:
    name = scenario.__name__
    stage = Stage(name, api, home)
    info = await api.create_session("recorded", [])
    stage.session = text_at(info, "id")
    stage.about.add(stage.session)
    async with anyio.create_task_group() as tasks:
        await tasks.start(listen, stage)
        with anyio.fail_after(SCENARIO_S):
            await scenario(stage)
            await anyio.sleep(0.5)  # updates that come after idle belong to it
        tasks.cancel_scope.cancel()
    raw = b"".join(b"data: " + data + b"\n\n" for data in stage.events)
    (HERE / f"{name}.sse").write_bytes(raw)
    page, _ = await api.messages(stage.session, None)
    (HERE / f"{name}.json").write_text(json.dumps(page, indent=1) + "\n")


@asynccontextmanager
async def server(home: Path, model_url: str) -> AsyncIterator[Api]:
    cli = find_cli("opencode")
    assert cli is not None, "make clis"
    config = {"permission": ASK, "snapshot": True}
    env = hermetic_env(cli, home, model_url) | {
        "OPENCODE_SERVER_PASSWORD": "recorded",
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
    }
    command = (
        "git init -q; echo one >old.txt; git add .; git -c user.name=x -c user.email=x commit -qm x"
    )
    await anyio.run_process(command, cwd=home / "work")
    argv = [str(cli.path), "serve", "--port", "0", "--hostname", "127.0.0.1"]
    async with await anyio.open_process(
        argv, env=env, cwd=home / "work", stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = await process.stdout.receive()
        try:
            async with open_api(line.decode().split()[-1], "recorded") as api:
                await api.first("/config")
                yield api
                await api.post("/global/dispose")
        finally:
            process.terminate()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="opencode-") as home:
        async with run_model_server() as model, server(Path(home), model.url) as api:
            for scenario in SCENARIOS:
                await record(scenario, api, Path(home))


if __name__ == "__main__":
    anyio.run(main)
