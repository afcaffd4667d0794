"""The frame codec of the holder, fed whole, byte by byte and with more behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.holder import wire

FRAMES = [
    wire.hello(read_only=True),
    wire.encode_json(wire.REQUEST, {"id": 1, "op": "query"}),
    wire.encode_input(7, b"two\nlines\n"),
    wire.encode_input(0, b""),
    wire.encode_ack(7, wire.TAKEN),
    wire.encode_ack(2**64 - 1, wire.FULL, "it does not réad"),
    wire.encode_output("hooks", 2**40, 3, bytes(range(256))),
    wire.encode(wire.ERROR, b""),
]


def decoded(decoder: wire.Decoder) -> list[tuple[int, bytes]]:
    frames = []
    while frame := decoder.next_frame():
        frames.append((frame.kind, frame.payload))
    return frames


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_decoded_whole_byte_by_byte_and_with_trailing_data(frame: bytes) -> None:
    expected = [(frame[0], frame[5:])]
    whole = wire.Decoder()
    whole.feed(frame)
    assert decoded(whole) == expected

    slow = wire.Decoder()
    for byte in frame[:-1]:
        slow.feed(bytes([byte]))
        assert slow.next_frame() is None
    slow.feed(frame[-1:])
    assert decoded(slow) == expected

    more = wire.Decoder()
    more.feed(frame + frame[:3])
    assert decoded(more) == expected
    more.feed(frame[3:])
    assert decoded(more) == expected


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_survive_any_cutting(cuts: list[int]) -> None:
    data = b"".join(FRAMES)
    decoder, frames = wire.Decoder(), []
    for cut in cuts:
        decoder.feed(data[:cut])
        data = data[cut:]
        frames += decoded(decoder)
    decoder.feed(data)
    frames += decoded(decoder)
    assert frames == [(frame[0], frame[5:]) for frame in FRAMES]


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for_and_nothing_else(data: bytes) -> None:
    decoder = wire.Decoder()
    decoder.feed(data)
    try:
        while frame := decoder.next_frame():
            assert frame.kind in wire.KINDS
    except wire.WireError:
        pass


@pytest.mark.parametrize(
    "header",
    [b"\x00\x00\x00\x00\x00", b"\x09\x00\x00\x00\x00", b"\x04\xff\xff\xff\xff", b"GET /"],
)
def test_a_frame_of_no_known_kind_or_size_is_refused_at_its_header(header: bytes) -> None:
    decoder = wire.Decoder()
    decoder.feed(header)
    with pytest.raises(wire.WireError):
        decoder.next_frame()


def test_the_largest_input_fits_and_one_byte_more_does_not() -> None:
    fits = wire.encode_input(1, bytes(wire.MAX_INPUT))
    decoder = wire.Decoder()
    decoder.feed(fits)
    frame = decoder.next_frame()
    assert frame is not None and wire.decode_input(frame.payload) == (1, bytes(wire.MAX_INPUT))
    decoder.feed(wire.encode_input(1, bytes(wire.MAX_INPUT + 1)))
    with pytest.raises(wire.WireError):
        decoder.next_frame()


@given(st.integers(0, 2**64 - 1), st.binary(max_size=50))
def test_input_and_output_come_back_as_they_were(number: int, data: bytes) -> None:
    assert wire.decode_input(wire.encode_input(number, data)[5:]) == (number, data)
    for stream in wire.STREAMS:
        output = wire.encode_output(stream, number, 5, data)[5:]
        assert wire.decode_output(output) == (stream, number, 5, data)


def test_an_ack_carries_its_reason() -> None:
    ack = wire.encode_ack(3, wire.NO_INPUT, "no child runs")[5:]
    assert wire.decode_ack(ack) == (3, wire.NO_INPUT, "no child runs")


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000]
)
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_json(payload)


@pytest.mark.parametrize("decode", [wire.decode_input, wire.decode_ack, wire.decode_output])
def test_a_payload_that_is_too_short_is_refused(decode: object) -> None:
    assert callable(decode)
    with pytest.raises(wire.WireError):
        decode(b"\x00\x01")


def test_an_output_of_an_unknown_stream_is_refused() -> None:
    with pytest.raises(wire.WireError, match="no such stream"):
        wire.decode_output(b"\x03" + bytes(16))


@pytest.mark.parametrize(
    ("theirs", "agreed"),
    [
        ({"protocol": 1, "min": 1}, 1),
        ({"protocol": 1, "min": 1, "of the future": {}}, 1),
        ({"protocol": 9, "min": 1}, 1),
    ],
)
def test_peers_agree_on_the_newest_protocol_both_speak(theirs: wire.Json, agreed: int) -> None:
    assert wire.agree(theirs) == agreed


@pytest.mark.parametrize(
    "theirs",
    [{}, {"protocol": "1", "min": 1}, {"protocol": 9, "min": 2}, {"protocol": 0, "min": 0}],
)
def test_peers_without_a_common_protocol_are_told_so(theirs: wire.Json) -> None:
    with pytest.raises(wire.WireError, match="protocol"):
        wire.agree(theirs)
