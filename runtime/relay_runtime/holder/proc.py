"""What /proc says about processes. One scan is one pass over /proc, a few milliseconds.

A process is a (pid, start ticks) pair: pids are used again, the pair is not within one boot.
"""

from __future__ import annotations

import os


class Stat:
    """A process. `state` is one letter of proc(5); Z and X are dead."""

    __slots__ = ("parent", "pid", "start_ticks", "state")

    def __init__(self, pid: int, parent: int, start_ticks: int, state: str) -> None:
        self.pid = pid
        self.parent = parent
        self.start_ticks = start_ticks
        self.state = state


def parse_stat(pid: int, text: bytes) -> Stat:
    """A line of /proc/PID/stat. The command in it may hold spaces, brackets and newlines."""
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(pid, int(fields[1]), int(fields[19]), fields[0].decode())


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_stat(pid, os.read(fd, 4096))
    except (OSError, ValueError):  # it ended while it was read
        return None
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int | None:
    stat = read_stat(pid)
    return stat.start_ticks if stat else None


def is_alive(pid: int, ticks: int) -> bool:
    """Whether that very process still runs. A zombie does not."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == ticks and stat.state not in "ZX"


def boot_id() -> str:
    """Start ticks only mean something within one boot; this names it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def scan() -> list[Stat]:
    """Every process there is. Empty where there is no /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    found = (read_stat(int(name)) for name in names if name.isdigit())
    return [stat for stat in found if stat is not None]


def descendants(root: int, processes: list[Stat]) -> list[Stat]:
    """Living processes below `root`, parents before their children."""
    children: dict[int, list[Stat]] = {}
    for stat in processes:
        children.setdefault(stat.parent, []).append(stat)
    below: list[Stat] = []
    level = children.get(root, [])
    while level:
        below += level
        level = [child for stat in level for child in children.get(stat.pid, [])]
    return [stat for stat in below if stat.state not in "ZX"]


def send_signal(target: Stat, signum: int) -> bool:
    """Signal that very process, never one that got its pid. False when we may not."""
    import signal

    try:
        fd = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return True
    try:
        if start_ticks(target.pid) == target.start_ticks:
            signal.pidfd_send_signal(fd, signum)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        os.close(fd)
    return True
