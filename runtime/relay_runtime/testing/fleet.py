"""A private supervisor in a state home of its own, for tests and the demonstration.

    async with Fleet(folder) as fleet:
        await fleet.up()
        session = await fleet.spawn("claude", cwd=..., environ=...)
        sent = await fleet.send(session["name"], "hello")
        fleet.kill()                # kill -9
        await fleet.up()            # the next supervisor takes over
        await fleet.delivered(sent["message_id"])

Leaving the block releases every session, stops the supervisor, and fails if a process of any
session is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.abc
import httpx
import pexpect

from .. import paths
from ..processes import Process, alive, marked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path
    from types import TracebackType

    from ..contract import Json

#: A supervisor is ready in half a second; a loaded machine with two cores may need many times that.
UP_S = 60.0
#: The longest wait the control API takes in one request.
POLL_S = 25.0

#: The console script, whether or not it is on PATH.
_COMMAND = "from relay_runtime.cli import main; main()"

#: What a control route answered; tests read it freely.
Answer = dict[str, Any]


class FleetError(Exception):
    """Raised when the supervisor refuses or cannot start. `code` and `status` are the API's."""

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Fleet:
    """See the module. `environ` is laid over a minimal environment of the supervisor itself."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.home = folder / "state"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "AGENT_RELAY_PORT": "0",
            paths.HOME_VARIABLE: str(self.home),
            **(environ or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._serving = anyio.Event()
        self._client: httpx.AsyncClient | None = None
        self._sessions: set[str] = set()

    # Its life.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def up(self) -> None:
        """Start the supervisor and wait until it serves. Raises `FleetError`."""
        self._process, read_fd = self._start()
        try:
            with anyio.fail_after(UP_S):
                await anyio.wait_readable(read_fd)
                word = os.read(read_fd, 4096).decode().strip()
        finally:
            os.close(read_fd)
        if word != "ready":
            raise FleetError(word or f"the supervisor died: {self.log()[-500:]}")
        old = self._client
        address = paths.socket_address(paths.control_socket(self.home))
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=address),
            base_url="http://control",
            timeout=httpx.Timeout(10, read=120),
            trust_env=False,
        )
        self._serving.set()
        if old is not None:
            await old.aclose()

    async def serving(self) -> None:
        """Return when a supervisor serves, which may be the next one."""
        await self._serving.wait()

    def _start(self) -> tuple[subprocess.Popen[bytes], int]:
        read_fd, write_fd = os.pipe()
        command = [sys.executable, "-P", "-m", "relay_runtime.supervisor"]
        with open(paths.supervisor_log(self.home), "ab") as log:
            process = subprocess.Popen(
                [*command, "--ready-fd", str(write_fd)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self.home,
                pass_fds=[write_fd],
                start_new_session=True,
            )
        os.close(write_fd)
        return process, read_fd

    @property
    def pid(self) -> int:
        if self._process is None:
            raise FleetError("no supervisor runs")
        return self._process.pid

    def kill(self) -> None:
        """kill -9 of the supervisor; returns when it is gone."""
        assert self._process is not None
        self._serving = anyio.Event()
        self._process.kill()
        self._process.wait()
        self._process = None

    async def down(self) -> None:
        """SIGTERM: the supervisor goes, sessions stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await self.gone()

    async def gone(self) -> None:
        """Wait until the supervisor has ended, because somebody told it to."""
        assert self._process is not None
        self._serving = anyio.Event()
        with anyio.fail_after(UP_S):
            await anyio.to_thread.run_sync(self._process.wait)
        self._process = None

    def log(self) -> str:
        """What the supervisor has logged."""
        return paths.supervisor_log(self.home).read_text(errors="replace")

    async def command(
        self, *arguments: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `relay-runtime` with `arguments` as a user of this supervisor would."""
        return await anyio.run_process(
            [sys.executable, "-P", "-c", _COMMAND, *arguments],
            input=stdin,
            env=self._environ,
            cwd=self.home.parent,
            check=False,
        )

    @asynccontextmanager
    async def process(self, *arguments: str) -> AsyncGenerator[anyio.abc.Process]:
        """`relay-runtime` with `arguments` while it runs, its output in a pipe; killed at the end."""
        command = [sys.executable, "-P", "-c", _COMMAND, *arguments]
        async with await anyio.open_process(
            command, stdin=subprocess.DEVNULL, env=self._environ, cwd=self.home.parent
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    process.kill()

    def terminal(self, *arguments: str) -> pexpect.spawn[str]:
        """`relay-runtime` with `arguments` in a terminal of 40 by 120. The caller closes it."""
        return pexpect.spawn(
            sys.executable,
            ["-P", "-c", _COMMAND, *arguments],
            env=cast("os._Environ[str]", self._environ | {"TERM": "xterm-256color"}),
            cwd=str(self.home.parent),
            encoding="utf-8",
            timeout=UP_S,
            dimensions=(40, 120),
        )

    def processes(self) -> list[Process]:
        """Living processes of all sessions this fleet has spawned."""
        return alive(process for sid in self._sessions for process in marked(sid))

    async def _end(self) -> None:
        if not self._serving.is_set():
            if self._process is not None:
                self.kill()  # a test that failed while it started
            await self.up()
        await self._ask("POST", "/v1/down", {"all": True, "force": True})
        await self.gone()
        assert self._client is not None
        await self._client.aclose()
        if left := self.processes():
            raise FleetError(f"processes are left: {left}")

    # The control API.

    async def _ask(self, method: str, path: str, body: Json = None, **query: str | float) -> Any:
        assert self._client is not None
        answer = await self._client.request(
            method, path, json=body if method == "POST" else None, params=query
        )
        if answer.is_error:
            error = answer.json()["error"]
            raise FleetError(error["message"], error["code"], answer.status_code)
        return answer.json()

    async def spawn(self, harness: str, **request: Json) -> Answer:
        """Start a session; the fields are those of `control_types.Spawn`."""
        body = {"harness": harness, "cwd": str(self.home.parent), "environ": {}, **request}
        info: Answer = await self._ask("POST", "/v1/sessions", body)
        self._sessions.add(info["session_id"])
        return info

    async def sessions(self, *, ended: bool = False) -> list[Answer]:
        found: list[Answer] = await self._ask("GET", "/v1/sessions", all=str(ended).lower())
        return found

    async def session(self, name: str) -> Answer:
        info: Answer = await self._ask("GET", f"/v1/sessions/{name}")
        return info

    async def order(self, name: str, verb: str, **body: Json) -> Answer:
        """interrupt, pause, resume, release, answer."""
        info: Answer = await self._ask("POST", f"/v1/sessions/{name}/{verb}", body)
        return info

    async def status(self) -> Answer:
        info: Answer = await self._ask("GET", "/v1/status")
        return info

    async def send(self, to: str, body: str, sender: str = "tester", **fields: Json) -> Answer:
        message = {"from": sender, "to": to, "body": body, **fields}
        sent: Answer = await self._ask("POST", "/v1/messages", message)
        return sent

    async def receipts(
        self, message_id: int, until: str | None = None, wait_s: float = 0
    ) -> Answer:
        query: dict[str, str | float] = {"wait_s": wait_s}
        if until is not None:
            query["until"] = until
        path = f"/v1/messages/{message_id}/receipts"
        found: Answer = await self._ask("GET", path, None, **query)
        return found

    async def final(self, message_id: int, within_s: float = 60.0) -> list[Answer]:
        """The receipts of a message once each of its deliveries has its final one."""
        with anyio.fail_after(within_s):
            while True:
                found = await self.receipts(message_id, "delivered", POLL_S)
                if all(d["status"] in ("delivered", "failed") for d in found["deliveries"]):
                    receipts: list[Answer] = found["receipts"]
                    return receipts

    async def events(self, session: str | None = None, since: int = 0) -> list[Answer]:
        """Events so far."""
        return [event async for event in self.follow(session, since, follow=False)]

    async def follow(
        self, session: str | None = None, since: int = 0, *, follow: bool = True
    ) -> AsyncGenerator[Answer]:
        """Events as they come."""
        assert self._client is not None
        query: dict[str, str | int] = {"since": since, "follow": str(follow).lower()}
        if session is not None:
            query["session"] = session
        async with self._client.stream("GET", "/v1/events", params=query, timeout=None) as answer:
            async for line in answer.aiter_lines():
                yield json.loads(line)

    async def wait_event(
        self, session: str, kind: str, since: int = 0, within_s: float = 60.0, **data: Json
    ) -> Answer:
        """The first event of a kind after a cursor whose data has these values."""
        with anyio.fail_after(within_s):
            async with aclosing(self.follow(session, since)) as events:
                async for event in events:
                    found = event["data"]
                    if event["type"] == kind and all(found.get(k) == v for k, v in data.items()):
                        return event
        raise FleetError(f"no {kind} from {session}: the supervisor went away")

    async def wait_state(self, session: str, state: str, within_s: float = 60.0) -> Answer:
        """Wait until a session is in a state; returns its info then."""
        with anyio.fail_after(within_s):
            async with aclosing(self.follow(session)) as events:
                async for _ in events:
                    info = await self.session(session)
                    if info["state"] == state:
                        return info
        raise FleetError(f"{session} never became {state}")
