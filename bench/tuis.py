"""Many idle terminal interfaces: what the supervisor and their holders cost while nothing happens.

    python bench/tuis.py [SESSIONS]

Each draws one screen and then waits, as an agent's interface does between turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import anyio

from relay_runtime.testing.fleet import Fleet

from .attach import ENVIRON
from .footprint import cpu_s, row, rss_mb

SESSIONS = 50
IDLE_S = 60.0
#: What start-up leaves to do (a first look at files, timers of it) is not idle time.
SETTLE_S = 10.0

#: The alternate screen, its modes, a title, a frame of boxes and colours, a prompt.
SCREEN = (
    r"printf '\033[?1049h\033[?2004h\033[?1004h\033[?25l\033]2;idle\007\033[2J\033[H';"
    r" for row in 1 2 3 4 5 6 7 8 9 10 11 12; do"
    r" printf '\033[%d;1H\033[48;5;%dm\033[38;2;200;220;240m│ row %d of an interface │\033[0m'"
    r" $row $((row + 16)) $row; done; printf '\033[14;1H\033[?25hready> '"
)
PROGRAM = f"stty -echo; {SCREEN}; while read line; do {SCREEN}; done"


async def main(sessions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        async with Fleet(Path(folder)) as fleet:
            await fleet.up()
            for _ in range(sessions):
                argv = ["sh", "-c", PROGRAM]
                options = {"prompt": "ready> $"}
                await fleet.spawn("command", argv=argv, environ=ENVIRON, options=options)
            infos = await fleet.sessions()
            states = {info["state"] for info in infos}
            assert states == {"idle"}, f"not all of them are idle: {states}"
            holders = [info["holder_pid"] for info in infos]
            await anyio.sleep(SETTLE_S)
            began, used = time.monotonic(), (cpu_s(fleet.pid), sum(map(cpu_s, holders)))
            await anyio.sleep(IDLE_S)
            passed = time.monotonic() - began
            ours, theirs = cpu_s(fleet.pid) - used[0], sum(map(cpu_s, holders)) - used[1]
            row(f"supervisor, {sessions} idle TUIs", ours / passed * 100, 1.0, "% of a core")
            row("their holders together", theirs / passed * 100, 1.0, "% of a core")
            row("supervisor", rss_mb(fleet.pid), 80, "MB")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else SESSIONS)
