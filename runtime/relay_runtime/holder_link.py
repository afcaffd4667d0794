"""The supervisor's side of a holder: start one, connect to one, and the `Holder` that drivers use.

    async with launch(folder, session_id, environ) as link: ...   a new holder process
    async with connect(folder) as link: ...                       one that runs, also of old versions

Leaving the block closes the connection only. The holder and its child go on until `stop`, `quit`.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from .contract import (
    ChildExit,
    Chunk,
    HarnessGone,
    Holder,
    HolderStatus,
    StartFailed,
    StartPlan,
    StopPlan,
    Stream,
    Typed,
)
from .holder import wire
from .holder_answers import child_exit, integer, ok, status_of
from .holder_process import spawn
from .holder_wire import Connection, HolderIncompatible, HolderRefused, dial

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

#: Frames that may wait for the socket. The holder reads at once, so more means it is stopped, and
#: then callers should wait rather than pile up.
MAX_OUTBOX = 64
#: Notices nobody has fetched. They are rare, and the states they tell of are in the status too.
MAX_NOTICES = 64
#: Kept of each log on disk.
LOG_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HolderNotice:
    """`code` is log.stopped, log.resumed, log.rolled, record.failed or stop.survivors."""

    code: str
    message: str
    stream: Stream | None = None


class _Answer:
    """What somebody waits for: a reply, an ack, or the end of the connection."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._value: wire.Json | tuple[int, str] = {}
        self._error: Exception | None = None

    def set(self, value: wire.Json | tuple[int, str]) -> None:
        self._value = value
        self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    async def wait(self) -> wire.Json | tuple[int, str]:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value


