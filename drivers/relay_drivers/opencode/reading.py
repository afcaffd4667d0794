"""Reading the server's records into values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api import ApiError
from .protocol import at, items_at, permission, question, read_message, session, text_at
from .record import Record

if TYPE_CHECKING:
    from .api import Api
    from .protocol import Asked, MessageSeen, Said, SessionSeen
    from .state import Order

#: Subagents that start subagents, deeper than OpenCode lets them by default.
MAX_DEPTH = 8

Messages = list[tuple["MessageSeen", tuple["Said", ...]]]


async def read_messages(api: Api, conversation: str, since: Order) -> Messages:
    """Every message after `since`, and up to a page before it, in OpenCode's order."""
    pages: list[Messages] = []
    cursor: str | None = None
    while True:
        elements, cursor = await api.messages(conversation, cursor)
        page = [found for element in elements if (found := read_message(element)) is not None]
        pages.append(page)
        if cursor is None or not page or page[0][0].order <= since:
            return [message for page in reversed(pages) for message in page]


async def read_record(api: Api, conversation: str, since: Order) -> Record:
    messages = await read_messages(api, conversation, since)
    children = [child.id for child in await _children(api, conversation)]
    asks: list[Asked] = []
    for path, read in (("/permission", permission), ("/question", question)):
        for element in items_at(await api.get(path)):
            ask = read(element)
            if ask is None:
                continue
            if ask.session not in (conversation, *children):
                if not await _descends(api, ask.session, conversation):
                    continue
                children.append(ask.session)
            asks.append(ask)
    busy = await is_busy(api, conversation)
    return Record(tuple(messages), tuple(asks), tuple(children), busy)


async def is_busy(api: Api, conversation: str) -> bool:
    status = at(await api.get("/session/status"), conversation)
    return text_at(status, "type") in ("busy", "retry")


async def _children(api: Api, conversation: str) -> list[SessionSeen]:
    listed = [
        session(info) for info in items_at(await api.get(f"/session/{conversation}/children"))
    ]
    return [child for child in listed if child is not None]


async def _descends(api: Api, child: str, conversation: str) -> bool:
    for _ in range(MAX_DEPTH):
        try:
            parent = text_at(await api.get(f"/session/{child}"), "parentID")
        except ApiError:
            return False
        if parent == conversation:
            return True
        if not parent:
            return False
        child = parent
    return False


__all__ = ["Messages", "is_busy", "read_messages", "read_record"]
