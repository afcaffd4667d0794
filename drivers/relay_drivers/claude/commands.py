"""Every line we write to Claude's stdin.

A line that is no JSON ends the process, so nothing else may be written there. Control requests may
be repeated: each is answered, and none has an effect that a second one would double.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from relay_runtime.contract import Entry, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

#: `later` never enters a running turn; `next` does at the next tool boundary. Idle, both run at once.
_PRIORITY: Final = {Entry.NEXT_TURN: "later", Entry.STEER: "next"}

INITIALIZE: Final = "relay-initialize"
VERSION: Final = "relay-version"
COST: Final = "relay-cost"


def greeting() -> bytes:
    """Asks for what a session starts with. Its last answer means that input is possible."""
    requests = (
        (VERSION, "get_binary_version"),
        (COST, "get_session_cost"),
        (INITIALIZE, "initialize"),
    )
    return b"".join(request(request_id, subtype) for request_id, subtype in requests)


def user_message(uuid: str, text: str, entry: Entry) -> bytes:
    """One message, which Claude knows by `uuid` from then on."""
    return _line(
        {
            "type": "user",
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": None,
            "session_id": "",
            "uuid": uuid,
            "priority": _PRIORITY[entry],
        }
    )


def request(request_id: str, subtype: str, **arguments: Json) -> bytes:
    """A control request; the answer carries `request_id`."""
    body: dict[str, Json] = {"subtype": subtype, **arguments}
    return _line({"type": "control_request", "request_id": request_id, "request": body})


def answer(request_id: str, tool_use_id: str, allow: bool, message: str | None) -> bytes:
    """Answer a permission request. An empty `updatedInput` keeps the tool's input as it is."""
    response: dict[str, Json] = {"toolUseID": tool_use_id}
    if allow:
        response |= {"behavior": "allow", "updatedInput": {}}
    else:
        response |= {"behavior": "deny", "message": message or "Denied by the supervisor."}
    body: dict[str, Json] = {
        "subtype": "success",
        "request_id": request_id,
        "response": response,
    }
    return _line({"type": "control_response", "response": body})


def decline(request_id: str, subtype: str) -> bytes:
    """Refuse a request that nobody here can answer, so that the turn does not wait for ever."""
    error = f"{subtype} is not supported by this client"
    body = {"subtype": "error", "request_id": request_id, "error": error}
    return _line({"type": "control_response", "response": body})


def _line(message: Mapping[str, Json]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"  # a lone surrogate has no UTF-8


__all__ = [
    "COST",
    "INITIALIZE",
    "VERSION",
    "answer",
    "decline",
    "greeting",
    "request",
    "user_message",
]
