"""Connections of people who look: one terminal answers the program, and no needless word is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relay_runtime.contract import Io
from relay_runtime.holder import wire

from .holders import NOW, Raw, holder, shell, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

RAW_CAT = shell("stty raw -echo; echo up; exec cat", Io.PTY)
ANSWER, FOCUS = b"\x1b[?62;4c", b"\x1b[I"


async def test_only_the_newest_terminal_of_the_right_size_answers_the_program(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    hello = [wire.hello(person=name) for name in ("one", "two")]
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        await until(link, b"up")
        with Raw(folder, hello[0]) as one, Raw(folder, hello[1]) as two:
            assert "ok" in one.ask("view", rows=40, cols=120)
            assert "ok" in two.ask("view", rows=30, cols=100)
            for data in (ANSWER, FOCUS, b"A"):
                one.send(wire.encode_input(0, data))
            seen = await until(link, b"A")
            assert ANSWER not in seen
            assert FOCUS in seen, "each tells of its own focus"
            two.send(wire.encode_input(0, ANSWER))
            await until(link, ANSWER)
        with Raw(folder, wire.hello(person="three")) as three:
            three.send(wire.encode_input(0, ANSWER))
            await until(link, ANSWER, 2)


async def test_a_quiet_client_hears_only_of_input_that_was_not_taken(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    async with holder(folder) as link:
        await link.start(RAW_CAT)
        await until(link, b"up")
        with Raw(folder, wire.hello(quiet=True)) as client:
            client.send(wire.encode_input(7, b"A"))
            client.send(wire.encode_input(7, b"B"))
            assert wire.decode_ack(client.next().payload)[:2] == (7, wire.REPEATED)
            await link.stop(NOW)
            client.send(wire.encode_input(0, b"C"))
            while (frame := client.next()).kind != wire.ACK:
                assert frame.kind == wire.EVENT
            assert wire.decode_ack(frame.payload)[:2] == (0, wire.NO_INPUT)
