"""Each real CLI does a turn with a tool call, with nothing but the scripted model to talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.testing.clis import Cli, hermetic_env

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.testing.model_server import ModelServer

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


async def one_turn(model: ModelServer, cli: Cli, home: Path, *arguments: str) -> str:
    """What the CLI prints when the model calls the shell, writes a file and says goodbye."""
    written = home / "work" / "written.txt"
    model.script(
        {"shell": "echo from-the-$((40 + 2))"},
        {"write": {"path": str(written), "content": "by the model"}},
        {"chunks": ["good", "bye"]},
    )
    with anyio.fail_after(60):
        done = await anyio.run_process(
            [cli.path, *arguments],
            input=b"hello MARK-1",
            env=hermetic_env(cli, home, model.url),
            cwd=home / "work",
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert written.read_text().strip() == "by the model"
    return done.stdout.decode()


def check_requests(model: ModelServer, api: str) -> None:
    main = model.requests.main()
    assert [request.api for request in main] == [api] * 3
    assert "from-the-42" not in str(main[0].body)
    assert "from-the-42" in str(main[1].body)
    assert "from-the-42" not in " ".join(main[1].texts)
    assert model.requests.occurrences("MARK-1") == 1
    assert model.requests.first_seen("MARK-1") is main[0]
    assert len(model.requests.conversations()) == 1
    assert model.requests.conversations() != [api], "the CLI names its conversation in a header"
    assert model.unplayed == 0


async def test_claude_does_a_turn(
    model_server: ModelServer, claude_cli: Cli, tmp_path: Path
) -> None:
    said = await one_turn(
        model_server, claude_cli, tmp_path, "-p", "--dangerously-skip-permissions"
    )
    assert "goodbye" in said
    check_requests(model_server, "anthropic")


async def test_codex_does_a_turn(model_server: ModelServer, codex_cli: Cli, tmp_path: Path) -> None:
    said = await one_turn(model_server, codex_cli, tmp_path, "exec", "--skip-git-repo-check", "-")
    assert "goodbye" in said
    check_requests(model_server, "responses")


async def test_opencode_does_a_turn(
    model_server: ModelServer, opencode_cli: Cli, tmp_path: Path
) -> None:
    said = await one_turn(model_server, opencode_cli, tmp_path, "run")
    assert "goodbye" in said
    check_requests(model_server, "chat")
