"""`python -P -m relay_runtime.supervisor`: the process. The lock comes before the heavy imports."""

from __future__ import annotations

import argparse
import os
import sys

from relay_runtime import paths
from relay_runtime.supervisor import lock


def main() -> int:
    """Serve until told to stop. Exit status 0, also when another supervisor has the lock."""
    parser = argparse.ArgumentParser(prog="relay_runtime.supervisor")
    parser.add_argument("--ready-fd", type=int, default=None, help="told when it serves")
    ready_fd = parser.parse_args().ready_fd

    def say(line: str) -> None:
        nonlocal ready_fd
        if ready_fd is not None:
            os.write(ready_fd, f"{line}\n".encode())
            os.close(ready_fd)
            ready_fd = None

    try:
        home = paths.home()
        lock.take(paths.lock_path(home))
    except lock.Taken:
        say("taken")
        return 0
    except (paths.StateHomeError, OSError) as error:
        say(f"error: {error}")
        return 1
    from relay_runtime.supervisor import process

    try:
        process.run(home, lambda: say("ready"))
    except process.CannotServe as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
