"""Serve alone: prints its URL, then serves until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import signal
import sys

import anyio

from .script import Step, steps
from .server import run_model_server


async def _serve(port: int, script: tuple[Step, ...]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with run_model_server(port) as server:
            server.script(*script)
            sys.stdout.write(server.url + "\n")
            sys.stdout.flush()
            await anext(signals)


def main() -> int:
    parser = argparse.ArgumentParser(prog="model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--script", default="[]", metavar="JSON", help="steps to start with")
    options = parser.parse_args()
    try:
        anyio.run(_serve, options.port, steps(json.loads(options.script)))
    except (OSError, OverflowError, ValueError) as error:
        sys.stderr.write(f"model server: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
