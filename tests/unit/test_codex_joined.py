"""What a session that joins the user's codex is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_drivers.codex.joined import Join, read
from relay_runtime.contract import Json, Mode, SessionSpec, StartFailed


def spec(**options: Json) -> SessionSpec:
    return SessionSpec(
        session_id="s",
        agent_id="a",
        name="n",
        harness="codex",
        mode=Mode.HEADLESS,
        cwd="/",
        state_dir="/",
        options=options,
    )


def test_a_session_without_the_option_has_its_own_codex() -> None:
    assert read(spec()) is None


def test_socket_and_thread_say_what_is_joined() -> None:
    joined = read(spec(join={"socket": "/run/codex.sock", "thread": "t1", "more": 1}))
    assert joined == Join(Path("/run/codex.sock"), "t1")


@pytest.mark.parametrize(
    "given",
    ["yes", {}, {"socket": "/s"}, {"thread": "t"}, {"socket": "s", "thread": "t"}, {"socket": 1}],
)
def test_anything_else_is_a_clear_mistake(given: Json) -> None:
    with pytest.raises(StartFailed, match="`join` needs socket, an absolute path, and thread"):
        read(spec(join=given))
