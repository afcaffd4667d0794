"""Requests of codex that wait for a person: how they are shown, and what an answer looks like. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import Unsupported
from relay_runtime.events import Event, PermissionRequested, PermissionResolved, clip

from .read import Obj, obj, objects, sub, text, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from relay_runtime.contract import Json

#: A person decides on what fits a screen.
MAX_DETAIL: Final = 4096

_COMMAND: Final = "item/commandExecution/requestApproval"
_FILES: Final = "item/fileChange/requestApproval"
_PERMISSIONS: Final = "item/permissions/requestApproval"
_QUESTIONS: Final = "item/tool/requestUserInput"
_ELICITATION: Final = "mcpServer/elicitation/request"
_KNOWN: Final = frozenset({_COMMAND, _FILES, _PERMISSIONS, _QUESTIONS, _ELICITATION})

#: Ids of requests of the protocol, which codex counts from 0 in each process.
RpcId = int | str


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is open."""

    rpc_id: RpcId
    method: str
    params: Obj

    @property
    def request_id(self) -> str:
        """What people answer. Never that of a request of an earlier process of the session."""
        about = text(self.params, "itemId") or text(self.params, "turnId") or "codex"
        return f"{about}.{self.rpc_id}"

    @property
    def turn_id(self) -> str:
        return text(self.params, "turnId")


@dataclass(slots=True)
class Asks:
    """Requests that are open, each told once, also when codex repeats it to a new connection."""

    open: dict[str, Ask] = field(default_factory=dict)
    #: Requests told: "" while nobody of ours has answered, else what was answered.
    told: dict[str, str] = field(default_factory=dict)

    def request(self, ask: Ask, item: Obj) -> list[Event]:
        """`item` is the tool call that waits, as far as it is known."""
        self.open[ask.request_id] = ask
        if ask.request_id in self.told:
            return []
        self.told[ask.request_id] = ""
        return [shown(ask, item)]

    def answered(self, request_id: str, allow: bool) -> None:
        """We have answered; codex will say that the request is resolved."""
        if request_id in self.told:
            self.told[request_id] = "allow" if allow else "deny"

    def resolved(self, rpc_id: Json) -> list[Event]:
        """Codex says so, whoever has answered."""
        return self._close([r for r, ask in self.open.items() if ask.rpc_id == rpc_id])

    def turn_ended(self, turn_id: str) -> list[Event]:
        """Nothing of a turn that is over waits, even if codex says so only later."""
        return self._close([r for r, ask in self.open.items() if ask.turn_id in ("", turn_id)])

    def only(self, present: Collection[str]) -> list[Event]:
        """After a gap: codex has repeated the requests in `present`, so the rest is closed."""
        return self._close([request_id for request_id in self.told if request_id not in present])

    def _close(self, request_ids: Iterable[str]) -> list[Event]:
        events: list[Event] = []
        for request_id in request_ids:
            self.open.pop(request_id, None)
            decision = self.told.pop(request_id, "") or "withdrawn"
            events.append(PermissionResolved(request_id, decision))
        return events


def ask(rpc_id: RpcId, method: str, params: Obj) -> Ask | None:
    """None: not for a person. Another client of this thread has asked for it, and answers it."""
    return Ask(rpc_id, method, params) if method in _KNOWN else None


def shown(ask: Ask, item: Obj) -> PermissionRequested:
    tool, detail = _describe(ask, item)
    reason = text(ask.params, "reason")
    if reason:
        detail = f"{detail}\n{reason}" if detail else reason
    return PermissionRequested(ask.request_id, tool, clip(detail, MAX_DETAIL))


def answer(ask: Ask, allow: bool, message: str | None) -> Json:
    """The result that codex expects. Raises `Unsupported` for what needs more than yes or no."""
    if ask.method in (_COMMAND, _FILES):
        return {"decision": "accept" if allow else "decline"}
    if ask.method == _PERMISSIONS:
        wanted = {k: v for k, v in sub(ask.params, "permissions").items() if v is not None}
        return {"permissions": wanted if allow else {}, "scope": "turn"}
    if ask.method == _QUESTIONS:
        return _answers(ask, allow, message)
    if not allow:
        return {"action": "decline", "content": None, "_meta": None}
    if texts(sub(ask.params, "requestedSchema"), "required"):
        raise Unsupported("this form has fields to fill in: attach to the session to answer it")
    return {"action": "accept", "content": {}, "_meta": None}


def _answers(ask: Ask, allow: bool, message: str | None) -> Json:
    """One answer for every question: the message, else the only option; none to refuse."""
    answers: dict[str, Json] = {}
    for question in objects(ask.params, "questions"):
        options = [text(option, "label") for option in objects(question, "options")]
        if not allow:
            given = []
        elif message is not None:
            given = [message]
        elif len(options) == 1:
            given = options
        else:
            raise Unsupported("this question needs an answer in words: give a message with it")
        answers[text(question, "id")] = {"answers": given}
    return {"answers": answers}


def _describe(ask: Ask, item: Obj) -> tuple[str, str]:
    params = ask.params
    if ask.method == _COMMAND:
        network = text(sub(params, "networkApprovalContext"), "host")
        command = text(params, "command") or text(item, "command")
        return "shell", command or (f"network access to {network}" if network else "")
    if ask.method == _FILES:
        changes = [
            f"{text(sub(change, 'kind'), 'type')} {text(change, 'path')}\n{text(change, 'diff')}"
            for change in objects(item, "changes")
        ]
        root = text(params, "grantRoot")
        return "apply_patch", "\n".join(changes) or (f"write below {root}" if root else "")
    if ask.method == _PERMISSIONS:
        return "permissions", json.dumps(dict(obj(params.get("permissions"))), ensure_ascii=False)
    if ask.method == _QUESTIONS:
        asked = [text(question, "question") for question in objects(params, "questions")]
        return "question", "\n".join(asked)
    meta = sub(params, "_meta")
    tool = text(meta, "tool_name")
    name = f"mcp__{text(params, 'serverName')}__{tool}" if tool else text(params, "serverName")
    given = meta.get("tool_params")
    arguments = "" if given is None else "\n" + json.dumps(given, ensure_ascii=False)
    return name or "mcp", text(params, "message") + arguments


__all__ = ["Ask", "Asks", "RpcId", "answer", "ask", "shown"]
