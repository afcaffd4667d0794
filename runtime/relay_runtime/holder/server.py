"""The holder's one loop: the socket, its clients, the child, the clock."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import time

from . import wire
from .child import SpawnError, parse_plan, parse_size
from .client import Client, Gone
from .ending import parse_bounds
from .hooks import Hook, Waiting
from .leaving import Leaving
from .session import Refusal, Session
from .sizes import POLICIES, choose
from .steps import TYPED, parse_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .log import Log

SOCKET = "holder.sock"
#: A supervisor, its readers, an attached human or two, and hooks of the agent running in parallel.
MAX_CLIENTS = 64
#: Of the line that is shown to those who look.
MAX_TOLD = 1024
#: A view whose last viewer has gone is asked to end, and after this killed.
VIEW_TERM_S = 2.0
#: One line of the hooks log. Hook payloads carry whole tool results.
MAX_HOOK = 1024 * 1024
_UCRED = struct.Struct("3i")
#: What a read-only client may ask for.
_HARMLESS = frozenset({"attach", "query", "screen"})


class Server:
    def __init__(
        self,
        session_id: str,
        environ: dict[str, str],
        logs: dict[str, Log],
        listener: socket.socket,
        leave_s: float | None = None,
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._clients: dict[int, Client] = {}
        self._stoppers: list[tuple[Client, object]] = []
        self._typists: list[tuple[Client, object]] = []
        self._hooks = Waiting()
        self._told: str | None = None
        self._leaving = Leaving(leave_s, time.monotonic())
        self._stirred = False
        self._quitting = False
        self._fault: str | None = None
        self._policy = POLICIES[0]
        self.session = Session(
            session_id, environ, logs, self._selector, self._announce, self._stir
        )
        self._wakeup, self._signalled = os.pipe()
        for fd in (self._wakeup, self._signalled):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signal)
        self._selector.register(listener, selectors.EVENT_READ, self._on_connect)

    def serve(self) -> None:
        """Until a client says quit."""
        while not self._quitting:
            for key, mask in self._selector.select(self._timeout()):
                self._guarded(key.data, key.fd, mask)
            self._guarded(self.session.advance, time.monotonic())
            self._expire()
            if self._stirred:
                self._stirred = False
                # Who looks at it comes first: a person waits for the echo of a key.
                for client in sorted(self._clients.values(), key=lambda c: c.view is None):
                    self._pump(client)
        os.unlink(SOCKET)
        for client in list(self._clients.values()):
            self._pump(client)

    def _guarded(self, step: Callable[..., None], *args: object) -> None:
        """Whatever goes wrong in one step, the agent must not lose its holder."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001 - the holder's death is the agent's death
            self._record_fault(error)

    def _record_fault(self, error: Exception) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
        self._fault = f"{type(error).__name__} in {where}"  # no message: it could hold a secret

    def _timeout(self) -> float | None:
        deadlines = [client.deadline for client in self._clients.values()]
        deadlines += [self.session.deadline, self._leaving.deadline]
        due = min((at for at in deadlines if at is not None), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def _expire(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.deadline is not None and now >= client.deadline:
                client.say_last("timeout", "no hello came")
                self._drop(client)
        if self._leaving.due(now):
            self._leaving.deadline = None
            if not self.session.stop((0.0, 0.0, VIEW_TERM_S), now):
                self._quitting = True

    def _on_signal(self, fd: int, mask: int) -> None:
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            pass
        self.session.reap(time.monotonic())

    # --- clients --------------------------------------------------------------------------------

    def _on_connect(self, fd: int, mask: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        client = Client(sock, time.monotonic())
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        problem = None
        if _UCRED.unpack(credentials)[1] != os.geteuid():
            problem = ("peer", "this session belongs to another user")
        elif len(self._clients) >= MAX_CLIENTS:
            problem = ("busy", f"{MAX_CLIENTS} clients are connected already")
        if problem:
            client.say_last(*problem)
            sock.close()
            return
        self._clients[sock.fileno()] = client
        self._selector.register(sock, selectors.EVENT_READ, self._on_client)
        self._put(client, wire.hello(session_id=self.session.session_id, holder_pid=os.getpid()))
        self._pump(client)

    def _on_client(self, fd: int, mask: int) -> None:
        client = self._clients.get(fd)
        if client is None:  # dropped earlier in this round
            return
        try:
            if mask & selectors.EVENT_READ:
                client.receive()
                while frame := client.next_frame():
                    self._on_frame(client, frame)
        except wire.WireError as error:
            client.say_last("protocol", str(error))
            self._drop(client)
        except Gone:
            self._drop(client)
        except Exception as error:  # noqa: BLE001 - as in _guarded
            self._record_fault(error)
            self._drop(client)
        else:
            self._pump(client)

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is None:
            return
        self._stoppers = [entry for entry in self._stoppers if entry[0] is not client]
        self._typists = [entry for entry in self._typists if entry[0] is not client]
        self._hooks.forget(client)
        self._selector.unregister(client.sock)
        client.sock.close()
        if client.view is not None:
            self._fit()
        if client.looks:
            self._count_viewers()

    def _count_viewers(self) -> None:
        looking = sum(client.looks for client in self._clients.values())
        self._leaving.watched(looking if self.session.child else 0, time.monotonic())

    def _put(self, client: Client, frame: bytes) -> None:
        try:
            client.put(frame, time.monotonic())
        except Gone:
            self._drop(client)

    def _pump(self, client: Client) -> None:
        """Send what can be sent; ask to be told when more can be, if anything waits."""
        if client.sock.fileno() < 0:
            return
        try:
            client.pump(self.session, time.monotonic())
        except Gone:
            self._drop(client)
            return
        except Exception as error:  # noqa: BLE001 - as in _guarded
            self._record_fault(error)
            self._drop(client)
            return
        events = selectors.EVENT_READ
        if client.waits_to_write:
            events |= selectors.EVENT_WRITE
        if self._selector.get_key(client.sock).events != events:
            self._selector.modify(client.sock, events, self._on_client)

    def _stir(self) -> None:
        self._stirred = True

    def _announce(self, event: dict[str, object]) -> None:
        if event["event"] == "typed":
            self._end_typing()
            return
        frame = wire.encode_json(wire.EVENT, event)
        for client in list(self._clients.values()):
            if client.greeted:
                self._put(client, frame)
        if event["event"] == "exit":
            stoppers, self._stoppers = self._stoppers, []
            for client, number in stoppers:
                self._reply(client, number, {"exit": self.session.exit})
            typists, self._typists = self._typists, []
            for client, number in typists:
                self._refuse(client, number, "no_input", "the child has exited")
            for hook in self._hooks.unlock() + self._hooks.take_all():
                self._let_go(hook)
            self._count_viewers()
        self._stir()

    def _end_typing(self) -> None:
        typists, self._typists = self._typists, []
        for client, number in typists:
            self._reply(client, number, {"result": TYPED})
        for hook in self._hooks.unlock():
            self._let_go(hook)
        self._stir()  # whoever typed

    def _let_go(self, hook: Hook, answer: str | None = None) -> None:
        self._reply(hook.client, hook.number, hook.answer | {"answer": answer})
        self._stir()  # it is another client than the one that is served now

    # --- frames ---------------------------------------------------------------------------------

    def _on_frame(self, client: Client, frame: wire.Frame) -> None:
        if not client.greeted:
            if frame.kind != wire.HELLO:
                raise wire.WireError("the first frame must be a hello")
            client.greet(wire.decode_json(frame.payload))
        elif frame.kind == wire.INPUT:
            seq, data = wire.decode_input(frame.payload)
            if client.read_only:
                result, reason = wire.REFUSED, "this connection is read-only"
            elif client.person is not None and seq == 0:
                mute = not self._answers(client)
                result, reason = self.session.person(client.person, client.kinds, data, mute=mute)
            else:
                result, reason = self.session.input(seq, data)
            if not (client.quiet and result == wire.TAKEN):
                self._put(client, wire.encode_ack(seq, result, reason))
        elif frame.kind == wire.REQUEST:
            self._on_request(client, wire.decode_json(frame.payload))
        else:
            raise wire.WireError(f"a client does not send frames of type {frame.kind}")

    def _answers(self, client: Client) -> bool:
        """Whether it is this one's terminal that answers the program: the newest of the right size.

        Every terminal that shows the output is asked, and one answer is what the program expects.
        """
        people = [c for c in self._clients.values() if c.person is not None and not c.read_only]
        fitting = [c for c in people if c.view == self.session.sizes.now]
        return client is (fitting or people)[-1]

    def _on_request(self, client: Client, request: wire.Json) -> None:
        number, op = request.get("id"), request.get("op")
        try:
            answer = self._perform(client, str(op), request)
        except Refusal as refusal:
            self._refuse(client, number, refusal.code, str(refusal))
        except (SpawnError, ValueError, wire.WireError) as error:
            self._refuse(client, number, "bad_request", str(error))
        except Exception as error:  # noqa: BLE001 - as in _guarded
            self._record_fault(error)
            self._refuse(client, number, "internal", f"the holder failed: {self._fault}")
        else:
            if answer is not None:
                self._reply(client, number, answer)

    def _reply(self, client: Client, number: object, answer: dict[str, object]) -> None:
        self._put(client, wire.encode_json(wire.REPLY, {"id": number, "ok": answer}))

    def _refuse(self, client: Client, number: object, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        self._put(client, wire.encode_json(wire.REPLY, {"id": number, "error": error}))

    def _perform(self, client: Client, op: str, request: wire.Json) -> dict[str, object] | None:
        """The answer, or None when it comes later. Raises `Refusal`, `SpawnError`, `ValueError`."""
        if client.read_only and op not in _HARMLESS:
            raise Refusal("read_only", "this connection is read-only")
        perform = getattr(self, f"_op_{op}", None)
        if perform is None:
            raise Refusal("unknown_op", f"this holder does not know {op!r}")
        answer: dict[str, object] | None = perform(client, request)
        return answer

    def _op_attach(self, client: Client, request: wire.Json) -> dict[str, object]:
        stream, offset, run = request.get("stream"), request.get("offset"), request.get("run")
        if stream not in wire.STREAMS or type(offset) is not int or offset < 0:
            raise ValueError("attach needs a stream (out, err or hooks) and an offset from 0")
        current = max(1, self.session.run)
        if run is None:
            run = current
        if type(run) is not int or not (run == current or run in self.session.ends):
            raise Refusal("no_such_run", "this run is not known here")
        end = self.session.logs[str(stream)].end
        client.attach(str(stream), min(offset, end), run)
        self._count_viewers()
        return {"run": run, "offset": min(offset, end)}

    def _op_query(self, client: Client, request: wire.Json) -> dict[str, object]:
        status = self.session.status() | {"fault": self._fault}
        return status if client.read_only else status | {"memo": self.session.memo}

    def _op_start(self, client: Client, request: wire.Json) -> dict[str, object]:
        self.session.start(parse_plan(request.get("plan")))
        return self._op_query(client, request)

    def _op_stop(self, client: Client, request: wire.Json) -> dict[str, object] | None:
        bounds = tuple(request.get(f"{step}_s", 0) for step in ("drain", "interrupt", "term"))
        parsed = parse_bounds((bounds[0], bounds[1], bounds[2]))
        if self.session.stop(parsed, time.monotonic()):
            self._stoppers.append((client, request.get("id")))
            return None
        return {"exit": self.session.exit}

    def _op_signal(self, client: Client, request: wire.Json) -> dict[str, object]:
        signum = request.get("signum")
        if type(signum) is not int or signum not in signal.valid_signals():
            raise ValueError("signum must be the number of a signal")
        self.session.signal(signum)
        return {}

    def _op_resize(self, client: Client, request: wire.Json) -> dict[str, object]:
        self.session.resize(*parse_size(request))
        return {}

    def _op_view(self, client: Client, request: wire.Json) -> dict[str, object]:
        size, policy = parse_size(request), request.get("policy", POLICIES[0])
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}")
        client.view, self._policy = size, str(policy)
        # The newest is the last one in the table; see `choose`.
        self._clients[client.sock.fileno()] = self._clients.pop(client.sock.fileno())
        self._fit()
        return self._op_screen(client, request)

    def _op_screen(self, client: Client, request: wire.Json) -> dict[str, object]:
        sizes = self.session.sizes.as_json()
        return {"run": self.session.run, "sizes": sizes, "told": self._told}

    def _fit(self) -> None:
        """Give the terminal the size that those who look at it want."""
        size = choose(self._policy, [c.view for c in self._clients.values() if c.view is not None])
        if size is not None and size != self.session.sizes.now and self.session.has_terminal:
            self.session.resize(*size)

    def _op_close_input(self, client: Client, request: wire.Json) -> dict[str, object]:
        self.session.close_input()
        return {}

    def _op_environ(self, client: Client, request: wire.Json) -> dict[str, object]:
        return dict(self.session.environ)

    def _op_memo(self, client: Client, request: wire.Json) -> dict[str, object]:
        memo = request.get("set")
        if not isinstance(memo, dict) or not all(isinstance(text, str) for text in memo.values()):
            raise ValueError("set must map names to strings")
        self.session.remember(memo)
        return {}

    def _op_type(self, client: Client, request: wire.Json) -> dict[str, object] | None:
        seq, hooks, quiet_s = (request.get(name) for name in ("seq", "hooks", "quiet_s"))
        if type(seq) is not int or type(hooks) is not int or not isinstance(quiet_s, int | float):
            raise ValueError("type needs seq, hooks (an offset), quiet_s and steps")
        steps = parse_steps(request.get("steps"))
        self._typists.append((client, request.get("id")))
        refused = None
        try:
            refused = self.session.begin_typing(seq, steps, hooks, quiet_s)
        except Refusal:
            self._typists.pop()
            raise
        if refused is None:
            return None
        self._typists.pop()
        return {"result": refused}

    def _op_tell(self, client: Client, request: wire.Json) -> dict[str, object]:
        text = request.get("text")
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TOLD):
            raise ValueError(f"text must be null or a string of at most {MAX_TOLD} characters")
        if text != self._told:
            self._told = text
            self._announce({"event": "told", "text": text})
        return {}

    def _op_answer(self, client: Client, request: wire.Json) -> dict[str, object]:
        offset, text = request.get("offset"), request.get("text")
        if type(offset) is not int or not (text is None or isinstance(text, str)):
            raise ValueError("answer needs the offset of a hook's line, and a text or null")
        hook = self._hooks.take(offset)
        if hook is not None:
            self._let_go(hook, text)
        return {"answered": hook is not None}

    def _op_hook(self, client: Client, request: wire.Json) -> dict[str, object] | None:
        line, wait = request.get("line"), request.get("wait", False)
        if not isinstance(line, str) or "\n" in line or len(line) > MAX_HOOK:
            raise ValueError(f"line must be one line of JSON of at most {MAX_HOOK} characters")
        wire.decode_json(line.encode())
        log = self.session.logs["hooks"]
        offset = log.end
        self.session.append("hooks", line.encode() + b"\n")
        answer: dict[str, object] = {"offset": offset, "logged": log.stopped is None}
        hook = Hook(client, request.get("id"), answer, wait == "latest")
        if wait and self.session.child is not None:
            for gone in self._hooks.ask(offset, hook):
                self._let_go(gone)
            return None
        if self.session.typing is not None:
            self._hooks.lock(hook)
            return None
        return answer | {"answer": None}

    def _op_quit(self, client: Client, request: wire.Json) -> dict[str, object]:
        if self.session.child is not None:
            raise Refusal("running", "the child still runs; stop it first")
        self._quitting = True
        return {}
