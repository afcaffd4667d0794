"""All sessions of one user: spawn them, adopt those that outlived the last supervisor, find them."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from relay_client.types import MAX_NAME, AgentRegistration
from relay_profiles.model import Resume
from relay_server.errors import ApiError, BadRequest, Conflict, NotFound

from .. import paths, registry
from ..contract import Json, SessionSpec, StopPlan
from ..framing import clean
from ..restart import Policy, RestartPolicy
from ..turn_types import SessionState
from .journal import KEEP_DAYS, Journal, SessionRow
from .records import Limits, Live, SessionRecord
from .relay_link import RelayLink
from .session import ManagedSession, ended_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anyio.abc import TaskGroup, TaskStatus

    from relay_client.client import RelayClient
    from relay_profiles.model import Restart

    from ..contract import Harness
    from ..control_types import SessionInfo, Spawn

_log = logging.getLogger(__name__)

#: Before a session that failed by a fault of ours is taken up again, doubled up to the second.
FAILURE_BACKOFF_S = (1.0, 60.0)
DAY_S = 86_400.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Supervisor:
    """See the module. `run` owns every session's task; the API calls the rest."""

    def __init__(
        self,
        home: Path,
        journal: Journal,
        client: RelayClient,
        *,
        relay_url: str,
        relay_embedded: bool,
    ) -> None:
        self.home = home
        self.relay_url = relay_url
        self.relay_embedded = relay_embedded
        self.journal = journal
        self.since = time.time()
        self.news = anyio.Event()  # set and replaced when any session has taken a step
        self._sessions: dict[str, ManagedSession] = {}
        self._by_agent: dict[str, ManagedSession] = {}
        self._tasks: TaskGroup
        runtime_id = journal.fact("runtime_id") or f"runtime-{uuid4().hex[:12]}"
        self._runtime_id = runtime_id
        # An embedded relay may get another port at the next start; its database stays the same.
        source = "embedded" if relay_embedded else relay_url
        self.relay = RelayLink(client, journal, runtime_id, source, self._recipient)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Adopt what lives, then serve until cancelled. Sessions outlive this."""
        await self.journal.set_fact("runtime_id", self._runtime_id)
        async with anyio.create_task_group() as self._tasks:
            for row in list(self.journal.sessions()):
                if not row.live.ended:
                    await self._adopt(row)
            self._tasks.start_soon(self.relay.run)
            self._tasks.start_soon(self._forget_old)
            task_status.started()

    async def _forget_old(self) -> None:
        """Once a day: sessions that ended long ago, their logs, and what else is over."""
        while True:
            for session_id in await self.journal.prune(time.time() - KEEP_DAYS * DAY_S):
                shutil.rmtree(paths.session_dir(self.home, session_id), ignore_errors=True)
            await anyio.sleep(DAY_S)

    # Finding.

    def find(self, name: str) -> ManagedSession:
        """By name, session id or agent id, among those that have not ended."""
        for session in self._alive():
            spec = session.ledger.record.spec
            if name in (spec.name, spec.session_id, spec.agent_id):
                return session
        known = [session.name for session in self._alive()]
        raise NotFound(
            "no_such_session",
            f"no session {name!r}: there is {', '.join(known) or 'none; spawn one'}",
            candidates=known,
        )

    def session_id(self, name: str) -> str:
        """The id behind a name, also of a session that has ended (the newest of that name)."""
        try:
            return self.find(name).ledger.record.spec.session_id
        except NotFound:
            for row in reversed(list(self.journal.sessions())):
                spec = row.record.spec
                if name in (spec.name, spec.session_id, spec.agent_id):
                    return spec.session_id
            raise

    def infos(self, *, ended: bool = False) -> list[SessionInfo]:
        """Every session, oldest first; those that have ended only if asked for."""
        if not ended:
            return [session.info() for session in self._alive()]
        over = {
            row.record.spec.session_id: row for row in self.journal.sessions() if row.live.ended
        }
        infos = [ended_info(row) for row in over.values()]
        # Also one that has ended and of which that is not on disk yet.
        there = (s for s in self._sessions.items() if s[0] not in over)
        return infos + [session.info() for _, session in there]

    def info(self, name: str) -> SessionInfo:
        session_id = self.session_id(name)
        return next(i for i in self.infos(ended=True) if i.session_id == session_id)

    def _alive(self) -> list[ManagedSession]:
        """Those that have not ended; one that just did is in the table until its task is done."""
        return [s for s in self._sessions.values() if not s.ledger.live.ended]

    def _recipient(self, agent_id: str) -> ManagedSession | None:
        return self._by_agent.get(agent_id)

    # Starting.

    async def spawn(self, request: Spawn) -> SessionInfo:
        """Start a session; returns when it is ready, has failed, or `wait_s` is over."""
        harness = load_harness(request.harness)
        record = self._record(request, harness)
        agent = registration(record, self._runtime_id)  # refused before anything is stored
        spec = record.spec
        os.makedirs(spec.state_dir, mode=0o700)
        await self.journal.add_session(record, SessionState.STARTING.value)
        environ = self._environ(request.environ, spec)
        row = SessionRow(record, Live(), None, SessionState.STARTING.value, record.created_at)
        session = self._manage(row, harness, environ, fresh=True)
        await self.relay.register(agent)
        self._tasks.start_soon(self._live, session)
        with anyio.move_on_after(request.wait_s):
            await session.started.wait()
        if session.ended.is_set() and request.wait_s:
            raise ApiError(
                "start_failed", session.ledger.shown.reason or "it ended at once", status=422
            )
        return session.info()

    def _record(self, request: Spawn, harness: Harness) -> SessionRecord:
        mode = request.mode or harness.default_mode
        if mode not in harness.capabilities.modes:
            raise BadRequest("unsupported_mode", f"{request.harness} cannot run in mode {mode}")
        if not os.path.isabs(request.cwd) or not os.path.isdir(request.cwd):
            raise BadRequest("no_such_folder", f"no folder {request.cwd!r} to work in")
        session_id = uuid4().hex[:12]
        host, project = socket.gethostname(), _project(request.cwd)
        spec = SessionSpec(
            session_id=session_id,
            agent_id=agent_id(host, project, session_id),
            name=self._name(request),
            harness=request.harness,
            mode=mode,
            cwd=request.cwd,
            state_dir=str(paths.session_dir(self.home, session_id)),
            model=request.model,
            approval=request.approval,
            instructions=request.instructions,
            args=tuple(request.args),
            argv=tuple(request.argv),
            options=request.options,
        )
        return SessionRecord(
            spec=spec,
            created_at=time.time(),
            label=request.label,
            tags=tuple(request.tags),
            capabilities=tuple(request.capabilities),
            channels=tuple(request.channels),
            profile=request.profile,
            machine=host,
            project=project,
            task=request.task,
            restart=restart_policy(request.restart),
            stop=StopPlan(**request.stop.model_dump()),
            limits=Limits(
                queue=request.limits.queue,
                start_s=request.limits.watchdog.start_s,
                turn_idle_s=request.limits.watchdog.turn_idle_s,
                log_bytes=request.limits.log_bytes,
            ),
            continue_turn=request.restart.continue_turn,
            meta=dict(request.meta),
        )

    def _name(self, request: Spawn) -> str:
        taken = {session.name for session in self._alive()}
        if request.name is None:
            return next(name for name in _numbered(request.harness) if name not in taken)
        if not NAME.fullmatch(request.name):
            raise BadRequest(
                "bad_name",
                f"bad name {request.name!r}: use letters, digits, '.', '_' or '-', 64 at most",
            )
        if request.name in taken:
            raise Conflict(
                "name_taken",
                f"a session {request.name!r} is running: release it or choose another name",
            )
        return request.name

    def _environ(self, environ: dict[str, str], spec: SessionSpec) -> dict[str, str]:
        """The caller's environment, and what an agent needs to speak for itself."""
        return (
            environ
            | {
                "AGENT_RELAY_AGENT_ID": spec.agent_id,
                "AGENT_RELAY_URL": self.relay_url,
                paths.HOME_VARIABLE: str(self.home),
            }
            | ({"RELAY_RUNTIME_RELAY": "embedded"} if self.relay_embedded else {})
        )

    async def _adopt(self, row: SessionRow) -> None:
        try:
            harness = load_harness(row.record.spec.harness)
        except ApiError as error:
            _log.error("cannot adopt %s: %s", row.record.spec.name, error)
            return
        session = self._manage(row, harness, None)
        await self.relay.register(registration(row.record, self._runtime_id))
        self._tasks.start_soon(self._live, session)

    def _manage(
        self,
        row: SessionRow,
        harness: Harness,
        environ: Mapping[str, str] | None,
        *,
        fresh: bool = False,
    ) -> ManagedSession:
        spec = row.record.spec
        session = ManagedSession(
            row,
            self.journal,
            harness,
            spec.state_dir,
            environ,
            self._changed,
            self.relay.receipts,
            fresh=fresh,
        )
        self._sessions[spec.session_id] = session
        self._by_agent[spec.agent_id] = session
        return session

    async def _live(self, session: ManagedSession) -> None:
        """Until it ends. One that fails in a way nobody foresaw takes no other with it: it is built
        again from the journal, as after a restart of the supervisor."""
        spec = session.ledger.record.spec
        wait_s = FAILURE_BACKOFF_S[0]
        while True:
            try:
                await session.run()
                break
            except Exception:  # noqa: BLE001 - whatever it was, the agent must not be left alone
                _log.exception(
                    "session %s failed; taking it up again in %g s",
                    spec.name,
                    wait_s,
                    extra={"action": "session_failed", "session": spec.session_id},
                )
            await anyio.sleep(wait_s)
            wait_s = min(wait_s * 2, FAILURE_BACKOFF_S[1])
            row = self.journal.session(spec.session_id)
            session = self._manage(row, load_harness(spec.harness), session.environ)
        del self._sessions[spec.session_id], self._by_agent[spec.agent_id]
        await self.relay.unregister(spec.agent_id)

    def _changed(self, session: ManagedSession) -> None:
        self.relay.status(session.ledger.record.spec.agent_id, session.ledger.shown.state)
        self.news.set()
        self.news = anyio.Event()

    # Stopping.

    async def release_all(self, *, force: bool) -> None:
        """End every session."""
        async with anyio.create_task_group() as tasks:
            for session in list(self._sessions.values()):
                tasks.start_soon(_release, session, force)


