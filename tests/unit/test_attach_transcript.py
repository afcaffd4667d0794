"""Events as a person reads them: one thing a line, and nothing in them acts on the terminal."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_runtime.attach.transcript import MAX_DETAIL, STYLES, Data, Line, read

ERROR = {"error": "rate_limit", "message": "too many requests"}
USAGE = {"input_tokens": 120, "output_tokens": 30}


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("transcript", {"role": "assistant", "text": "a\nb\n"}, Line("a\nb")),
        ("transcript", {"role": "user", "text": "do it"}, Line("› do it", "person")),
        ("tool.started", {"name": "Bash", "input": '{"command": "ls"}'}, Line("⏺ Bash ls", "tool")),
        ("tool.started", {"name": "Read", "input": "{}"}, Line("⏺ Read", "tool")),
        (
            "tool.started",
            {"name": "Edit", "input": '{"path": "a", "to": "b"}'},
            Line('⏺ Edit {"path": "a", "to": "b"}', "tool"),
        ),
        ("tool.ended", {"ok": True, "output": "a\n b"}, Line("  ✓ a b", "quiet")),
        ("tool.ended", {"ok": False, "output": ""}, Line("  ✗", "quiet")),
        ("file.changed", {"path": "x.py", "change": "created"}, Line("  created x.py", "quiet")),
        (
            "permission.requested",
            {"request_id": "r1", "tool": "Bash", "detail": "rm x"},
            Line("? it asks for Bash rm x\n  relay-runtime approve|deny me r1", "ask"),
        ),
        ("permission.resolved", {"decision": "deny"}, Line("  deny", "quiet")),
        (
            "turn.ended",
            {"outcome": "completed", "usage": USAGE},
            Line("— turn completed, 120 tokens in, 30 out —", "quiet"),
        ),
        (
            "turn.ended",
            {"outcome": "failed", "usage": USAGE, "error": ERROR},
            Line("— turn failed: too many requests —", "bad"),
        ),
        ("error", {"error": ERROR}, Line("! too many requests", "bad")),
        (
            "receipt",
            {"message_id": 7, "status": "deferred", "reason": "busy"},
            Line("  message 7 deferred: busy", "quiet"),
        ),
        (
            "receipt",
            {"message_id": 7, "status": "delivered"},
            Line("  message 7 delivered", "quiet"),
        ),
        ("receipt", {"message_id": 7, "status": "accepted"}, None),
        ("receipt", {"message_id": None, "status": "delivered"}, None),
        ("session.ended", {"reason": "released"}, Line("— released —", "quiet")),
        ("session.idle", {}, None),
        ("write.proven", {"write_id": "w"}, None),
    ],
)
def test_each_kind_of_event_reads_as_people_expect(
    kind: str, data: Data, line: Line | None
) -> None:
    assert read(kind, data, "me") == line


KINDS = [
    "transcript",
    "tool.started",
    "tool.ended",
    "file.changed",
    "permission.requested",
    "permission.resolved",
    "turn.ended",
    "error",
    "receipt",
    "notice",
    "session.exited",
    "session.ended",
]
FIELDS = [
    "text",
    "role",
    "name",
    "input",
    "ok",
    "output",
    "path",
    "change",
    "tool",
    "detail",
    "request_id",
    "decision",
    "outcome",
    "usage",
    "error",
    "message_id",
    "status",
    "reason",
    "message",
]
VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.just({"message": "\x1b[2J"})


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES), st.text())
def test_no_event_breaks_it_or_reaches_the_terminal_with_a_control_character(
    kind: str, data: Data, name: str
) -> None:
    line = read(kind, data, name)
    if line is not None:
        assert line.style in STYLES
        assert not set(line.text) & (
            {chr(n) for n in range(0xA0)} - set(string.printable[:-5] + "\n")
        )


def test_long_details_are_cut_and_long_answers_are_not() -> None:
    long = "word " * 1000
    tool = read("tool.ended", {"ok": True, "output": long}, "me")
    said = read("transcript", {"role": "assistant", "text": long}, "me")
    assert tool is not None and len(tool.text) <= MAX_DETAIL + 4
    assert said is not None and said.text == long
