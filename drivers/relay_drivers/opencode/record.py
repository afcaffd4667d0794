"""The server's own record of a conversation, and what it proves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .protocol import Asked, MessageSeen, Said, write_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Record:
    """Read after the event stream was connected. Messages with their parts, in their own order.

    `busy` None: the stream has said something newer about that.
    """

    messages: tuple[tuple[MessageSeen, tuple[Said, ...]], ...]
    asks: tuple[Asked, ...] = ()
    children: tuple[str, ...] = ()
    busy: bool | None = None


def unanswered(messages: Iterable[MessageSeen]) -> list[str]:
    """Ids of our messages at the end of a record that no step has read."""
    listed = list(messages)
    orders = {message.id: message.order for message in listed}
    read = max((orders[m.parent] for m in listed if m.parent in orders), default=(0, ""))
    waiting = [m for m in listed if m.role == "user" and m.order > read]
    return [message.id for message in waiting if write_of(message.id) is not None]


def turn_of(message: str, messages: Iterable[MessageSeen]) -> str | None:
    """The message whose answer had `message` in its context first; None: no step has read it."""
    listed = list(messages)
    orders = {found.id: found.order for found in listed}
    if message not in orders:
        return None
    for step in sorted(listed, key=lambda found: found.order):
        if orders.get(step.parent or "", (0, "")) >= orders[message]:
            return step.parent
    return None


__all__ = ["Record", "turn_of", "unanswered"]
