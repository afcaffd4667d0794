"""Claude's own record of a conversation: `<config>/projects/<folder>/<conversation>.jsonl`.

Append-only; written in batches of about 100 ms, and at once where `CLAUDE_CODE_EAGER_FLUSH` asks
for it: before the first model request of a turn, and before its result. A message is in the context
when one of these lines names its uuid:

    {"type":"user","uuid":X}                                     it started a turn
    {"type":"user","mergedSendUuids":[X]}                        merged into one that did (2.1.330)
    {"type":"attachment","attachment":{"type":"queued_command","source_uuid":X}}    it steered one

Other lines name it too (answers to it, and the queue that it waited in): they prove nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Read at once. Large, because a record of a long conversation has tens of MB.
_BLOCK: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """`line` is the line's own uuid, `end` the byte after the line."""

    harness_id: str
    line: str
    end: int


def config_folder(environ: Mapping[str, str]) -> Path:
    """Where Claude keeps everything."""
    if chosen := environ.get("CLAUDE_CONFIG_DIR"):
        return Path(chosen)
    return Path(environ.get("HOME") or Path.home()) / ".claude"


class Record:
    """The record of one conversation. Blocking reads: call it in a thread."""

    def __init__(self, environ: Mapping[str, str], conversation: str) -> None:
        self.conversation = conversation
        self._folder = config_folder(environ) / "projects"
        self._name = f"{conversation}.jsonl"
        self._path: Path | None = None

    def exists(self) -> bool:
        """Whether the conversation can be resumed. Raises `OSError` when that cannot be seen."""
        return self._find() is not None

    def path(self) -> Path | None:
        """Where it is; None: there is none. Raises `OSError` when that cannot be seen."""
        return self._find()

    def search(self, harness_ids: Iterable[str], since: int = 0) -> Found | None:
        """The first line from `since` on that proves one of the writes.

        `since` may be inside a line, which is then left out. Raises `OSError` when the record
        exists and cannot be read.
        """
        path = self._find()
        if path is None:
            return None
        needles = {harness_id.encode(): harness_id for harness_id in harness_ids}
        rest, end = b"", since
        with path.open("rb") as file:
            file.seek(since)
            while block := file.read(_BLOCK):
                lines = (rest + block).split(b"\n")
                rest = lines.pop()  # not complete yet, so not there yet
                for line in lines:
                    end += len(line) + 1
                    for needle, harness_id in needles.items():
                        if needle in line and (uuid := _proof(line, harness_id)) is not None:
                            return Found(harness_id, uuid, end)
        return None

    def _find(self) -> Path | None:
        if self._path is not None and self._path.exists():
            return self._path
        # The folder is named after the working directory in a way that changed before.
        found: list[tuple[float, Path]] = []
        try:
            folders = [entry.path for entry in os.scandir(self._folder) if entry.is_dir()]
        except FileNotFoundError:
            folders = []
        for folder in folders:
            path = Path(folder, self._name)
            try:
                found.append((path.stat().st_mtime, path))
            except FileNotFoundError:
                continue
        self._path = max(found)[1] if found else None
        return self._path


def _proof(line: bytes, harness_id: str) -> str | None:
    """The uuid of `line` when it says that the message is in the context."""
    try:
        entry: object = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    uuid = entry.get("uuid")
    if not isinstance(uuid, str):
        return None
    merged = entry.get("mergedSendUuids")
    attachment = entry.get("attachment")
    match entry.get("type"):
        case "user" if uuid == harness_id:
            return uuid
        case "user" if isinstance(merged, list) and harness_id in merged:
            return uuid
        case "attachment" if isinstance(attachment, dict):
            steered = attachment.get("type") == "queued_command"
            return uuid if steered and attachment.get("source_uuid") == harness_id else None
    return None


__all__ = ["Found", "Record", "config_folder"]
