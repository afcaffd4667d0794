"""What happens because time passed: messages expire, silent agents go offline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .errors import Busy
from .hub import DEADLINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hub import Hub
    from .store import Store

# Deadlines are by the wall clock, sleeping is not: after a suspend or a clock change this is the most
# by which one is late.
MAX_SLEEP_S = 300.0
# The disk is full or broken: nothing expires, and trying more often would not help.
RETRY_S = 10.0

logger = logging.getLogger(__name__)


async def keep_deadlines(store: Store, hub: Hub, clock: Callable[[], float]) -> None:
    """Sleep until the next deadline, do what is due, again. Returns when the hub closes."""
    with hub.watch(DEADLINES) as watch:
        while not hub.closed:
            try:
                due = await store.sweep()
            except Busy as exc:
                logger.warning("! deadlines wait: %s", exc, extra={"action": "sweep_failed"})
                await watch.wait(RETRY_S)
                continue
            sleep = MAX_SLEEP_S if due is None else min(due - clock(), MAX_SLEEP_S)
            if sleep > 0:
                await watch.wait(sleep)


__all__ = ["keep_deadlines"]
