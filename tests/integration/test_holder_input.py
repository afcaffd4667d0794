"""Input: written once, whole, in order, or refused before any of it is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import HarnessGone, Io, Stream
from relay_runtime.holder import wire
from relay_runtime.holder_link import HolderRefused, connect

from .holders import NOW, SOON, Raw, holder, output, python, shell, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("io", Io)
async def test_a_repeated_number_is_not_written_again_whatever_the_bytes(
    tmp_path: Path, io: Io
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(
            shell("stty -echo 2>/dev/null; echo up; while read x; do echo $x; done", io)
        )
        await until(link, b"up")
        assert await link.write(b"one\n", 5) is True
        assert await link.write(b"other\n", 5) is False
        async with connect(str(folder)) as other:
            assert await other.write(b"late\n", 4) is False
            assert await other.write(b"two\n", 6) is True
        assert await link.write(b"any\n", 0) is True
        assert await link.write(b"any\n", 0) is True
        assert await link.write(b"done\n", 7) is True
        seen = await until(link, b"done")
        assert seen.replace(b"\r", b"") == b"up\none\ntwo\nany\nany\ndone\n"
        assert (await link.status()).applied_seq == 7


async def test_numbers_applied_in_one_run_stay_applied_in_the_next(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("read x; echo $x"))
        assert await link.write(b"one\n", 1) is True
        await link.wait_exit()
        assert await link.write(b"one\n", 1) is False
        await link.start(shell("read x; echo $x"))
        assert await link.write(b"one\n", 1) is False
        assert await link.write(b"two\n", 2) is True
        await link.wait_exit()
        assert await output(link) == b"one\ntwo\n"


async def test_a_large_input_arrives_whole_through_a_narrow_pipe(tmp_path: Path) -> None:
    data = bytes(range(256)) * 30_000
    async with holder(tmp_path / "s") as link:
        await link.start(
            python(
                "import hashlib, sys\n"
                "data = sys.stdin.buffer.read()\n"
                "print(len(data), hashlib.sha256(data).hexdigest())"
            )
        )
        assert await link.write(data, 1)
        await link.close_input()
        expected = f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"
        assert await output(link) == expected.encode()


async def test_a_large_input_arrives_whole_through_a_raw_terminal(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2_000
    async with holder(tmp_path / "s") as link:
        await link.start(
            python(
                "import hashlib, os, tty\n"
                "tty.setraw(0)\n"
                "print('up', flush=True)\n"
                "data = b''\n"
                f"while len(data) < {len(data)}: data += os.read(0, 65536)\n"
                "print(hashlib.sha256(data).hexdigest())",
                Io.PTY,
            )
        )
        await until(link, b"up")
        assert await link.write(data, 1)
        assert hashlib.sha256(data).hexdigest().encode() in await output(link)


async def test_what_does_not_fit_is_refused_whole_and_its_number_stays_free(
    tmp_path: Path,
) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("read go; wc -c"))
        await link.write(b"x" * wire.MAX_INPUT, 1)
        with pytest.raises(HolderRefused, match="does not read") as refused:
            await link.write(b"y" * 1_000_000, 2)
        assert refused.value.code == "full"
        assert (await link.status()).applied_seq == 1
        with pytest.raises(ValueError, match="one write"):
            await link.write(b"z" * (wire.MAX_INPUT + 1), 2)


async def test_without_a_child_or_with_its_input_closed_nothing_is_taken(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        with pytest.raises(HarnessGone, match="no child runs"):
            await link.write(b"x", 1)
        await link.start(shell("cat; sleep 100"))
        await link.close_input()
        await link.close_input()
        with pytest.raises(HarnessGone, match="closed"):
            await link.write(b"x", 1)
        assert (await link.status()).applied_seq == 0


async def test_a_child_that_closed_its_stdin_takes_nothing_more(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("exec <&-; echo closed; sleep 100"))
        await until(link, b"closed")
        assert await link.write(b"x", 1) is True  # taken before anyone could know
        with pytest.raises(HarnessGone):
            await link.write(b"x", 2)


async def test_closing_waits_for_the_input_before_it(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("sleep 0.2; wc -c"))
        await link.write(b"x" * 1_000_000, 1)
        await link.close_input()
        assert (await output(link)).strip() == b"1000000"


async def test_end_of_input_of_a_terminal_is_sent_once_and_input_goes_on(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("cat; echo end; cat", Io.PTY))
        await link.close_input()
        await link.close_input()
        await until(link, b"end")
        await link.write(b"more\n", 1)
        await until(link, b"more")
        assert (await link.status()).pid is not None


async def test_half_a_frame_of_a_client_that_died_is_not_applied(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(shell("cat"))
        with Raw(folder, wire.hello()) as raw:
            raw.send(wire.encode_input(1, b"x" * 1000)[:-1])
        assert (await link.status()).applied_seq == 0
        assert await link.write(b"whole\n", 1) is True
        await link.close_input()
        assert await output(link) == b"whole\n"


async def test_a_cancelled_write_leaves_the_connection_sound(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("cat"))
        for seq in range(1, 50):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await link.write(b"x" * 50_000, seq)
        for seq in range(1, 50):
            with anyio.move_on_after(0):
                await link.write(b"%d\n" % seq, seq)
        with anyio.fail_after(SOON):
            for seq in range(1, 50):
                await link.write(b"%d\n" % seq, seq)
        await link.close_input()
        lines = (await output(link)).replace(b"x", b"").split()
        assert len(lines) == len(set(lines))


async def test_commands_run_while_the_input_is_full(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("sleep 1000"))
        await link.write(b"x" * 5_000_000, 1)
        with anyio.fail_after(SOON):
            assert (await link.status()).offsets[Stream.OUT] == 0
            await link.stop(NOW)
