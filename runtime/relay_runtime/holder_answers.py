"""What a holder answers, from JSON to the contract's types. Pure."""

from __future__ import annotations

from .contract import ChildExit, HolderStatus, Stream
from .holder import wire
from .holder_wire import refusal


def ok(reply: wire.Json) -> wire.Json:
    """Raises `HolderRefused`."""
    value = reply.get("ok")
    if not isinstance(value, dict):
        raise refusal(reply.get("error"))
    return value


def integer(value: wire.Json, name: str) -> int:
    found = value.get(name)
    if not isinstance(found, int):
        raise wire.WireError(f"{name} is missing in the holder's answer")
    return found


def child_exit(value: object) -> ChildExit | None:
    if not isinstance(value, dict):
        return None
    return ChildExit(value.get("code"), value.get("signal"), float(value.get("at", 0)))


def status_of(value: wire.Json) -> HolderStatus:
    offsets, memo = value.get("offsets"), value.get("memo")
    pid, ticks = value.get("pid"), value.get("start_ticks")
    return HolderStatus(
        holder_pid=integer(value, "holder_pid"),
        run=integer(value, "run"),
        pid=pid if isinstance(pid, int) else None,
        start_ticks=ticks if isinstance(ticks, int) else None,
        exit=child_exit(value.get("exit")),
        applied_seq=integer(value, "applied_seq"),
        offsets={Stream(k): v for k, v in offsets.items()} if isinstance(offsets, dict) else {},
        memo=memo if isinstance(memo, dict) else {},
    )
