"""Views of a session, with programs of our own in the place of a harness's terminal interface."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import (
    Capabilities,
    Harness,
    HarnessGone,
    Io,
    Mode,
    SessionSpec,
    StartFailed,
    StartPlan,
    Stream,
    Unsupported,
)
from relay_runtime.holder_link import connect
from relay_runtime.processes import Process, alive, start_ticks
from relay_runtime.views import (
    Outlook,
    View,
    end_view,
    folder_of,
    how_it_ended,
    open_view,
    refresh,
)

from .holders import SOON, end, holder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from relay_runtime.contract import Context, Holder, Probe, Session
    from relay_runtime.holder_link import HolderLink

pytestmark = pytest.mark.anyio

HERE = Outlook(30, 90, "xterm-256color")
WAITS = ("sh", "-c", "stty size; env; read line; exit 0")


class Shown(Harness):
    """A harness whose interface is `argv`; None: it has none."""

    name = "shown"
    default_mode = Mode.HEADLESS
    capabilities = Capabilities(frozenset({Mode.HEADLESS}), "none", "none")

    def __init__(self, *argv: str, env: Mapping[str, str | None] | None = None) -> None:
        self.argv = argv
        self.env = env or {}

    async def create(self, spec: SessionSpec, ctx: Context) -> Session:
        raise StartFailed("it only shows")

    async def adopt(self, spec: SessionSpec, ctx: Context) -> Session:
        raise StartFailed("it only shows")

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        raise NotImplementedError

    async def view(self, spec: SessionSpec, holder: Holder) -> StartPlan | None:
        if (await holder.status()).pid is None:
            raise HarnessGone("it does not run now")
        return StartPlan(self.argv, spec.cwd, Io.PTY, self.env) if self.argv else None


@asynccontextmanager
async def session(folder: Path) -> AsyncIterator[tuple[SessionSpec, HolderLink]]:
    """A session whose agent runs. Its view is gone at the end too."""
    spec = SessionSpec(
        session_id=folder.name,
        agent_id="a",
        name="it",
        harness="shown",
        mode=Mode.HEADLESS,
        cwd=str(folder.parent),
        state_dir=str(folder),
        conversation="c",
    )
    environ = {"PATH": os.environ["PATH"], "TERM": "dumb", "MINE": "session's own"}
    async with holder(folder, environ) as link:
        await link.start(StartPlan(("sleep", "600"), spec.cwd, Io.PIPES))
        try:
            yield spec, link
        finally:
            if (folder / "view" / "meta.json").exists():
                await end(folder / "view")


async def opened(harness: Harness, spec: SessionSpec) -> View:
    view = await open_view(harness, spec, HERE)
    assert view is not None
    return view


async def says(view: View, text: str) -> str:
    """Wait until it has written this; all of it so far."""
    said = ""
    async with connect(view.folder) as link:
        with anyio.fail_after(SOON):
            async for chunk in link.read(Stream.OUT, 0):
                said += chunk.data.decode()
                if text in said:
                    break
    return said


async def its_processes(view: View) -> list[Process]:
    async with connect(view.folder) as link:
        status = await link.status()
        pids = [status.holder_pid, *([status.pid] if status.pid else [])]
    return [Process(pid, ticks) for pid in pids if (ticks := start_ticks(pid)) is not None]


async def test_it_has_the_sessions_environment_and_the_size_of_who_came(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, _):
        secret = Shown(*WAITS, env={"SECRET": "in the environment"})
        said = await says(await opened(secret, spec), "SECRET=in the environment")
        assert "30 90" in said
    assert "TERM=xterm-256color" in said, "a terminal that is none shows nothing to a person"


async def test_all_who_come_meet_the_same_view_also_at_the_same_moment(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, _):
        harness, views = Shown(*WAITS), list[View]()

        async def come() -> None:
            views.append(await opened(harness, spec))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(come)
        assert set(views) == {View(folder_of(spec.state_dir), 1)}
        assert await opened(harness, spec) == views[0]


async def test_one_that_a_person_has_ended_is_started_again_by_the_next(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, _):
        first = await opened(Shown(*WAITS), spec)
        async with connect(first.folder) as link:
            await link.write(b"\n", 0)
            await link.wait_exit()
        ending = await how_it_ended(first)
        assert not ending.replaced and ending.complaint is None
        second = await opened(Shown(*WAITS), spec)
        assert second == replace(first, run=2)
        assert (await how_it_ended(first)).replaced


async def test_a_harness_without_an_interface_has_no_view(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, _):
        assert await open_view(Shown(), spec, HERE) is None
        assert not (tmp_path / "s" / "view").exists()


async def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, agent):
        with pytest.raises(StartFailed, match="nowhere"):
            await open_view(Shown("/nowhere/program"), spec, HERE)
        broken = await opened(Shown("sh", "-c", "printf '\\033[31mno colours\\n'; exit 3"), spec)
        async with connect(broken.folder) as link:
            await link.wait_exit()
        assert (await how_it_ended(broken)).complaint == "exit status 3: no colours"
        os.kill((await agent.status()).pid or 0, 9)
        await agent.wait_exit()
        with pytest.raises(HarnessGone, match="does not run now"):
            await open_view(Shown(*WAITS), spec, HERE)
    with pytest.raises(HarnessGone):
        await open_view(Shown(*WAITS), replace(spec, state_dir=str(tmp_path / "none")), HERE)


async def test_a_new_agent_in_another_place_gets_a_new_view_and_one_in_the_same_keeps_it(
    tmp_path: Path,
) -> None:
    async with session(tmp_path / "s") as (spec, agent):
        await refresh(Shown(*WAITS), spec, agent)  # there is none
        old = await opened(Shown(*WAITS), spec)
        await refresh(Shown(*WAITS), spec, agent)
        assert await opened(Shown(*WAITS), spec) == old
        elsewhere = Shown(*WAITS, env={"PORT": "2"})
        await refresh(elsewhere, spec, agent)
        assert (await how_it_ended(old)).replaced
        new = await opened(elsewhere, spec)
        assert new.run == old.run + 1
        await refresh(elsewhere, spec, agent)
        assert await opened(elsewhere, spec) == new


async def test_with_the_session_its_view_ends_and_that_is_no_complaint(tmp_path: Path) -> None:
    async with session(tmp_path / "s") as (spec, _):
        await end_view(spec.state_dir)  # there is none
        view = await opened(
            Shown("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1; done"), spec
        )
        processes = await its_processes(view)
        assert len(processes) == 2
        await end_view(spec.state_dir)
        assert alive(processes) == []
        assert (await how_it_ended(view)).complaint is None


async def test_harnesses_need_neither_views_nor_sessions_that_can_be_joined() -> None:
    with pytest.raises(Unsupported, match="shown sessions cannot be joined"):
        await Shown().running({}, None)
