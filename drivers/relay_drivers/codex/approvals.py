"""Requests of codex that wait for a person: how they are shown, and what an answer looks like. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import Unsupported
from relay_runtime.events import PermissionRequested, clip

from .read import Obj, obj, objects, sub, text, texts

if TYPE_CHECKING:
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


def ask(rpc_id: RpcId, method: str, params: Obj) -> Ask | None:
    """None: not for a person. Another client of this thread has asked for it, and answers it."""
    return Ask(rpc_id, method, params) if method in _KNOWN else None


def shown(ask: Ask, item: Obj) -> PermissionRequested:
    """`item` is the tool call that waits, as far as it is known."""
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
    """One answer for every question: the message, else the first option (allow) or none."""
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


__all__ = ["Ask", "RpcId", "answer", "ask", "shown"]
