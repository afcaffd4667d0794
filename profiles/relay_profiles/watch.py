"""The named profiles as they stand, kept current while files are edited.

A spawn reads its profile afresh (`lookup`), so nothing depends on this: it lets a supervisor tell
about a broken edit when it is saved rather than when the profile is next needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .lookup import listing, project_files, user_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from watchfiles import Change

    from .errors import ProfileError
    from .lookup import Listing

#: How often watchfiles looks whether the kernel reported something. Half a second is soon enough
#: for a person who saved a file, and a tenth of the CPU time of its default.
STEP_MS = 500
#: An editor that writes in several steps makes one edit.
DEBOUNCE_MS = 1000
#: Files are read again this often, for file systems that report nothing.
RECHECK_MS = 60_000


class ProfileCatalog:
    """`listing`: the profiles a name could mean for a session started in `cwd`."""

    listing: Listing

    def __init__(self, cwd: Path, environ: Mapping[str, str]) -> None:
        self._cwd = cwd
        self._environ = environ
        self._files = {*project_files(cwd), user_file(cwd, environ)}
        self.listing = listing(cwd, environ)

    async def run(self, changed: Callable[[list[ProfileError]], Awaitable[None]]) -> None:
        """Follow edits until cancelled. After each one that changed `listing`, call `changed` with
        the problems that were not there before.

        Raises a group with an `OSError` when the system grants no more file watches.
        """
        from watchfiles import awatch  # only who watches pays for the import

        while True:
            folders = self._folders()
            stop = anyio.Event()
            edits = awatch(
                *folders,
                watch_filter=self._matters,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=stop,
                rust_timeout=RECHECK_MS,
                yield_on_timeout=True,
                recursive=False,
                ignore_permission_denied=True,
            )
            async with anyio.create_task_group() as tasks:
                # A thread waits inside watchfiles and ends at `stop`; cancelling cannot end it.
                tasks.start_soon(_set_when_cancelled, stop)
                # Runs when this task first waits, and awatch watches before it waits: what was
                # edited since the last reading is found, by the reading or by the watch.
                tasks.start_soon(self._refresh, changed)
                try:
                    async for _ in edits:
                        await self._refresh(changed)
                        if self._folders() != folders:
                            break
                except* FileNotFoundError:
                    pass  # a folder went before its watch stood
                except* RuntimeError:
                    # It cannot tell of a file whose name is not UTF-8, whoever made it. All files
                    # are read when it watches again, after a pause because more may follow.
                    await anyio.sleep(DEBOUNCE_MS / 1000)
                tasks.cancel_scope.cancel()

    async def _refresh(self, changed: Callable[[list[ProfileError]], Awaitable[None]]) -> None:
        before, now = self.listing, listing(self._cwd, self._environ)
        known = {str(problem) for problem in before.problems}
        current = {str(problem) for problem in now.problems}
        if (now.profiles, current) != (before.profiles, known):
            self.listing = now
            await changed([p for p in now.problems if str(p) not in known])

    def _folders(self) -> set[Path]:
        """For each file the nearest folder that exists: there its creation shows."""
        nearest = ((f for f in file.parents if f.is_dir()) for file in self._files)
        return {folder for folders in nearest for folder in [next(folders)]}

    def _matters(self, change: Change, path: str) -> bool:
        return any(path == str(file) or str(file).startswith(f"{path}/") for file in self._files)


async def _set_when_cancelled(stop: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


__all__ = ["ProfileCatalog"]
