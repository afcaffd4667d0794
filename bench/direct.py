"""The anchors: each real CLI driven by hand, as directly as it can be, with nothing of ours between.

async with DIRECT["claude"](cli, home, url) as agent:
    agent.ready_s               # exec to the first moment it could take input
    await agent.write("text")   # returns when the bytes have left us
    await agent.idle()          # the turn is over
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio
import httpx
from ptyprocess import PtyProcess
from websockets.asyncio.client import ClientConnection, unix_connect

from relay_drivers.opencode.config import permissions, rules
from relay_runtime.contract import Approval
from relay_runtime.testing.clis import Cli, hermetic_env

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from anyio.abc import Process

END_S = 10.0
SHORT_S = 1.5
PASTE_S = 0.1  #: between a paste and Enter; in less, Enter may be taken for a part of the paste
#: How claude's title begins while it waits, and that it worked before.
IDLE, WORKED = re.compile("\x1b]0;✳"), re.compile("\x1b]0;[◐◑◒◓\u2801-\u28ff].*\x1b]0;✳", re.DOTALL)


class Agent(Protocol):
    ready_s: float

    async def write(self, text: str) -> None: ...

    async def idle(self) -> None: ...


class _Lines:
    """Whole lines of a stream."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self._rest = b""

    async def next(self) -> bytes:
        while b"\n" not in self._rest:
            self._rest += await self._stream.receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@dataclass
class Claude:
    process: Process
    lines: _Lines
    ready_s: float

    async def send(self, line: dict[str, object]) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps(line).encode() + b"\n")

    async def write(self, text: str) -> None:
        message = {"role": "user", "content": text}
        await self.send({"type": "user", "message": message, "uuid": str(uuid.uuid4())})

    async def idle(self) -> None:
        await self.until(lambda line: line.get("state") == "idle")

    async def until(self, wanted: Callable[[dict[str, object]], bool]) -> None:
        while not wanted(json.loads(await self.lines.next())):
            pass


@asynccontextmanager
async def claude(cli: Cli, home: Path, url: str) -> AsyncIterator[Agent]:
    flags = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    flags += ["--replay-user-messages", "--dangerously-skip-permissions"]
    environ = hermetic_env(cli, home, url) | {"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1"}
    began = time.perf_counter()
    async with _running([str(cli.path), *flags], home, environ) as process:
        agent = Claude(process, _Lines(process), 0.0)
        request = {"subtype": "initialize"}
        await agent.send({"type": "control_request", "request_id": "1", "request": request})
        await agent.until(lambda line: line.get("type") == "control_response")
        agent.ready_s = time.perf_counter() - began
        yield agent


@dataclass
class ClaudeTui:
    """The terminal interface, driven as a person would: a paste, and Enter a moment later."""

    fd: int
    ready_s: float = 0.0
    shown: bytearray = field(default_factory=bytearray)
    began: int = 0

    async def write(self, text: str) -> None:
        self.began = len(self.shown)
        os.write(self.fd, b"\x1b[200~" + text.encode() + b"\x1b[201~")
        await anyio.sleep(PASTE_S)
        os.write(self.fd, b"\r")

    async def idle(self) -> None:
        """The title says that it works, and then that it does not; of a short turn it says nothing."""
        with anyio.move_on_after(SHORT_S):
            await self.until(WORKED)

    async def until(self, wanted: re.Pattern[str]) -> None:
        with anyio.fail_after(END_S):
            while not wanted.search(self.shown[self.began :].decode(errors="replace")):
                await anyio.wait_readable(self.fd)
                self.shown += os.read(self.fd, 65_536)


@asynccontextmanager
async def claude_tui(cli: Cli, home: Path, url: str) -> AsyncIterator[Agent]:
    environ = hermetic_env(cli, home, url)
    command = [str(cli.path), "--dangerously-skip-permissions"]
    began = time.perf_counter()
    process = PtyProcess.spawn(command, cwd=home / "work", env=environ, dimensions=(40, 120))
    try:
        agent = ClaudeTui(process.fd)
        await agent.until(IDLE)
        agent.ready_s = time.perf_counter() - began
        yield agent
    finally:
        process.kill(signal.SIGTERM)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(process.wait)