class HolderLink(Holder):
    """A connection to one holder. Made by `launch` and `connect`."""

    def __init__(self, session_dir: str, connection: Connection) -> None:
        self.session_dir = session_dir
        self.holder_pid = integer(connection.hello, "holder_pid")
        self._connection = connection
        self._outbox: MemoryObjectSendStream[tuple[bytes, _Answer, bool]]
        self._queued: MemoryObjectReceiveStream[tuple[bytes, _Answer, bool]]
        self._outbox, self._queued = anyio.create_memory_object_stream(MAX_OUTBOX)
        self._sending = 0  # frames that the writer has or is to have
        self._notices: deque[HolderNotice] = deque(maxlen=MAX_NOTICES)
        self._noticed = anyio.Event()  # replaced when somebody waits again
        self._replies: dict[int, _Answer] = {}
        self._acks: deque[_Answer] = deque()
        self._numbers = 0
        self._run = 0
        self._exit: ChildExit | None = None
        self._changed = anyio.Event()  # replaced at every start and exit
        self._lost: HarnessGone | None = None
        self._closed = anyio.Event()

    # --- the contract ---------------------------------------------------------------------------

    async def start(self, plan: StartPlan) -> HolderStatus:
        wanted = {
            "argv": list(plan.argv),
            "cwd": plan.cwd,
            "io": plan.io.value,
            "env": dict(plan.env),
            "rows": plan.rows,
            "cols": plan.cols,
        }
        try:
            return status_of(await self._request("start", plan=wanted))
        except HolderRefused as error:
            raise StartFailed(str(error)) from None

    async def write(self, data: bytes, seq: int) -> bool:
        if len(data) > wire.MAX_INPUT:
            raise ValueError(f"one write may have {wire.MAX_INPUT} bytes, not {len(data)}")
        ack = await self._ask(wire.encode_input(seq, data), _Answer(), is_input=True)
        assert isinstance(ack, tuple)
        result, reason = ack
        if result == wire.NO_INPUT:
            raise HarnessGone(reason)
        if result not in (wire.TAKEN, wire.REPEATED):
            raise HolderRefused("full" if result == wire.FULL else "read_only", reason)
        return result == wire.TAKEN

    async def type(
        self, steps: Sequence[tuple[str, int]], seq: int, *, hooks: int, quiet_s: float
    ) -> Typed:
        wanted = [list(step) for step in steps]
        try:
            answer = await self._request(
                "type", steps=wanted, seq=seq, hooks=hooks, quiet_s=quiet_s
            )
        except HolderRefused as error:
            if error.code == "no_input":
                raise HarnessGone(str(error)) from None
            raise
        return Typed(str(answer.get("result")))

    async def answer_hook(self, offset: int, text: str | None) -> bool:
        answer = await self._request("answer", offset=offset, text=text)
        return answer.get("answered") is True

    async def read(self, stream: Stream, offset: int) -> AsyncIterator[Chunk]:
        """Chunks up to the end of the current run, or of the coming one when none was started yet.

        "Current" is decided at the first chunk: should the child be started again meanwhile, this
        still ends where its own run ended, and a new `read` from that offset continues with the
        next. Each iterator has a connection of its own, so a slow one delays nobody; the holder
        drops it after 30 s and it comes back by itself. Chunks without data say how much is lost.
        """
        run: int | None = None
        while True:
            async with await dial(self.session_dir, read_only=True) as connection:
                attach = {"id": 0, "op": "attach", "stream": stream.value, "offset": offset}
                await connection.send(wire.encode_json(wire.REQUEST, attach | {"run": run}))
                async for frame in connection.frames():
                    if frame.kind == wire.OUTPUT:
                        _, at, gap, data = wire.decode_output(frame.payload)
                        offset = at + len(data)
                        yield Chunk(at, data, gap)
                    elif frame.kind == wire.REPLY:
                        answer = ok(wire.decode_json(frame.payload))
                        run, offset = integer(answer, "run"), integer(answer, "offset")
                    elif wire.decode_json(frame.payload).get("event") == "eof":
                        return

    async def wait_exit(self) -> ChildExit:
        while self._exit is None:
            self._raise_if_lost()
            if self._run == 0:
                raise HarnessGone("nothing was started in this session")
            await self._changed.wait()
        return self._exit

    async def close_input(self) -> None:
        await self._request("close_input")

    async def signal(self, signum: int) -> None:
        await self._request("signal", signum=signum)

    async def stop(self, plan: StopPlan) -> ChildExit:
        """See `Holder.stop`. Goes on in the holder when this is cancelled; a second stop can only
        shorten the first. A session in which nothing ever ran counts as ended with code 0."""
        answer = await self._request(
            "stop", drain_s=plan.drain_s, interrupt_s=plan.interrupt_s, term_s=plan.term_s
        )
        return child_exit(answer.get("exit")) or ChildExit(0, None, 0.0)

    async def status(self) -> HolderStatus:
        return status_of(await self._request("query"))

    async def remember(self, memo: Mapping[str, str]) -> None:
        await self._request("memo", set=dict(memo))

    async def environ(self) -> Mapping[str, str]:
        environ = await self._request("environ")
        return {name: str(value) for name, value in environ.items()}

    # --- beyond the contract --------------------------------------------------------------------

    async def resize(self, rows: int, cols: int) -> None:
        """Of the child's terminal. Raises `HolderRefused` when it has none."""
        await self._request("resize", rows=rows, cols=cols)

    async def hook(self, line: str) -> int:
        """Append one JSON object to the hooks log, as a hook of the agent would. Its offset."""
        return integer(await self._request("hook", line=line), "offset")

    async def tell(self, text: str | None) -> None:
        """A line for those who look at the session, until the next one; None takes it away."""
        await self._request("tell", text=text)

    async def quit(self) -> None:
        """End the holder process. Raises `HolderRefused` while a child runs: `stop` it first."""
        try:
            fd = os.pidfd_open(self.holder_pid)
        except ProcessLookupError:
            raise HarnessGone("the holder of this session is gone") from None
        try:
            await self._request("quit")
            await anyio.wait_readable(fd)
        finally:
            os.close(fd)

    async def notices(self) -> AsyncIterator[HolderNotice]:
        """What people should know, until the connection ends. For one reader."""
        while True:
            while self._notices:
                yield self._notices.popleft()
            if self._lost is not None:
                return
            self._noticed = anyio.Event()
            await self._noticed.wait()

    # --- the connection -------------------------------------------------------------------------

    async def _request(self, op: str, **arguments: object) -> wire.Json:
        self._numbers += 1
        number, answer = self._numbers, _Answer()
        self._replies[number] = answer
        try:
            frame = wire.encode_json(wire.REQUEST, {"id": number, "op": op, **arguments})
            reply = await self._ask(frame, answer, is_input=False)
        finally:
            self._replies.pop(number, None)
        assert isinstance(reply, dict)
        return reply

    async def _ask(
        self, frame: bytes, answer: _Answer, *, is_input: bool
    ) -> wire.Json | tuple[int, str]:
        self._raise_if_lost()
        if self._sending:
            self._sending += 1
            try:
                await self._outbox.send((frame, answer, is_input))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._raise_if_lost()
                raise HarnessGone("the connection to the holder was closed") from None
            except BaseException:
                self._sending -= 1
                raise
        else:
            self._send_now(frame, answer, is_input)
        return await answer.wait()

    def _send_now(self, frame: bytes, answer: _Answer, is_input: bool) -> None:
        """Nobody is inside a frame, so there is no need to wait for the writer's turn."""
        self._expect(answer, is_input)
        try:
            rest = self._connection.send_now(frame)
        except HarnessGone as error:
            self._lose(error)
            raise
        if rest:  # the writer has nothing else to do, so there is room
            self._sending += 1
            self._outbox.send_nowait((rest, answer, False))

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    async def _begin(self) -> None:
        answer = await self._request("query")
        self._take(answer)
        stopped = answer.get("stopped")
        for name, why in stopped.items() if isinstance(stopped, dict) else ():
            if why is not None:
                message = f"the {name} log is not written: {why}; free some space"
                self._notice(HolderNotice("log.stopped", message, Stream(name)))

    async def _send_all(self) -> None:
        """The one writer: a caller that is cancelled never leaves half a frame behind."""
        try:
            while True:
                frame, answer, is_input = await self._queued.receive()
                self._expect(answer, is_input)
                await self._connection.send(frame)
                self._sending -= 1
        except HarnessGone as error:
            self._lose(error)
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            pass  # lost already

    def _expect(self, answer: _Answer, is_input: bool) -> None:
        """Acks carry no number: they come in the order of the inputs."""
        if is_input:
            self._acks.append(answer)

    async def _receive_all(self) -> None:
        try:
            async for frame in self._connection.frames():
                self._on_frame(frame)
            self._lose(HarnessGone("the holder of this session is gone"))
        except (HolderRefused, wire.WireError) as error:
            self._lose(HarnessGone(f"the holder hung up: {error}"))

    def _on_frame(self, frame: wire.Frame) -> None:
        if frame.kind == wire.ACK:
            _, result, reason = wire.decode_ack(frame.payload)
            if not self._acks:
                raise wire.WireError("an ack for no input")
            self._acks.popleft().set((result, reason))
        elif frame.kind == wire.REPLY:
            reply = wire.decode_json(frame.payload)
            answer = self._replies.get(integer(reply, "id"))
            try:
                value = ok(reply)
            except HolderRefused as error:
                if answer is not None:
                    answer.fail(error)
                return
            if "run" in value:
                self._take(value)
            if answer is not None:
                answer.set(value)
        elif frame.kind == wire.EVENT:
            self._on_event(wire.decode_json(frame.payload))

    def _on_event(self, event: wire.Json) -> None:
        if event.get("event") == "exit":
            self._take(event)
        elif event.get("event") == "notice":
            name = event.get("stream")
            stream = Stream(str(name)) if name is not None else None
            notice = HolderNotice(str(event.get("code")), str(event.get("message")), stream)
            self._notice(notice)

    def _take(self, state: wire.Json) -> None:
        """Run and exit, as every answer about them and every exit event carries them."""
        self._run, self._exit = integer(state, "run"), child_exit(state.get("exit"))
        self._changed.set()
        self._changed = anyio.Event()

    def _notice(self, notice: HolderNotice) -> None:
        self._notices.append(notice)  # when nobody fetches them, the oldest are let go
        self._noticed.set()

    def _lose(self, error: HarnessGone) -> None:
        if self._lost is not None:
            return
        self._lost = error
        self._outbox.close()
        for answer in (*self._replies.values(), *self._acks):
            answer.fail(error)
        try:
            while True:
                self._queued.receive_nowait()[1].fail(error)
        except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            pass
        self._queued.close()
        self._changed.set()
        self._noticed.set()


