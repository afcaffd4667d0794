"""The opencode driver's parsers: its event stream, and what single payloads say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_drivers.opencode import protocol
from relay_drivers.opencode.errors import describe, describe_retry
from relay_drivers.opencode.protocol import (
    Change,
    Failure,
    MessageSeen,
    StatusSeen,
    ToolSeen,
    decode,
    failure,
    message_id,
    parse,
    read_message,
    write_of,
)
from relay_drivers.opencode.sse import MAX_EVENT_BYTES, EventParser, EventTooLarge
from relay_runtime.events import MAX_TEXT, ErrorClass

if TYPE_CHECKING:
    from relay_runtime.contract import Json

RECORDINGS = Path(__file__).parents[1] / "recordings" / "opencode"
STREAM = (RECORDINGS / "tool_turn.sse").read_bytes()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def split(stream: bytes, *cuts: int) -> list[bytes]:
    parser = EventParser()
    edges = [0, *sorted(cuts), len(stream)]
    events: list[bytes] = []
    for start, end in itertools.pairwise(edges):
        events += parser.feed(stream[start:end])
    return events


# --- the stream ---------------------------------------------------------------------------------------


def test_a_recorded_stream_gives_the_same_events_whole_and_byte_by_byte() -> None:
    whole = split(STREAM)
    assert len(whole) == STREAM.count(b"\n\n")
    assert split(STREAM, *range(len(STREAM))) == whole
    assert all(json.loads(data) for data in whole)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_a_stream_is_cut(cuts: list[int]) -> None:
    assert split(STREAM, *cuts) == split(STREAM)


def test_an_unfinished_event_is_kept_until_the_rest_comes() -> None:
    parser = EventParser()
    assert parser.feed(b"data: one\n\ndata: tw") == [b"one"]
    assert parser.feed(b"o\n") == []
    assert parser.feed(b"\n") == [b"two"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_format_is_understood_wherever_it_is_cut(end: bytes) -> None:
    stream = end.join([b": comment", b"event: x", b"data: a", b"data:b", b"", b"data: c", b"", b""])
    for cut in range(len(stream)):
        assert split(stream, cut) == [b"a\nb", b"c"], cut


def test_an_event_without_end_is_an_error_and_not_a_leak() -> None:
    parser = EventParser()
    with pytest.raises(EventTooLarge):
        for _ in range(20):
            parser.feed(b"data: " + b"x" * (MAX_EVENT_BYTES // 16))


# --- payloads -----------------------------------------------------------------------------------------


@given(json_values)
def test_no_payload_breaks_the_reader(value: Json) -> None:
    for kind in ("message.updated", "message.part.updated", "session.status", "question.asked"):
        parse({"type": kind, "properties": value})
        parse({"type": kind, "properties": {"info": value, "part": value, "status": value}})
    read_message(value)
    failure(value)


@given(st.binary())
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert decode(data) is None


def test_what_is_written_for_an_id_is_read_back_from_it() -> None:
    write = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert message_id(write).startswith("msg_")
    assert write_of(message_id(write)) == write
    assert write_of("msg_1fde4fae20010HAx6gt5KvNwhg") is None


def tool_part(**state: Json) -> ToolSeen:
    part = {"id": "p", "sessionID": "s", "messageID": "m", "type": "tool", "tool": "t"}
    found = parse({"type": "message.part.updated", "properties": {"part": part | {"state": state}}})
    assert isinstance(found, ToolSeen)
    return found


@pytest.mark.parametrize(
    ("metadata", "ok"),
    [({}, True), ({"exit": 0}, True), ({"exit": 3}, False), ({"exit": None}, False)],
)
def test_a_shell_command_is_fine_only_when_it_ended_with_status_0(metadata: Json, ok: bool) -> None:
    assert tool_part(status="completed", metadata=metadata).ok is ok


def test_file_changes_are_read_from_what_tools_note_down() -> None:
    def changes(**metadata: Json) -> tuple[Change, ...]:
        return tool_part(status="completed", metadata=metadata).changes

    assert changes(filepath="/a", exists=False) == (Change("/a", "created"),)
    assert changes(filepath="/a", exists=True) == (Change("/a", "modified"),)
    assert changes(filediff={"file": "/b"}) == (Change("/b", "modified"),)
    files: Json = [
        {"filePath": "/c", "type": "add"},
        {"filePath": "/d", "type": "update"},
        {"filePath": "/e", "type": "delete"},
        {"filePath": "/f", "movePath": "/g", "type": "move"},
    ]
    assert changes(files=files) == (
        Change("/c", "created"),
        Change("/d", "modified"),
        Change("/e", "deleted"),
        Change("/f", "deleted"),
        Change("/g", "created"),
    )


def test_texts_are_bounded_and_can_be_written_anywhere() -> None:
    output = tool_part(status="completed", output="\ud800" + "x" * (MAX_TEXT + 5)).output
    assert output.encode()[:2] == b"?x"
    assert output.endswith("… [6 more characters]")


def test_a_message_list_says_the_same_as_the_stream() -> None:
    listed = json.loads((RECORDINGS / "tool_turn.json").read_text())
    streamed: dict[str, MessageSeen] = {}
    for data in split(STREAM):
        if isinstance(said := decode(data), MessageSeen):
            streamed[said.id] = said
    read = [found for element in listed if (found := read_message(element)) is not None]
    assert {message.id: message for message, _ in read} == streamed
    assert all(parts for _, parts in read)


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Failure("APIError", "bad key", 401), ErrorClass.AUTH),
        (Failure("APIError", "no credit", 402), ErrorClass.AUTH),
        (Failure("ProviderAuthError", "no key"), ErrorClass.AUTH),
        (Failure("APIError", "slow", 429), ErrorClass.RATE_LIMIT),
        (Failure("UnknownError", "Rate limit exceeded"), ErrorClass.RATE_LIMIT),
        (Failure("APIError", "boom", 500), ErrorClass.OVERLOADED),
        (Failure("APIError", "x", 529), ErrorClass.OVERLOADED),
        (Failure("UnknownError", "The operation timed out."), ErrorClass.OVERLOADED),
        (Failure("APIError", "Cannot connect to API", retryable=True), ErrorClass.OVERLOADED),
        (Failure("APIError", "bad request", 400), ErrorClass.OTHER),
        (Failure("ContextOverflowError", "too long: 500 tokens"), ErrorClass.OTHER),
        (Failure("UnknownError", "Model not found: a/b."), ErrorClass.OTHER),
    ],
)
def test_errors_are_told_apart_by_what_can_be_done(said: Failure, expected: ErrorClass) -> None:
    assert describe(said).error is expected


def test_the_wish_of_an_endpoint_to_wait_becomes_a_time() -> None:
    headers: Json = {"retry-after": "30"}
    data: Json = {"message": "slow\nmore", "statusCode": 429, "responseHeaders": headers}
    info = describe(failure({"name": "APIError", "data": data}), at_ms=1_000_000)
    assert (info.message, info.status, info.retry_at) == ("slow", 429, 1030.0)
    dated = {"data": {"responseHeaders": {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}}}
    assert failure(dated).retry_after is None


def test_a_retry_tells_when_it_comes() -> None:
    info = describe_retry(StatusSeen("s", "retry", "Too Many Requests", 1_500))
    assert (info.error, info.retrying, info.retry_at) == (ErrorClass.RATE_LIMIT, True, 1.5)
    limited = describe_retry(StatusSeen("s", "retry", "5 hour usage reached", None, limited=True))
    assert (limited.error, limited.retry_at) == (ErrorClass.RATE_LIMIT, None)
    other = describe_retry(StatusSeen("s", "retry", "Connection reset by server", 1_500))
    assert other.error is ErrorClass.OVERLOADED


def test_every_recorded_event_that_matters_is_understood() -> None:
    known = {"message.updated", "message.part.updated", "session.status", "session.error"}
    known |= {"permission.asked", "permission.replied", "question.asked", "question.replied"}
    known |= {"question.rejected", "message.removed"}
    silent = {"compaction", "reasoning", "step-finish"}
    for recording in RECORDINGS.glob("*.sse"):
        for data in split(recording.read_bytes()):
            event = json.loads(data)
            part = protocol.text_at(event, "properties", "part", "type")
            if event["type"] in known and part not in silent:
                assert decode(data) is not None, (recording.name, event)