@dataclass
class Codex:
    socket: ClientConnection
    ready_s: float = 0.0
    thread: str = ""
    number: int = 0

    async def call(self, method: str, params: dict[str, object]) -> dict[str, object]:
        self.number += 1
        await self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer: dict[str, object] = json.loads(await self.socket.recv())
            if answer.get("id") == self.number:
                return answer

    async def write(self, text: str) -> None:
        self.number += 1
        content = [{"type": "text", "text": text}]
        params = {"threadId": self.thread, "input": content}
        request = {"id": self.number, "method": "turn/start", "params": params}
        await self.socket.send(json.dumps(request))

    async def idle(self) -> None:
        while json.loads(await self.socket.recv()).get("method") != "turn/completed":
            pass


@asynccontextmanager
async def codex(cli: Cli, home: Path, url: str) -> AsyncIterator[Agent]:
    address = str(home / "sock")
    flags = ["-c", "features.instant_interrupt=false", "app-server", "--listen"]
    environ = hermetic_env(cli, home, url)
    began = time.perf_counter()
    async with _running([str(cli.path), *flags, f"unix://{address}"], home, environ):
        with anyio.fail_after(30):
            while not os.path.exists(address):  # noqa: ASYNC110, ASYNC240 - nothing says so
                await anyio.sleep(0.002)
        async with await _connected(address) as socket:
            agent = Codex(socket)
            client = {"name": "bench", "version": "1"}
            await agent.call("initialize", {"clientInfo": client})
            await socket.send(json.dumps({"method": "initialized"}))
            started = await agent.call("thread/start", {"cwd": str(home / "work")})
            agent.thread = started["result"]["thread"]["id"]  # type: ignore[index]
            agent.ready_s = time.perf_counter() - began
            yield agent


async def _connected(address: str) -> ClientConnection:
    with anyio.fail_after(30):
        while True:
            try:
                return await unix_connect(address, "ws://localhost/", max_size=None)
            except OSError:
                await anyio.sleep(0.002)  # bound, and not listening yet


@dataclass
class OpenCode:
    http: httpx.AsyncClient
    events: AsyncIterator[str]
    session: str
    ready_s: float

    async def write(self, text: str) -> None:
        parts = [{"type": "text", "text": text}]
        await self.http.post(f"/session/{self.session}/prompt_async", json={"parts": parts})

    async def idle(self) -> None:
        async for line in self.events:
            if line.startswith("data:") and json.loads(line[5:])["type"] == "session.idle":
                return


@asynccontextmanager
async def opencode(cli: Cli, home: Path, url: str) -> AsyncIterator[Agent]:
    # Set up as a session of ours is: with rules of permission a turn takes it 2 ms longer.
    allowed = rules(Approval.OPEN)
    environ = hermetic_env(cli, home, url)
    environ["OPENCODE_CONFIG_CONTENT"] = json.dumps({"permission": permissions(Approval.OPEN)})
    serve = [str(cli.path), "serve", "--port", "0", "--hostname", "127.0.0.1"]
    began = time.perf_counter()
    async with _running(serve, home, environ) as process:
        lines = _Lines(process)
        while b"listening on" not in (line := await lines.next()):
            pass
        base = line.split()[-1].decode()
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as http:
            conversation = {"title": "bench", "permission": allowed}
            session = (await http.post("/session", json=conversation)).json()["id"]
            ready_s = time.perf_counter() - began
            async with http.stream("GET", "/event", timeout=None) as stream:
                yield OpenCode(http, stream.aiter_lines(), session, ready_s)


@asynccontextmanager
async def _running(
    command: list[str], home: Path, environ: dict[str, str]
) -> AsyncIterator[Process]:
    process = await anyio.open_process(
        command, env=environ, cwd=home / "work", stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()  # a claude that is killed leaves a lock, which the next one waits for
            with anyio.move_on_after(END_S):
                await process.wait()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


Direct = "Callable[[Cli, Path, str], AbstractAsyncContextManager[Agent]]"
DIRECT = {"claude": claude, "claude-tui": claude_tui, "codex": codex, "opencode": opencode}
