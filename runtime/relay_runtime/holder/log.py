"""One append-only log of a session: absolute byte offsets over rotation, restarts and a full disk.

On disk a log is a row of segments, each named by the offset of its first byte. What is missing
between two segments was lost, and readers are told how much. The newest bytes are kept in memory
too, so live readers go on when nothing can be written.
"""

from __future__ import annotations

import os

from .wire import CHUNK

#: What live readers and a full disk are served from. Two chunks, so that a reader that is one
#: chunk behind never touches the disk.
RING = 2 * CHUNK
#: A log that could not be written is tried again, with the next output, after this many seconds.
RETRY_S = 5.0

STOPPED, RESUMED = "log.stopped", "log.resumed"


class Piece:
    """Bytes at `offset`; the `gap` bytes before it are lost."""

    __slots__ = ("data", "gap", "offset")

    def __init__(self, offset: int, data: bytes, gap: int) -> None:
        self.offset = offset
        self.data = data
        self.gap = gap


class Extents:
    """Which byte ranges the segments hold. Arithmetic only."""

    def __init__(self, extents: list[tuple[int, int]]) -> None:
        self._extents = [[base, size] for base, size in sorted(extents)]

    @property
    def end(self) -> int:
        return sum(self._extents[-1]) if self._extents else 0

    @property
    def bases(self) -> list[int]:
        return [base for base, _ in self._extents]

    @property
    def last_size(self) -> int:
        return self._extents[-1][1] if self._extents else 0

    def begin(self, base: int) -> list[int]:
        """A new segment. One before it that never held anything is forgotten; returns its base."""
        gone = []
        if self._extents and self._extents[-1][1] == 0:
            gone.append(self._extents.pop()[0])
        self._extents.append([base, 0])
        return [old for old in gone if old != base]

    def grow(self, size: int) -> None:
        self._extents[-1][1] += size

    def expire(self, keep: int) -> list[int]:
        """Forget the oldest segments until at most `keep` bytes are left; returns their bases.

        The newest segment always stays, so a little more than `keep` may remain.
        """
        total = sum(size for _, size in self._extents)
        gone = []
        while len(self._extents) > 1 and total > keep:
            base, size = self._extents.pop(0)
            total -= size
            gone.append(base)
        return gone

    def find(self, offset: int) -> tuple[int, int] | None:
        """(base, bytes from `offset` to the end of that segment), None when it is not held."""
        for base, size in reversed(self._extents):
            if base <= offset < base + size:
                return base, base + size - offset
        return None

    def after(self, offset: int) -> int | None:
        """The first held offset beyond `offset`, when it is not held itself."""
        return next((base for base, size in self._extents if base > offset and size), None)


class Log:
    """`append` never raises: what cannot be written is kept in memory only, and said so."""

    def __init__(self, folder: str, name: str, *, keep: int, segment: int) -> None:
        self._folder = folder
        self._prefix = f"{name}-"
        self._keep = keep
        self._segment = segment
        self._extents = Extents(self._scan())
        self._ring = bytearray()
        self._fd = -1
        self._retry_at = 0.0
        self.end = self._extents.end
        #: It goes on in a new file, and may have let go of its oldest; for who resets this.
        self.rolled = False
        #: Why nothing is written at present, else None.
        self.stopped: str | None = None

    def append(self, data: bytes, now: float) -> str | None:
        """Add `data`. Returns `STOPPED` or `RESUMED` when that changed just now, else None."""
        self._ring += data
        self.end += len(data)
        change = None
        if self.stopped is None or now >= self._retry_at:
            change = self._store(now)
        excess = len(self._ring) - RING
        if excess > CHUNK:  # in steps: cutting a little off at every append would copy each time
            del self._ring[:excess]
        return change

    def read(self, offset: int, limit: int = CHUNK) -> Piece:
        """Up to `limit` bytes from `offset`, or from the next byte that is left."""
        at = min(offset, self.end)
        while at < self._ring_start:
            data = self._load(at, limit)
            if data:
                return Piece(at, data, at - offset)
            following = self._extents.after(at)
            at = min(following or self._ring_start, self._ring_start)
        begin = at - self._ring_start
        return Piece(at, bytes(self._ring[begin : begin + limit]), max(0, at - offset))

    @property
    def _ring_start(self) -> int:
        return self.end - len(self._ring)

    def _path(self, base: int) -> str:
        return os.path.join(self._folder, f"{self._prefix}{base:020d}.log")

    def _scan(self) -> list[tuple[int, int]]:
        found = []
        for entry in os.scandir(self._folder):
            base, dot, suffix = entry.name.removeprefix(self._prefix).partition(".")
            if entry.name.startswith(self._prefix) and base.isdigit() and dot + suffix == ".log":
                found.append((int(base), entry.stat().st_size))
        return found

    def _store(self, now: float) -> str | None:
        """Write what memory has and the disk has not."""
        was = self.stopped
        try:
            pending = max(self._extents.end, self._ring_start)
            if self._fd < 0 or pending != self._extents.end or self._full:
                self._roll(pending)
            while pending < self.end:
                begin = pending - self._ring_start
                with memoryview(self._ring) as view:
                    written = os.write(self._fd, view[begin:])
                self._extents.grow(written)
                pending += written
        except OSError as error:
            self.stopped = error.strerror or str(error)
            self._retry_at = now + RETRY_S
            self._close()  # what that file holds now is uncertain: go on in a new one
            return STOPPED if was is None else None
        self.stopped = None
        return None if was is None else RESUMED

    @property
    def _full(self) -> bool:
        return self._extents.last_size >= self._segment

    def _roll(self, base: int) -> None:
        self._close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path(base), flags, 0o600)
        self.rolled = self._extents.end > 0
        for old in self._extents.begin(base) + self._extents.expire(self._keep):
            try:
                os.unlink(self._path(old))
            except OSError:
                pass  # it stays as an unused file: no reason to stop logging

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _load(self, offset: int, limit: int) -> bytes:
        """From a segment. Empty when it is not there, whatever the reason."""
        found = self._extents.find(offset)
        if found is None:
            return b""
        base, available = found
        try:
            fd = os.open(self._path(base), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(fd, min(limit, available), offset - base)
        except OSError:
            return b""
        finally:
            os.close(fd)
