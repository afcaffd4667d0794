"""The small files a holder leaves beside its logs, whole or not at all, also after a power cut."""

from __future__ import annotations

import json
import os

META, EXIT = "meta.json", "exit.json"


def write(name: str, value: dict[str, object]) -> None:
    """Replace `name` in the current folder. Raises `OSError`; the old content then still stands."""
    scratch = f"{name}.new"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(value).encode() + b"\n")
            file.flush()
            os.fsync(fd)
        os.replace(scratch, name)
    except OSError:
        os.unlink(scratch)
        raise
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
