"""Client of the relay and every type that crosses the wire.

    from relay_client import RelayClient
    async with RelayClient("http://127.0.0.1:4850") as relay:
        await relay.send(NewMessage(sender="ci", to="backend", body="the build is red"))

`types` and `errors` are light; the client, which needs an HTTP library, is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import VERSION as __version__

if TYPE_CHECKING:
    from .client import RelayClient as RelayClient
    from .errors import Busy as Busy
    from .errors import Faulty as Faulty
    from .errors import Misunderstood as Misunderstood
    from .errors import Rejected as Rejected
    from .errors import RelayError as RelayError
    from .errors import Retryable as Retryable
    from .errors import Unreachable as Unreachable
    from .events import EventStream as EventStream

_HOMES = {
    "RelayClient": "client",
    "EventStream": "events",
    "Busy": "errors",
    "Faulty": "errors",
    "Misunderstood": "errors",
    "Rejected": "errors",
    "RelayError": "errors",
    "Retryable": "errors",
    "Unreachable": "errors",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


__all__ = [
    "Busy",
    "EventStream",
    "Faulty",
    "Misunderstood",
    "Rejected",
    "RelayClient",
    "RelayError",
    "Retryable",
    "Unreachable",
    "__version__",
]
