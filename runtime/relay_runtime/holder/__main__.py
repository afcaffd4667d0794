"""`python -I -S -X utf8 …/holder/__main__.py SESSION_DIR [IMPORT_PATH…]`, with one JSON object on stdin.

Isolated and without `site`, so that nothing of the user's Python set-up runs in the process that
owns an agent; what it imports is named on the command line. Everything is imported before it says
it is ready: a later upgrade of the package changes nothing for a holder that runs.
"""

from __future__ import annotations

import os
import sys


def main(folder: str) -> None:
    # Not every event loop starts its children clean; what leaked would stay open as long as we do.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # The first process ends at once: whoever started it collects that one and never has a zombie.
    if os.fork():
        os._exit(0)
    os.setsid()
    # ptyprocess imports shutil, which would load these if it could: half a megabyte for nothing.
    sys.modules.update({"bz2": None, "lzma": None, "zlib": None})  # type: ignore[dict-item]
    from relay_runtime.holder.boot import run

    sys.exit(run(folder))


if __name__ == "__main__":
    sys.path += sys.argv[2:]
    main(sys.argv[1])
