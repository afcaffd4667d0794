"""What a headless session does, as lines for a person to read. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..framing import clean

#: Of what a tool was given and gave back: enough to see what it is about.
MAX_DETAIL = 160

Data = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Line:
    """One or more lines of text without control characters; `style` is one of `STYLES`."""

    text: str
    style: str = "plain"


#: Of a line, as SGR parameters.
STYLES = {"plain": "", "person": "1", "quiet": "2", "tool": "36", "ask": "33", "bad": "31"}


def read(kind: str, data: Data, name: str) -> Line | None:
    """The line for an event of `events`; None for those that are for machines."""
    match kind:
        case "transcript":
            text = clean(str(data.get("text", ""))).strip("\n")
            return Line(f"› {text}", "person") if data.get("role") == "user" else Line(text)
        case "tool.started":
            return Line(f"⏺ {_flat(data.get('name'))} {_input(data.get('input'))}".rstrip(), "tool")
        case "tool.ended":
            said = _flat(data.get("output"))
            return Line(f"  {'✓' if data.get('ok') else '✗'} {said}".rstrip(), "quiet")
        case "file.changed":
            return Line(f"  {_flat(data.get('change'))} {_flat(data.get('path'))}", "quiet")
        case "permission.requested":
            what = f"{_flat(data.get('tool'))} {_flat(data.get('detail'))}".strip()
            how = f"relay-runtime approve|deny {_flat(name)} {_flat(data.get('request_id'))}"
            return Line(f"? it asks for {what}\n  {how}", "ask")
        case "permission.resolved":
            return Line(f"  {_flat(data.get('decision'))}", "quiet")
        case "turn.ended":
            return _turn(data)
        case "error":
            return Line(f"! {_error(data.get('error'))}", "bad")
        case "receipt":
            return _receipt(data)
        case "notice":
            return Line(f"! {_flat(data.get('message'))}", "ask")
        case "session.exited" | "session.ended":
            return Line(f"— {_flat(data.get('reason'))} —", "quiet")
    return None


def _turn(data: Data) -> Line:
    usage = data.get("usage")
    tokens = ""
    if isinstance(usage, Mapping):
        tokens = f", {usage.get('input_tokens', 0)} tokens in, {usage.get('output_tokens', 0)} out"
    outcome = _flat(data.get("outcome"))
    if data.get("error") is not None:
        return Line(f"— turn {outcome}: {_error(data.get('error'))} —", "bad")
    return Line(f"— turn {outcome}{tokens} —", "quiet")


def _receipt(data: Data) -> Line | None:
    """What became of a message. The session's own task has no number, and nobody waits for it."""
    number, status = data.get("message_id"), data.get("status")
    if number is None or status == "accepted":
        return None
    reason = _flat(data.get("reason"))
    style = "bad" if status == "failed" else "quiet"
    return Line(f"  message {number} {_flat(status)}{': ' if reason else ''}{reason}", style)


def _error(error: object) -> str:
    return _flat(error.get("message")) if isinstance(error, Mapping) else "error"


def _input(given: object) -> str:
    """What a tool is called with: its one text, where there is only one."""
    try:
        fields = json.loads(str(given))
    except ValueError:
        return _flat(given)
    if isinstance(fields, dict):
        texts = [value for value in fields.values() if isinstance(value, str)]
        if len(texts) == 1:
            return _flat(texts[0])
    return _flat(given) if fields else ""


def _flat(value: object) -> str:
    text = " ".join(clean(str(value or "")).split())
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


__all__ = ["STYLES", "Line", "read"]
