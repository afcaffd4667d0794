"""Logs: offsets that stay true over rotation, loss, a full disk and a new holder."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from relay_runtime.contract import Chunk, Stream
from relay_runtime.holder import wire
from relay_runtime.holder.log import RESUMED, RETRY_S, RING, STOPPED, Log
from relay_runtime.holder_link import HolderLink, connect

from .holders import NOW, SOON, Raw, holder, output, python, shell, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

#: Every eight bytes say their own offset, so that any piece shows where it comes from.
COUNT = "import sys\nfor at in range(0, {size}, 8): sys.stdout.write('%07x\\n' % at)\n"


def is_true(chunk: Chunk) -> bool:
    """Whether a piece of COUNT's output stands where it claims to."""
    skip = -chunk.offset % 8
    at = chunk.offset + skip
    words = [chunk.data[i : i + 8] for i in range(skip, len(chunk.data) - 7, 8)]
    return words == [b"%07x\n" % (at + 8 * i) for i in range(len(words))]


async def chunks(link: HolderLink, offset: int = 0) -> list[Chunk]:
    with anyio.fail_after(SOON):
        return [chunk async for chunk in link.read(Stream.OUT, offset)]


def no_byte_twice_or_missing(found: list[Chunk], begin: int, end: int) -> None:
    at = begin
    for chunk in found:
        assert chunk.offset == at + chunk.gap
        assert is_true(chunk)
        at = chunk.offset + len(chunk.data)
    assert at == end


async def test_offsets_stay_true_while_segments_come_and_go(tmp_path: Path) -> None:
    folder, size = tmp_path / "s", 2_000_000
    async with holder(folder, log_bytes=600_000, segment_bytes=100_000) as link:
        await link.start(python(COUNT.format(size=size)))
        await link.wait_exit()
        found = await chunks(link)
        assert found[0].gap > size - 600_000 - 200_000
        assert sum(chunk.gap for chunk in found[1:]) == 0
        no_byte_twice_or_missing(found, 0, size)
        for offset in (1_500_000, 1_700_001, size - 8, size, size + 5):
            found = await chunks(link, offset)
            assert sum(chunk.gap for chunk in found) == 0
            no_byte_twice_or_missing(found, min(offset, size), size)
        kept = sum(path.stat().st_size for path in segments(folder))
        assert 400_000 < kept <= 600_000 + 200_000


async def test_who_wants_to_keep_what_a_log_lets_go_of_is_told_that_it_goes_on_in_a_new_file(
    tmp_path: Path,
) -> None:
    async with holder(tmp_path / "s", log_bytes=600_000, segment_bytes=100_000) as link:
        await link.start(shell("echo first; read x"))
        await until(link, b"first")
        await link.stop(NOW)
        await link.start(python(COUNT.format(size=250_000)))
        await link.wait_exit()
        told = []
        with anyio.fail_after(SOON):
            async for notice in link.notices():
                told.append((notice.code, notice.stream))
                if len(told) == 2:
                    break
        assert told == [("log.rolled", Stream.OUT)] * 2


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("out-*.log"))