async def _release(session: ManagedSession, force: bool) -> None:
    await session.release(force=force, reason="every session was released")


def load_harness(name: str) -> Harness:
    """By entry point; its errors as the API says them."""
    try:
        return registry.load(name)
    except registry.UnknownHarness as error:
        raise BadRequest("unknown_harness", str(error), candidates=error.candidates) from None
    except registry.RegistryError as error:
        raise Conflict("broken_harness", str(error)) from None


def agent_id(host: str, project: str, session_id: str) -> str:
    """`{hostname}-{project}-{session-hash}`, the same whenever it is asked."""
    digest = hashlib.sha256(session_id.encode()).hexdigest()[:8]
    return f"{_slug(host)}-{_slug(project)}-{digest}"


def _project(cwd: str) -> str:
    """The folder's name as the relay takes names, whatever a file system allows."""
    return " ".join(clean(Path(cwd).name).split())[:MAX_NAME].strip() or "root"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def registration(record: SessionRecord, runtime_id: str) -> AgentRegistration:
    """How the relay knows a session's agent."""
    spec = record.spec
    meta: dict[str, Json] = dict(record.meta)
    return AgentRegistration.model_validate(
        {
            "id": spec.agent_id,
            "name": spec.name,
            "label": record.label,
            "tags": record.tags,
            "capabilities": record.capabilities,
            "channels": record.channels,
            "machine": record.machine,
            "project": record.project,
            "harness": spec.harness,
            "session_id": spec.session_id,
            "runtime_id": runtime_id,
            "meta": meta,
        }
    )


def restart_policy(settings: Restart) -> RestartPolicy:
    """A profile's words as the runtime's."""
    backoff = settings.backoff
    return RestartPolicy(
        policy=Policy(settings.policy.value),
        max_restarts=settings.max_restarts,
        period_s=settings.period_s,
        initial_s=backoff.initial_s,
        factor=backoff.factor,
        max_s=backoff.max_s,
        jitter=backoff.jitter,
        stable_after_s=settings.stable_after_s,
        same_conversation=settings.resume is Resume.SAME_CONVERSATION,
    )


__all__ = ["Supervisor"]
