"""Writing who there is and how they are. Runs in the writer's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_client.types import Agent, AgentStatus

from . import rows, sql
from .errors import NotFound
from .hub import EVENTS, runtime_topic
from .reporting import expire, fail
from .rows import DeliveryRow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from relay_client.types import AgentRegistration

    from .book import Book, Change


def unknown_agent(agent_id: str) -> NotFound:
    return NotFound("unknown_agent", f"no agent {agent_id!r} is registered: register it first")


def register(conn: sqlite3.Connection, book: Book, new: AgentRegistration) -> Change[Agent]:
    """Add or update an agent. A label that people gave it stays unless a new one is given."""
    now = book.clock()
    row = conn.execute(sql.AGENT, (new.id,)).fetchone()
    old = None if row is None else rows.agent(row)
    told = dict(new)
    if old is not None and new.label is None:
        told["label"] = old.label
    agent = Agent(**told, registered_at=now if old is None else old.registered_at, last_seen_at=now)
    conn.execute(sql.PUT_AGENT, rows.agent_values(agent))
    topics = _tell_change(conn, book, old, agent)
    if old is not None and old.runtime_id != agent.runtime_id:
        topics += _hand_over(conn, agent)
    topics += book.deadline_topics(now + book.stale_ttl_s)
    book.directory.put(rows.addressee(agent))
    return agent, topics


def heartbeat(
    conn: sqlite3.Connection, book: Book, agent_id: str, status: AgentStatus | None
) -> Change[Agent]:
    """The agent lives. Without a status it keeps its own; one that was offline is online."""
    return _set_presence(conn, book, _agent(conn, agent_id), status)


def heartbeat_runtime(
    conn: sqlite3.Connection, book: Book, runtime_id: str, agents: Mapping[str, AgentStatus]
) -> Change[list[str]]:
    """The runtime's agents live. Returns the ids of those that are not registered as its own."""
    unknown = []
    topics: list[str] = []
    for agent_id, status in agents.items():
        row = conn.execute(sql.AGENT, (agent_id,)).fetchone()
        agent = None if row is None else rows.agent(row)
        if agent is None or agent.runtime_id != runtime_id:
            unknown.append(agent_id)
        else:
            topics += _set_presence(conn, book, agent, status)[1]
    return unknown, topics


def set_label(
    conn: sqlite3.Connection, book: Book, agent_id: str, label: str | None
) -> Change[Agent]:
    old = _agent(conn, agent_id)
    agent = old.model_copy(update={"label": label})
    conn.execute(sql.SET_LABEL, (label, agent_id))
    topics = _tell_change(conn, book, old, agent)
    book.directory.put(rows.addressee(agent))
    return agent, topics


def remove(conn: sqlite3.Connection, book: Book, agent_id: str) -> Change[None]:
    """Forget the agent. What no runtime has taken for it fails; the rest is its runtime's."""
    agent = _agent(conn, agent_id)
    pending = conn.execute(sql.PENDING_OF_AGENT, (agent_id,)).fetchall()
    topics = fail(conn, book, (DeliveryRow(*row) for row in pending), "agent_removed")
    conn.execute(sql.REMOVE_AGENT, (agent_id,))
    topics += _tell(conn, book, "agent.removed", agent)
    book.directory.remove(agent_id)
    return None, topics


def sweep(conn: sqlite3.Connection, book: Book) -> Change[float | None]:
    """Do what is due now: expire deliveries, mark silent agents offline.

    Returns when to sweep next, None when nothing is pending. After a start everybody gets the whole
    time to be heard of: it was the relay that was silent.
    """
    topics = expire(conn, book)
    now = book.clock()
    if now >= book.opened_at + book.stale_ttl_s:
        for row in conn.execute(sql.STALE_AGENTS, (now - book.stale_ttl_s,)).fetchall():
            agent = rows.agent(row)
            conn.execute(
                sql.SET_PRESENCE, (AgentStatus.OFFLINE.value, agent.last_seen_at, agent.id)
            )
            offline = agent.model_copy(update={"status": AgentStatus.OFFLINE})
            topics += _tell(conn, book, "agent.status", offline)
    deadlines = [value for (value,) in conn.execute(sql.NEXT_EXPIRY) if value is not None]
    for (last_seen_at,) in conn.execute(sql.OLDEST_SIGN_OF_LIFE):
        if last_seen_at is not None:
            deadlines.append(max(last_seen_at, book.opened_at) + book.stale_ttl_s)
    book.next_deadline = min(deadlines, default=float("inf"))
    return min(deadlines, default=None), topics


def _agent(conn: sqlite3.Connection, agent_id: str) -> Agent:
    row = conn.execute(sql.AGENT, (agent_id,)).fetchone()
    if row is None:
        raise unknown_agent(agent_id)
    return rows.agent(row)


def _set_presence(
    conn: sqlite3.Connection, book: Book, old: Agent, status: AgentStatus | None
) -> Change[Agent]:
    now = book.clock()
    if status is None:
        offline = old.status is AgentStatus.OFFLINE
        status = AgentStatus.ONLINE if offline else old.status
    agent = old.model_copy(update={"status": status, "last_seen_at": now})
    conn.execute(sql.SET_PRESENCE, (status.value, now, old.id))
    topics = _tell_change(conn, book, old, agent)
    return agent, topics + book.deadline_topics(now + book.stale_ttl_s)


def _hand_over(conn: sqlite3.Connection, agent: Agent) -> list[str]:
    """The agent has another runtime now, whose cursor may be past what waits for it."""
    for row in conn.execute(sql.PENDING_OF_AGENT, (agent.id,)).fetchall():
        conn.execute(sql.MOVE_TO_END, (agent.session_id, DeliveryRow(*row).seq))
    return [] if agent.runtime_id is None else [runtime_topic(agent.runtime_id)]


def _tell_change(conn: sqlite3.Connection, book: Book, old: Agent | None, new: Agent) -> list[str]:
    """An event for what changed; a repeated registration or heartbeat is none."""
    if old is None:
        return _tell(conn, book, "agent.registered", new)
    same = {"last_seen_at": old.last_seen_at}
    if new.model_copy(update=same) == old:
        return []
    if new.model_copy(update=same | {"status": old.status}) == old:
        return _tell(conn, book, "agent.status", new)
    return _tell(conn, book, "agent.updated", new)


def _tell(conn: sqlite3.Connection, book: Book, kind: str, agent: Agent) -> list[str]:
    data = rows.dump({"name": agent.name, "status": agent.status.value})
    rows.insert(conn, sql.ADD_EVENTS, [kind, book.clock(), agent.id, None, data])
    return [EVENTS]