async def test_a_new_holder_goes_on_where_the_log_of_a_dead_one_ends(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(shell("echo first"))
        await link.wait_exit()
    async with holder(folder) as link:
        status = await link.status()
        assert (status.run, status.offsets[Stream.OUT]) == (0, 6)
        await link.start(shell("echo second"))
        assert await output(link) == b"first\nsecond\n"


@contextmanager
def full_disk(pid: int, size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writes fail as on a full disk."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_stops_the_log_and_neither_the_agent_nor_who_watches_it(
    tmp_path: Path,
) -> None:
    folder, size = tmp_path / "s", 3_000_000
    async with holder(folder) as link:
        notices = link.notices()
        await link.start(
            python("input()\n" + COUNT.format(size=size) + "print('#', flush=True)\ninput()")
        )
        with full_disk(link.holder_pid, 1_000_000):
            async with anyio.create_task_group() as tasks:
                seen: list[Chunk] = []

                async def watch() -> None:
                    async for chunk in link.read(Stream.OUT, 0):
                        seen.append(chunk)
                        if b"#" in chunk.data:
                            return

                tasks.start_soon(watch)
                await link.write(b"\n", 1)
                with anyio.fail_after(SOON):
                    notice = await anext(notices)
            assert (notice.code, notice.stream) == ("log.stopped", Stream.OUT)
            assert "free some space" in notice.message
            async with connect(str(folder)) as later:
                late = await anext(later.notices())
                assert (late.code, late.stream) == ("log.stopped", Stream.OUT)
            assert seen[-1].data.endswith(b"#\n")
            # Who comes late gets what the disk has, then what memory has, and the gap between.
            found = []
            with anyio.fail_after(SOON):
                async for chunk in link.read(Stream.OUT, 0):
                    found.append(chunk)
                    if b"#" in chunk.data:
                        break
            gap = sum(chunk.gap for chunk in found)
            assert 1_000_000 <= size - gap <= 1_000_000 + 2 * RING
            assert (await link.status()).pid is not None


def test_a_log_goes_on_by_itself_when_there_is_space_again(tmp_path: Path) -> None:
    log = Log(str(tmp_path), "out", keep=1 << 30, segment=1 << 30)
    data = b"".join(b"%07d\n" % n for n in range(1000))
    assert log.append(data, 0.0) is None
    with full_disk(os.getpid(), 10_000):
        assert log.append(data, 1.0) == STOPPED
        assert log.stopped
    with full_disk(os.getpid(), 0):
        for n in range(60):
            assert log.append(data, 1.0 + n * RETRY_S) is None
    assert log.append(data, 1.0 + RETRY_S / 2) is None, "it does not try at every output"
    assert log.append(data, 1000.0) == RESUMED
    assert log.stopped is None
    log.append(data, 1001.0)

    again = Log(str(tmp_path), "out", keep=1 << 30, segment=1 << 30)
    assert again.end == log.end == 8_000 * 65
    for reader in (log, again):
        at = gap = 0
        while at < reader.end:
            piece = reader.read(at)
            gap += piece.gap
            assert piece.data == (data * 65)[piece.offset : piece.offset + len(piece.data)]
            at = piece.offset + len(piece.data)
        assert at == log.end
        assert 0 < gap <= log.end - RING - 10_000
    assert len(list(tmp_path.iterdir())) == 2, "tries that failed leave no files"


def test_a_disk_that_is_really_full_is_survived_too(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        log = Log(str(folder), "out", keep=1 << 30, segment=1 << 30)
        changes = [log.append(b"x" * 10_000, n / 100) for n in range(200)]
        assert changes.count(STOPPED) == 1
        assert log.stopped == "No space left on device"
        assert log.read(0).data
        assert log.read(log.end - 10).data == b"x" * 10
        max(folder.iterdir(), key=lambda path: path.stat().st_size).write_bytes(b"")
        assert log.append(b"y", 100.0) == RESUMED
        log._close()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_segments_that_vanish_are_a_gap_and_not_an_error(tmp_path: Path) -> None:
    log = Log(str(tmp_path), "out", keep=1 << 30, segment=100_000)
    for _ in range(10):
        log.append(b"x" * 50_000, 0.0)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[1] == "out-00000000000000100000.log"
    (tmp_path / names[1]).unlink()
    piece = log.read(100_000)
    assert (piece.offset, piece.gap) == (200_000, 100_000)
    (tmp_path / names[0]).write_bytes(b"x" * 10)
    piece = log.read(50)
    assert (piece.offset, piece.gap) == (200_000, 199_950)


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    for name in ("out-x.log", "out-1.log.gz", "err-00000000000000000009.log", "out-.log"):
        (tmp_path / name).write_bytes(b"1234")
    log = Log(str(tmp_path), "out", keep=0, segment=1)
    for _ in range(5):
        log.append(b"ab", 0.0)
    assert log.end == 10
    assert len(list(tmp_path.iterdir())) == 5


async def test_a_reader_that_does_not_read_delays_nobody_and_costs_no_memory(
    tmp_path: Path,
) -> None:
    folder, size = tmp_path / "s", 20_000_000
    async with holder(folder) as link:
        before = resident_kb(link.holder_pid)
        with Raw(folder, wire.hello(read_only=True)) as slow:
            attach = {"id": 1, "op": "attach", "stream": "out", "offset": 0}
            slow.send(wire.encode_json(wire.REQUEST, attach))
            await link.start(python(COUNT.format(size=size)))
            found = await chunks(link)
            no_byte_twice_or_missing(found, 0, size)
            assert resident_kb(link.holder_pid) < before + 4_000
            # The slow one finds everything when it reads at last.
            at = 0
            while at < size:
                frame = slow.next()
                if frame.kind == wire.OUTPUT:
                    _, offset, gap, data = wire.decode_output(frame.payload)
                    assert (offset, gap) == (at, 0)
                    at += len(data)


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def test_hooks_are_kept_line_by_line_and_acknowledged_when_written(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(shell("cat"))
        lines = [json.dumps({"n": n, "text": "ü\n\u2028"}) for n in range(20)]
        offsets = [await link.hook(line) for line in lines]
        assert offsets[:2] == [0, len(lines[0]) + 1]
        written = b"".join([path.read_bytes() for path in (folder / "log").glob("hooks-*")])
        assert written.decode().splitlines() == lines
        await link.close_input()
        assert await output(link, Stream.HOOKS) == written


async def test_two_readers_of_one_stream_read_independently(tmp_path: Path) -> None:
    async with holder(tmp_path / "s") as link:
        await link.start(shell("echo a; read x; echo b"))
        first, second = link.read(Stream.OUT, 0), link.read(Stream.OUT, 1)
        assert (await anext(first)).data == b"a\n"
        assert (await anext(second)).data == b"\n"
        await until(link, b"a")
        await link.write(b"\n", 1)
        assert [chunk.data async for chunk in second] == [b"b\n"]
        assert [chunk.data async for chunk in first] == [b"b\n"]
