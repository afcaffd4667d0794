"""The stream parser, fed whole, byte by byte, and with trailing data."""

from __future__ import annotations

import pytest

from relay_client.sse import MAX_LINE, Block, SseError, SseParser

CASES = [
    (b"data: x\n\n", [Block(None, "message", "x")]),
    (b"id: 7\nevent: e\ndata: {}\n\n", [Block("7", "e", "{}")]),
    (b"data: a\ndata: b\n\n", [Block(None, "message", "a\nb")]),
    (b"data:no space\n\n", [Block(None, "message", "no space")]),
    (b"data:  two spaces\n\n", [Block(None, "message", " two spaces")]),
    (b"data\n\n", [Block(None, "message", "")]),
    (b": comment\n\n", []),
    (b"retry: 1000\n\n", []),
    (b"event: only\n\ndata: x\n\n", [Block(None, "message", "x")]),
    (b"id: 9\n\n", [Block("9", "message", None)]),
    (b"id: a\0b\ndata: x\n\n", [Block(None, "message", "x")]),
    (b"unknown: x\ndata: y\n\n", [Block(None, "message", "y")]),
    (b"\xef\xbb\xbfdata: x\n\n", [Block(None, "message", "x")]),
    (b"data: x\r\n\r\n", [Block(None, "message", "x")]),
    (b"data: x\r\rdata: y\r\r\n", [Block(None, "message", "x"), Block(None, "message", "y")]),
    (b"data: \xff\n\n", [Block(None, "message", "\ufffd")]),
    ("data: ünï\n\n".encode(), [Block(None, "message", "ünï")]),
    (b"\n\n\n", []),
    (b"data: x\n\n\ndata: y\n\n", [Block(None, "message", "x"), Block(None, "message", "y")]),
]


@pytest.mark.parametrize(("stream", "expected"), CASES, ids=str)
def test_a_stream_is_read_the_same_in_pieces_of_any_size(
    stream: bytes, expected: list[Block]
) -> None:
    assert SseParser().feed(stream) == expected
    for size in (1, 2, 3):
        parser = SseParser()
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [block for piece in pieces for block in parser.feed(piece)] == expected


@pytest.mark.parametrize(("stream", "expected"), CASES, ids=str)
def test_what_follows_an_event_waits_for_its_end(stream: bytes, expected: list[Block]) -> None:
    parser = SseParser()
    assert parser.feed(stream + b"data: later") == expected
    assert parser.feed(b"\n\n")[-1].data == "later"


def test_an_endless_line_is_an_error_and_not_a_full_memory() -> None:
    parser = SseParser()
    with pytest.raises(SseError):
        for _ in range(MAX_LINE // 65_536 + 1):
            parser.feed(b"x" * 65_536)
