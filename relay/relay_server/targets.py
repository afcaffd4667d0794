"""Who a message is for. Pure: a target string and the agents in, addressees out.

    backend            an agent's id, else the only agent with that name, else with that label
    id:…               the agent with that id
    label:… tag:… cap:…   every agent that has it
    broadcast          every agent

The sender never receives its own message by a label, a tag, a capability or broadcast.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import Conflict, NotFound, Unprocessable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# An error lists this many agents: enough to see the pattern, little enough to read.
MAX_CANDIDATES = 10


class AmbiguousTarget(Conflict):
    """Raised when a plain target is the name or label of several agents; `candidates` are ids."""

    def __init__(self, target: str, kind: str, ids: Iterable[str]) -> None:
        ids = sorted(ids)
        super().__init__(
            "ambiguous_target",
            f"{len(ids)} agents have the {kind} {target!r}: use one of their ids"
            + (f", or label:{target} for all of them" if kind == "label" else ""),
            candidates=ids[:MAX_CANDIDATES],
        )


class NoRecipients(NotFound):
    """Raised when nobody is addressed; `candidates` are targets that look alike."""

    def __init__(self, target: str, candidates: Iterable[str] = ()) -> None:
        candidates = list(candidates)
        hint = f"; did you mean {' or '.join(candidates)}?" if candidates else ""
        super().__init__(
            "no_recipients", f"no agent is addressed by {target!r}{hint}", candidates=candidates
        )


@dataclass(frozen=True, slots=True)
class Addressee:
    """What addressing needs to know of an agent."""

    id: str
    name: str
    label: str | None = None
    tags: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()
    runtime_id: str | None = None
    session_id: str | None = None


Group = dict[str, Addressee]


class Directory:
    """The agents, findable by everything that addresses them. Order is that of registration."""

    def __init__(self, agents: Iterable[Addressee] = ()) -> None:
        self._agents: Group = {}
        self._names: dict[str, Group] = {}
        self._labels: dict[str, Group] = {}
        self._tags: dict[str, Group] = {}
        self._capabilities: dict[str, Group] = {}
        for agent in agents:
            self.put(agent)

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[Addressee]:
        return iter(self._agents.values())

    def get(self, agent_id: str) -> Addressee | None:
        return self._agents.get(agent_id)

    def put(self, agent: Addressee) -> None:
        """Add `agent`, or replace the one with its id."""
        self.remove(agent.id)
        self._agents[agent.id] = agent
        for index, key in self._entries(agent):
            index.setdefault(key, {})[agent.id] = agent

    def remove(self, agent_id: str) -> None:
        """Forget the agent; no error when it is unknown."""
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            return
        for index, key in self._entries(agent):
            del index[key][agent.id]
            if not index[key]:
                del index[key]

    def resolve(self, target: str, sender: str) -> list[Addressee]:
        """The agents that `target` addresses, at least one.

        Raises `AmbiguousTarget`, `NoRecipients`, or `Unprocessable` for a prefix without a value.
        """
        if target == "broadcast":
            return self._others(self._agents, target, sender)
        agent = self._agents.get(target)
        if agent is not None:
            return [agent]
        prefix, colon, value = target.partition(":")
        if colon and prefix in ("id", "label", "tag", "cap"):
            return self._prefixed(prefix, value, target, sender)
        return [self._plain(target)]

    def _prefixed(self, prefix: str, value: str, target: str, sender: str) -> list[Addressee]:
        value = value.strip()
        if not value:
            raise Unprocessable("invalid_target", f"{target!r} needs a value after the colon")
        if prefix == "id":
            agent = self._agents.get(value)
            if agent is None:
                raise NoRecipients(target, [f"id:{near}" for near in _near(value, self._agents)])
            return [agent]
        index = {"label": self._labels, "tag": self._tags, "cap": self._capabilities}[prefix]
        if value not in index:
            raise NoRecipients(target, [f"{prefix}:{near}" for near in _near(value, index)])
        return self._others(index[value], target, sender)

    def _plain(self, target: str) -> Addressee:
        for kind, index in (("name", self._names), ("label", self._labels)):
            found = index.get(target)
            if found is None:
                continue
            if len(found) > 1:
                raise AmbiguousTarget(target, kind, found)
            return next(iter(found.values()))
        raise NoRecipients(target, _near(target, [*self._names, *self._labels, *self._agents]))

    def _others(self, group: Group, target: str, sender: str) -> list[Addressee]:
        sender_id = self._sender_id(sender)
        others = [agent for agent in group.values() if agent.id != sender_id]
        if not others:
            raise NoRecipients(target)
        return others

    def _sender_id(self, sender: str) -> str | None:
        """A sender signs with its id or its name; a name that several have is nobody's."""
        if sender in self._agents:
            return sender
        named = self._names.get(sender, {})
        return next(iter(named)) if len(named) == 1 else None

    def _entries(self, agent: Addressee) -> Iterator[tuple[dict[str, Group], str]]:
        yield self._names, agent.name
        if agent.label is not None:
            yield self._labels, agent.label
        for tag in agent.tags:
            yield self._tags, tag
        for capability in agent.capabilities:
            yield self._capabilities, capability


def _near(value: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(value, dict.fromkeys(known), n=3, cutoff=0.6)


__all__ = ["Addressee", "AmbiguousTarget", "Directory", "NoRecipients"]
