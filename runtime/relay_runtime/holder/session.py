"""The session a holder keeps: its child over several runs, its logs, its input, its secrets.

Everything here happens between two waits of the one loop in `server`; nothing blocks but the fsync
of the two small records and the exec of a child.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import struct
import termios
import time

from . import proc, records
from .child import Child, Plan, SpawnError, overlay, spawn
from .ending import DRAIN, INTERRUPT, KILL, TERM, Bounds, Ending
from .people import FOCUS, Kinds, People
from .sizes import Sizes
from .steps import CHANGED, DONE_BEFORE, HUMAN, Typing
from .wire import CHUNK, FULL, MAX_INPUT, NO_INPUT, PROTOCOL, REPEATED, STREAMS, TAKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .log import Log

#: A process that something outside of the session gave our pipe to may keep it open for ever. What
#: the child itself wrote is in the pipe when it exits, so this only bounds what such others add.
EOF_S = 1.0
#: Between two sweeps for processes that are still being born or dying.
SWEEP_S = 0.02
#: Ends of earlier runs that are remembered for readers of old output.
MAX_RUNS = 1000
#: Secrets are small; this is memory that stays.
MAX_MEMO = 65_536

Event = dict[str, object]


class Refusal(Exception):
    """A request that cannot be met. `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Session:
    def __init__(
        self,
        session_id: str,
        environ: dict[str, str],
        logs: dict[str, Log],
        selector: selectors.BaseSelector,
        announce: Callable[[Event], None],
        wake_readers: Callable[[], None],
    ) -> None:
        self.session_id = session_id
        self.environ = environ
        self.logs = logs
        self.memo: dict[str, str] = {}
        self.run = 0
        self.exit: Event | None = None
        self.applied = 0
        self.ends: dict[int, dict[str, int]] = {}
        self.child: Child | None = None
        self.sizes = Sizes()
        self.ticks: int | None = None
        self._selector = selector
        self._announce = announce
        self._wake_readers = wake_readers
        self.typing: Typing | None = None
        self._people = People()
        self._kept_back = bytearray()  # what people typed meanwhile
        self._pending = bytearray()
        self._closing = False  # stdin closes when `_pending` is written
        self._eof_sent = False
        self._ending: Ending | None = None
        self._status: int | None = None  # of the child, once it was reaped
        self._ended_at = 0.0
        self._childless = True
        self._wait_until: float | None = None  # of the sweep or of EOF after the child's exit
        self._eof_by: float | None = None

    # --- requests -------------------------------------------------------------------------------

    def start(self, plan: Plan) -> None:
        """Raises `Refusal`; then nothing has changed."""
        if self.child is not None:
            raise Refusal("running", "the child still runs; stop it first")
        try:
            child = spawn(plan, overlay(self.environ, plan, self.session_id))
        except SpawnError as error:
            raise Refusal("start_failed", str(error)) from None
        self.child, self.ticks = child, proc.start_ticks(child.pid)
        self.run += 1
        self.exit = self._status = self._ending = self._wait_until = self._eof_by = None
        self._pending.clear()
        self._kept_back.clear()
        self._closing = self._eof_sent = self._childless = False
        self.sizes = Sizes()
        if child.pty:
            self.sizes.add(self.logs["out"].end, plan.rows, plan.cols)
        for fd in child.outs:
            self._watch(fd, selectors.EVENT_READ)
        self.record(plan.argv)

    def record(self, argv: list[str]) -> None:
        """Write meta.json. A full disk costs the record, not the agent."""
        meta: Event = {
            "protocol": PROTOCOL,
            "session_id": self.session_id,
            "boot_id": proc.boot_id(),
            "holder_pid": os.getpid(),
            "holder_start_ticks": proc.start_ticks(os.getpid()),
            "child_pid": self.child.pid if self.child else None,
            "child_start_ticks": self.ticks,
            "argv": argv,
            "run": self.run,
        }
        self._keep(records.META, meta)

    def input(self, seq: int, data: bytes) -> tuple[int, str]:
        """(result, reason) for the ACK."""
        if seq and seq <= self.applied:
            return REPEATED, ""
        problem = self._no_input(len(data))
        if problem is not None:
            return problem
        self.applied = max(self.applied, seq)
        self._write(data)
        return TAKEN, ""

    def person(self, who: str, kinds: Kinds, data: bytes, *, mute: bool) -> tuple[int, str]:
        """As `input`, of somebody at a terminal: noted, and kept back while a `type` is under way.

        `mute`: answers of that terminal are left out.
        """
        problem = self._no_input(len(data))
        if problem is not None:
            return problem
        found = kinds.feed(data)
        if mute and not found and kinds.whole and data not in FOCUS:
            return TAKEN, ""
        worth = self._people.typed(who, found, time.monotonic())
        for kind in worth:
            line = {"holder": "input", "client": who, "kind": kind, "at": round(time.time(), 3)}
            self.append("hooks", json.dumps(line).encode() + b"\n")
        if self.typing is not None:
            self._kept_back += data
        else:
            self._write(data)
        return TAKEN, ""

    def begin_typing(
        self, seq: int, steps: list[tuple[bytes, float]], hooks: int, quiet_s: float
    ) -> str | None:
        """Begin to take `steps`, unless something has happened since `hooks`. Why not, else None.

        Raises `Refusal` when there is no input to write to.
        """
        now = time.monotonic()
        if 0 < seq <= self.applied:
            return DONE_BEFORE
        problem = self._no_input(sum(len(data) for data, _ in steps))
        if problem is not None:
            raise Refusal("full" if problem[0] == FULL else "no_input", problem[1])
        if self.typing is not None or self.logs["hooks"].end > hooks:
            return CHANGED
        if not self._people.quiet(quiet_s, now):
            return HUMAN
        self.applied = max(self.applied, seq)
        self.typing = Typing(steps, now)
        self._type_on(now)
        return None

    def _type_on(self, now: float) -> None:
        typing = self.typing
        while typing is not None and not typing.done and typing.deadline <= now:
            self._write(typing.due(now))
        if typing is not None and typing.done:
            self.typing = None
            kept, self._kept_back = self._kept_back, bytearray()
            self._write(bytes(kept))
            self._announce({"event": "typed"})

    def _no_input(self, size: int) -> tuple[int, str] | None:
        """Why nothing can be written now, as an ACK says it."""
        child = self.child
        if child is None or child.stdin < 0 or self._closing or self._status is not None:
            return NO_INPUT, "no child runs" if child is None else "the child's input is closed"
        waiting = len(self._pending) + len(self._kept_back)
        if waiting + size > MAX_INPUT:
            return FULL, f"the child does not read: {waiting} bytes wait already"
        return None

    def _write(self, data: bytes) -> None:
        self._pending += data
        self._flush_input()

    def close_input(self) -> None:
        child = self.child
        if child is None or child.stdin < 0:
            return
        if not child.pty:
            self._closing = True
        elif not self._eof_sent:
            self._eof_sent = True
            self._pending += termios.tcgetattr(child.stdin)[6][termios.VEOF]
        self._flush_input()

    @property
    def has_terminal(self) -> bool:
        return self.child is not None and self.child.pty

    def resize(self, rows: int, cols: int) -> None:
        if self.child is None or not self.child.pty:
            raise Refusal("no_terminal", "no child with a terminal runs")
        size = struct.pack("HHHH", rows, cols, 0, 0)
        fcntl.ioctl(self.child.stdin, termios.TIOCSWINSZ, size)
        self.sizes.add(self.logs["out"].end, rows, cols)
        self._announce(
            {"event": "size", "rows": rows, "cols": cols, "offset": self.logs["out"].end}
        )

    def signal(self, signum: int) -> None:
        """To the child's process group. Nothing happens when it is gone."""
        if self.child is not None and self._status is None:
            try:
                os.killpg(self.child.pid, signum)
            except ProcessLookupError:
                pass

    def stop(self, bounds: Bounds, now: float) -> bool:
        """Begin to end the child. False: there is none, and nothing of it is left."""
        if self.child is None:
            return False
        if self._ending is None:
            self._ending = Ending(bounds)
        else:
            self._ending.hasten(bounds, now)
        self.advance(now)
        return self.child is not None

    def remember(self, memo: dict[str, str]) -> None:
        merged = self.memo | memo
        if sum(len(name) + len(text) for name, text in merged.items()) > MAX_MEMO:
            raise Refusal("too_large", f"a memo may hold {MAX_MEMO} characters")
        self.memo = merged

    def append(self, stream: str, data: bytes) -> None:
        log = self.logs[stream]
        change = log.append(data, time.monotonic())
        if change is not None:
            why = f"the {stream} log is not written: {log.stopped}; free some space"
            again = f"the {stream} log is written again"
            self.notice(change, why if log.stopped else again, stream)
        if log.rolled:
            log.rolled = False
            self.notice("log.rolled", f"the {stream} log goes on in a new file", stream)
        self._wake_readers()

    def notice(self, code: str, message: str, stream: str | None = None) -> None:
        self._announce({"event": "notice", "code": code, "message": message, "stream": stream})

    def status(self) -> Event:
        alive = self.child is not None and self._status is None
        return {
            "holder_pid": os.getpid(),
            "run": self.run,
            "pid": self.child.pid if self.child and alive else None,
            "start_ticks": self.ticks if alive else None,
            "exit": self.exit,
            "applied_seq": self.applied,
            "offsets": {name: self.logs[name].end for name in STREAMS},
            "stopped": {name: self.logs[name].stopped for name in STREAMS},
            "pending_input": len(self._pending),
        }

    # --- time and children ----------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `advance` has something to do, if nothing happens before."""
        if self._status is not None:
            return self._wait_until
        ending = self._ending.deadline if self._ending else None
        typing = self.typing.deadline if self.typing else None
        return min((at for at in (ending, typing) if at is not None), default=None)

    def reap(self, now: float) -> None:
        """After SIGCHLD: collect every dead child, ours and the orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                break
            if pid == 0:
                self._childless = False
                break
            if self.child is not None and pid == self.child.pid:
                self._status, self._ended_at = status, time.time()
                self._wait_until = now
                for fd in self.child.outs:  # a terminal may have been put aside
                    self._watch(fd, selectors.EVENT_READ)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Do what is due: the next step of a stop, another sweep, the end of a run."""
        if self.child is None:
            return
        if self._status is None:
            self._type_on(now)
            for step in self._ending.due(now) if self._ending else ():
                self._begin(step)
            return
        if self._wait_until is not None and now < self._wait_until and not self._childless:
            return
        if not self._childless and self._sweep():
            self._wait_until = now + SWEEP_S
            return
        if self._eof_by is None:
            self._eof_by = now + EOF_S
        if self.child.outs and now < self._eof_by:
            self._wait_until = self._eof_by
            return
        self._finish()

    def _begin(self, step: str) -> None:
        assert self.child is not None
        if step == DRAIN and not self.child.pty:
            self.close_input()
        elif step == INTERRUPT:
            self.signal(signal.SIGINT)
        elif step == TERM:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a stopped process would not see it
        elif step == KILL:
            self.signal(signal.SIGKILL)
            self._sweep()

    def _sweep(self) -> bool:
        """Kill every descendant. False when none is left that we may kill."""
        below = proc.descendants(os.getpid(), proc.scan())
        may = [proc.send_signal(stat, signal.SIGKILL) for stat in below]
        if below and not any(may):
            pids = ", ".join(str(stat.pid) for stat in below)
            self.notice("stop.survivors", f"processes that may not be killed are left: {pids}")
        return any(may)

    def _finish(self) -> None:
        """The run is over: everything is in the logs and nothing of it is alive."""
        assert self.child is not None and self._status is not None
        for fd in list(self.child.outs):
            self._read_out(fd)
        for fd in {*self.child.outs, self.child.stdin} - {-1}:
            self._unwatch(fd)
            os.close(fd)
        code = os.waitstatus_to_exitcode(self._status)
        self.exit = {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "at": self._ended_at,
        }
        self.child = self._ending = self.ticks = self.typing = None
        self._pending.clear()
        self.ends[self.run] = {name: log.end for name, log in self.logs.items()}
        if len(self.ends) > MAX_RUNS:
            del self.ends[min(self.ends)]
        self._keep(records.EXIT, {"run": self.run, **self.exit})
        self._announce({"event": "exit", "run": self.run, "exit": self.exit})
        self._wake_readers()

    def _keep(self, name: str, value: Event) -> None:
        try:
            records.write(name, value)
        except OSError as error:
            self.notice("record.failed", f"{name} was not written: {error.strerror}")

    # --- the child's input and output -----------------------------------------------------------

    def _watch(self, fd: int, events: int) -> None:
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, self._on_child)
        else:
            self._selector.register(fd, events, self._on_child)

    def _unwatch(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _on_child(self, fd: int, mask: int) -> None:
        if self.child is None:
            return
        if mask & selectors.EVENT_WRITE:
            self._flush_input()
        if mask & selectors.EVENT_READ and fd in self.child.outs and not self._read_out(fd):
            self._end_of_output(fd)

    def _read_out(self, fd: int) -> bool:
        """One chunk to its log. False at the end of the stream."""
        assert self.child is not None
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # a terminal whose other side is closed
            return False
        if data:
            self.append(self.child.outs[fd], data)
        return bool(data)

    def _end_of_output(self, fd: int) -> None:
        assert self.child is not None
        self._unwatch(fd)
        if self.child.pty and self._status is None:
            # Nobody has the terminal open now, but the child may open it again: closing our side
            # would hang it up. It is looked at again when the child has exited.
            return
        del self.child.outs[fd]
        if fd != self.child.stdin:
            os.close(fd)
        self.advance(time.monotonic())

    def _flush_input(self) -> None:
        assert self.child is not None
        fd = self.child.stdin
        if fd < 0:
            return
        try:
            while self._pending:
                with memoryview(self._pending) as view, view[:CHUNK] as head:
                    written = os.write(fd, head)
                del self._pending[:written]
        except BlockingIOError:
            pass
        except OSError:  # nobody will ever read it
            self._pending.clear()
            self._closing = self._closing or not self.child.pty
        reading = selectors.EVENT_READ if fd in self.child.outs else 0
        writing = selectors.EVENT_WRITE if self._pending else 0
        if self._closing and not self._pending:
            self._unwatch(fd)
            os.close(fd)
            self.child.stdin = -1
        elif reading or writing:
            self._watch(fd, reading | writing)
        else:
            self._unwatch(fd)
