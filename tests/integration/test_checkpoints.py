"""The screen outlives the beginning of the log that it was made of."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.attach import checkpoint
from relay_runtime.attach.connection import KEEP_EVERY, keep_screen, watch
from relay_runtime.contract import Io, Stream
from relay_runtime.screen import exact

from .holders import NOW, SOON, holder, shell

if TYPE_CHECKING:
    from pathlib import Path

    from relay_runtime.holder_link import HolderLink
    from relay_runtime.screen import Screen

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not exact(), reason="no terminal emulator for this platform"),
]

#: Gives back every byte that it gets.
CAT = shell("stty raw -echo; printf up; exec cat", Io.PTY)
#: What nothing later says again: modes, a title, colours, lines that stay where they are.
FIRST = (
    b"\x1b[?2004h\x1b[?1002;1006h\x1b[?1h\x1b[=1;1u\x1b]2;a title\x07"
    b"\x1b[2;1H\x1b[1;32mstays \xe6\xbc\xa2\x1b[0m\x1b[10;30r\x1b[10;1H\x1b[4munder"
)
LATER = b"".join(b"line %d\r\n" % number for number in range(6_000))
KEEP, SEGMENT = 200_000, 50_000


async def write(link: HolderLink, data: bytes) -> None:
    """Until the program has given it back."""
    end = (await link.status()).offsets[Stream.OUT] + len(data)
    await link.write(data, 0)
    await reached(link, end)


async def up(link: HolderLink) -> None:
    end = (await link.status()).offsets[Stream.OUT] + len(b"up")
    await link.start(CAT)
    await reached(link, end)


async def reached(link: HolderLink, end: int) -> None:
    with anyio.fail_after(SOON):
        async for chunk in link.read(Stream.OUT, end - 1):
            if chunk.offset + len(chunk.data) >= end:
                return


def state(screen: Screen) -> tuple[object, ...]:
    modes = tuple(number for number in range(2100) if screen.mode(number))
    return screen.text(), screen.ansi(), screen.cursor, modes, screen.title, screen.snapshot()


def shown(folder: Path) -> tuple[object, ...]:
    """The screen as somebody sees it who comes now, and the same screen made larger."""
    with watch(str(folder), read_only=True) as cast:
        assert cast.replay is not None
        now = state(cast.replay.screen)
        cast.replay.screen.resize(60, 100)
        return (*now, *state(cast.replay.screen))


async def test_after_the_log_was_cut_the_screen_is_that_of_a_session_whose_log_is_whole(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "cut", tmp_path / "whole"]
    async with (
        holder(folders[0], log_bytes=KEEP, segment_bytes=SEGMENT) as cut,
        holder(folders[1]) as whole,
    ):
        for link in (cut, whole):
            await up(link)
            await write(link, FIRST)
        for _ in range(6):
            for link in (cut, whole):
                await write(link, LATER)
            keep_screen(str(folders[0]))
            assert shown(folders[0]) == shown(folders[1])
        for link in (cut, whole):
            await write(link, b"\x1b[31mand red, and a sequence that is not f\x1b[3")
        assert not (folders[0] / "log" / f"out-{0:020d}.log").exists(), "it was not cut"
        assert shown(folders[0]) == shown(folders[1])
        (folders[0] / checkpoint.NAME).unlink()
        assert shown(folders[0]) != shown(folders[1]), "nothing of this needed a checkpoint"


async def test_a_size_that_changed_after_the_checkpoint_takes_effect_where_it_did(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "kept", tmp_path / "not"]
    async with holder(folders[0]) as one, holder(folders[1]) as two:
        for link in (one, two):
            await up(link)
            await write(link, LATER)
        keep_screen(str(folders[0]))
        for link in (one, two):
            await link.resize(20, 50)
            await write(link, b"0123456789" * 20)
            await link.resize(30, 30)
        assert shown(folders[0]) == shown(folders[1])


async def test_another_run_does_not_begin_with_the_screen_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await up(link)
        await write(link, FIRST)
        keep_screen(str(folder))
        await link.stop(NOW)
        await up(link)
        assert shown(folder)[0] == ["up"] + 39 * [""]


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "strange"])
async def test_a_checkpoint_that_is_none_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await up(link)
        await write(link, FIRST)
        before = shown(folder)
        keep_screen(str(folder))
        path = folder / checkpoint.NAME
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        data = path.read_bytes()
        changed = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        broken = {"empty": b"", "cut": data[:-9], "changed": changed, "strange": b"[]\n"}
        path.write_bytes(broken[damage])
        assert shown(folder) == before


async def test_the_screen_of_another_emulator_is_taken_as_it_looked(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await up(link)
        await write(link, FIRST)
        with watch(str(folder), read_only=True) as cast:
            assert cast.replay is not None
            before = state(cast.replay.screen)
            saved = cast.replay.screen.save()._replace(emulator="another", state=b"?")
            checkpoint.write(str(folder), 0, 2 + len(FIRST), saved)
        with watch(str(folder), read_only=True) as cast:
            assert cast.rebuilt == 0 and cast.replay is not None
            assert state(cast.replay.screen) == before


async def test_who_reads_much_output_keeps_the_screen_for_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await up(link)
        for _ in range(KEEP_EVERY // len(LATER) + 1):
            await write(link, LATER)
        with watch(str(folder), read_only=True) as first:
            assert first.rebuilt > KEEP_EVERY
        with watch(str(folder), read_only=True) as second:
            assert second.rebuilt < first.rebuilt - KEEP_EVERY // 2
        assert [path.name for path in folder.glob("screen*")] == [checkpoint.NAME]
