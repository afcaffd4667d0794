"""A scripted model on loopback for Claude Code, Codex and OpenCode: no account, no token spent.

    async with run_model_server() as model:
        model.script({"shell": "sleep 3"}, "done")
        …                                            # run a CLI against model.url
        request = await model.requests.wait("marker")
        assert model.requests.occurrences("marker") == 1

The same script can stand inside a message, as `SCRIPT:[…]:END`. From another process:
`python -m relay_runtime.testing.model_server`, `POST /_script`, `GET /_requests`.
"""

from __future__ import annotations

from .log import Outcome, Recorded, RequestLog
from .script import ScriptError, Step, StepLike
from .server import ModelServer, run_model_server

__all__ = [
    "ModelServer",
    "Outcome",
    "Recorded",
    "RequestLog",
    "ScriptError",
    "Step",
    "StepLike",
    "run_model_server",
]
