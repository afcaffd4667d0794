"""Requests for sessions that cannot be: each is refused in one line, and nothing is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relay_client.types import MAX_BODY_BYTES
from relay_runtime.testing.fleet import Fleet, FleetError

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.contract import Json

pytestmark = pytest.mark.anyio

#: What is wrong, the code of the refusal, and what its message tells.
REFUSED: list[tuple[dict[str, Json], str, str]] = [
    ({"harness": "cluade"}, "unknown_harness", "did you mean claude?"),
    ({"harness": "a\0"}, "invalid_request", "harness: must be one line"),
    ({"mode": "headless"}, "unsupported_mode", "headless"),
    ({"mode": "window"}, "invalid_request", "mode"),
    ({"colour": "red"}, "invalid_request", "colour"),
    ({"cwd": "tmp"}, "no_such_folder", "'tmp'"),
    ({"cwd": ""}, "no_such_folder", "''"),
    ({"cwd": "/tmp\0x"}, "no_such_folder", "'/tmp\\x00x'"),
    ({"name": "a\u202eb"}, "bad_name", "use letters"),
    ({"name": "a" * 65}, "bad_name", "64 at most"),
    ({"label": "a\nb"}, "invalid_request", "label: must be one line"),
    (
        {"tags": [f"t{n}" for n in range(65)]},
        "invalid_request",
        "tags: list should have at most 64",
    ),
    ({"meta": {"a": "x" * 20_000}}, "invalid_request", "meta: must be at most 16384 bytes"),
    ({"task": ""}, "invalid_request", "task: there is nothing to do in it"),
    ({"task": "\0 \n"}, "invalid_request", "task: there is nothing to do in it"),
    ({"task": "x" * (MAX_BODY_BYTES + 1)}, "invalid_request", "task: must be at most 1000000"),
    ({"wait_s": 601}, "invalid_request", "wait_s"),
    ({"restart": {"policy": "sometimes"}}, "invalid_request", "restart.policy"),
    ({"environ": {"A": "a\0b"}}, "start_failed", "NUL"),
    ({"environ": {"A=B": "x"}}, "start_failed", "names"),
    ({"environ": {"A": "x" * 3_000_000}}, "start_failed", "Argument list too long"),
    ({"argv": []}, "start_failed", "name it after --"),
    ({"argv": ["cat", "a\0b"]}, "start_failed", "NUL"),
    ({"argv": ["/nonexistent/program"]}, "start_failed", "/nonexistent/program"),
    ({"options": {"prompt": "("}}, "start_failed", "options.prompt: not a pattern"),
]


async def test_what_cannot_be_started_is_refused_and_leaves_no_session(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.up()
        for wrong, code, words in REFUSED:
            request: dict[str, Json] = {"harness": "command", "argv": ["cat"], **wrong}
            harness = str(request.pop("harness"))
            with pytest.raises(FleetError) as caught:
                await fleet.spawn(harness, **request)
            assert (caught.value.code, caught.value.status // 100) == (code, 4), wrong
            assert words in str(caught.value) and "\n" not in str(caught.value), wrong
        assert await fleet.sessions() == []
        refused_at_once = [s for s in REFUSED if s[1] != "start_failed"]
        ended = await fleet.sessions(ended=True)
        assert len(ended) == len(REFUSED) - len(refused_at_once)
        assert {session["state"] for session in ended} == {"exited"}