@asynccontextmanager
async def connect(session_dir: str) -> AsyncIterator[HolderLink]:
    """Connect to the holder that serves `session_dir`.

    Raises `HarnessGone` when none does, `HolderIncompatible` when it is too new or too old.
    """
    failure: Exception | None = None
    async with await dial(session_dir, read_only=False) as connection:
        link = HolderLink(session_dir, connection)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link._send_all)
                tasks.start_soon(link._receive_all)
                try:
                    await link._begin()
                    yield link
                except Exception as error:  # noqa: BLE001 - raised below, not inside a group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            link._lose(HarnessGone("the connection to the holder was closed"))
    if failure is not None:
        raise failure


@asynccontextmanager
async def launch(
    session_dir: str,
    session_id: str,
    environ: Mapping[str, str],
    *,
    log_bytes: int = LOG_BYTES,
    segment_bytes: int | None = None,
    leave_s: float | None = None,
) -> AsyncIterator[HolderLink]:
    """Start a holder for `session_dir` (made if missing, mode 0700) and connect to it.

    It outlives this process and is never its zombie. `environ` goes to its memory and nowhere else.
    `log_bytes` is what each log keeps on disk. With `leave_s` it ends by itself, and its child with
    it, that many seconds after the last one who looked at its output has gone. Raises `StartFailed` when it cannot serve there,
    also when another holder does. Cancelled after the start it stays: `connect` finds it.
    """
    os.makedirs(session_dir, mode=0o700, exist_ok=True)
    start: wire.Json = {
        "session_id": session_id,
        "environ": dict(environ),
        "log_bytes": log_bytes,
    }
    if segment_bytes is not None:
        start["segment_bytes"] = segment_bytes
    if leave_s is not None:
        start["leave_s"] = leave_s
    await spawn(session_dir, start)
    async with connect(session_dir) as link:
        yield link


__all__ = [
    "HolderIncompatible",
    "HolderLink",
    "HolderNotice",
    "HolderRefused",
    "connect",
    "launch",
]
