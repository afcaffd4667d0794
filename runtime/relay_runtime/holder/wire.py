"""Frames between a holder and its clients. No I/O: bytes in, frames out.

A frame is a type byte, a big-endian u32 length and that many bytes. `docs/holder-protocol.md` is the
reference; a holder outlives upgrades of everything else, so what stands there only ever grows.
"""

from __future__ import annotations

import json
import struct

PROTOCOL = 1
#: Oldest protocol this side still speaks.
MIN_PROTOCOL = 1

HELLO = 1  #: both ways, first frame: JSON
REQUEST = 2  #: to the holder: JSON with `id` and `op`
REPLY = 3  #: from the holder: JSON with `id` and either `ok` or `error`
INPUT = 4  #: to the holder: u64 seq, bytes
ACK = 5  #: from the holder, in the order of INPUT: u64 seq, u8 result, reason
OUTPUT = 6  #: from the holder: u8 stream, u64 offset, u64 gap, bytes
EVENT = 7  #: from the holder, unasked: JSON with `event`
ERROR = 8  #: from the holder, then it closes: JSON with `code` and `message`

KINDS = frozenset(range(HELLO, ERROR + 1))

# Results in an ACK. TAKEN means: in the holder's own buffer, it will be written as the child reads.
REPEATED, TAKEN, FULL, NO_INPUT, REFUSED = range(5)

#: The order is part of the protocol: OUTPUT carries the index.
STREAMS = ("out", "err", "hooks")

#: Input the holder keeps for a child that does not read. Eight of the largest relay messages.
MAX_INPUT = 8 * 1024 * 1024
#: The largest frame is the largest input; anything longer is not one of ours.
MAX_FRAME = MAX_INPUT + 8
#: One read, one write, one OUTPUT frame: a pipe's capacity, so that a full pipe is one step.
CHUNK = 65_536

_HEADER = struct.Struct(">BI")
_INPUT = struct.Struct(">Q")
_ACK = struct.Struct(">QB")
_OUTPUT = struct.Struct(">BQQ")

Json = dict[str, object]


class WireError(Exception):
    """The peer does not speak this protocol. The connection is of no more use."""


class Frame:
    __slots__ = ("kind", "payload")

    def __init__(self, kind: int, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload


class Decoder:
    """Bytes as they arrive, in pieces of any size, to whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes were fed. Raises `WireError`."""
        if len(self._buffer) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._buffer)
        if kind not in KINDS or length > MAX_FRAME:
            raise WireError(f"no such frame: type {kind}, {length} bytes")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[_HEADER.size : end])
        del self._buffer[:end]
        return Frame(kind, payload)


def encode(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def encode_json(kind: int, value: Json) -> bytes:
    return encode(kind, json.dumps(value, separators=(",", ":")).encode())


def decode_json(payload: bytes) -> Json:
    """The object in `payload`. Raises `WireError` when it is not one."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise WireError("the payload is not JSON") from None
    if not isinstance(value, dict):
        raise WireError("the payload is not a JSON object")
    return value


def encode_input(seq: int, data: bytes) -> bytes:
    return encode(INPUT, _INPUT.pack(seq) + data)


def decode_input(payload: bytes) -> tuple[int, bytes]:
    """(seq, data)"""
    if len(payload) < _INPUT.size:
        raise WireError("the input frame is too short")
    return _INPUT.unpack_from(payload)[0], payload[_INPUT.size :]


def encode_ack(seq: int, result: int, reason: str = "") -> bytes:
    return encode(ACK, _ACK.pack(seq, result) + reason.encode())


def decode_ack(payload: bytes) -> tuple[int, int, str]:
    """(seq, result, reason)"""
    if len(payload) < _ACK.size:
        raise WireError("the ack frame is too short")
    seq, result = _ACK.unpack_from(payload)
    return seq, result, payload[_ACK.size :].decode("utf-8", "replace")


def encode_output(stream: str, offset: int, gap: int, data: bytes) -> bytes:
    return encode(OUTPUT, _OUTPUT.pack(STREAMS.index(stream), offset, gap) + data)


def decode_output(payload: bytes) -> tuple[str, int, int, bytes]:
    """(stream, offset, gap, data)"""
    if len(payload) < _OUTPUT.size:
        raise WireError("the output frame is too short")
    index, offset, gap = _OUTPUT.unpack_from(payload)
    if index >= len(STREAMS):
        raise WireError(f"no such stream: {index}")
    return STREAMS[index], offset, gap, payload[_OUTPUT.size :]


def hello(**more: object) -> bytes:
    return encode_json(HELLO, {"protocol": PROTOCOL, "min": MIN_PROTOCOL, **more})


def agree(theirs: Json) -> int:
    """The protocol to speak with a peer that said hello. Raises `WireError` when there is none."""
    newest, oldest = theirs.get("protocol"), theirs.get("min")
    if not isinstance(newest, int) or not isinstance(oldest, int):
        raise WireError("the hello names no protocol")
    version = min(PROTOCOL, newest)
    if version < max(MIN_PROTOCOL, oldest):
        raise WireError(
            f"no protocol in common: this side speaks {MIN_PROTOCOL} to {PROTOCOL}, "
            f"the other {oldest} to {newest}"
        )
    return version
