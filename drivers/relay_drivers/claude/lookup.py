"""Claude's record, asked from async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from .transcript import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Claude writes its record in batches of 100 ms. What is not there after this never was.
FLUSH_S: Final = 0.4


class Lookup:
    """All methods raise `OSError` when there is a record that cannot be read."""

    def __init__(self, environ: Mapping[str, str], conversation: str) -> None:
        self._environ = environ
        self._record = Record(environ, conversation)
        self.newest = 0
        """The byte after the newest line that was found; what comes now is behind it."""

    def follow(self, conversation: str) -> None:
        """Look into the record of this conversation from now on."""
        if conversation != self._record.conversation:
            self._record = Record(self._environ, conversation)
            self.newest = 0

    async def exists(self) -> bool:
        return await anyio.to_thread.run_sync(self._record.exists)

    async def find(self, harness_ids: tuple[str, ...], since: int = 0) -> str | None:
        """The id of those that the record proves, from byte `since` on."""
        found = await anyio.to_thread.run_sync(self._record.search, harness_ids, since)
        if found is None:
            return None
        self.newest = max(self.newest, found.end)
        return found.harness_id

    async def find_patiently(self, harness_ids: tuple[str, ...]) -> str | None:
        """As `find`, and once more when what Claude still has in memory must be written."""
        found = await self.find(harness_ids)
        if found is None:
            await anyio.sleep(FLUSH_S)
            found = await self.find(harness_ids)
        return found


__all__ = ["FLUSH_S", "Lookup"]
