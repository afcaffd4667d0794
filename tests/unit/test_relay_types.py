"""What may cross the wire, and what is refused at the door."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from relay_client.types import (
    MAX_META_BYTES,
    MAX_NAME,
    AgentRegistration,
    Message,
    NewMessage,
    NewReceipt,
    Record,
)


def parse(**changes: object) -> NewMessage:
    fields = {"from": "a", "to": "b", "body": "text"} | changes
    return NewMessage.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    "agent_id", ["a", "host-proj-1a2b", "Ünï.code_1", "me@host", "+1", "x" * 128]
)
def test_an_agent_id_may_be_what_a_url_and_a_target_can_carry(agent_id: str) -> None:
    assert AgentRegistration(id=agent_id, name="n").id == agent_id


@pytest.mark.parametrize(
    "agent_id",
    ["", ".", "..", "-x", "a/b", "tag:x", "a b", "a\n", "a\0", "a?b", "a#b", "a%b", "x" * 129],
)
def test_an_agent_id_that_a_url_or_a_target_would_misread_is_refused(agent_id: str) -> None:
    with pytest.raises(ValidationError):
        AgentRegistration(id=agent_id, name="n")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[2Jb", "a\x9bb", "a\u2028b", "x" * 129])
def test_a_name_with_control_characters_or_of_a_wrong_length_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        AgentRegistration(id="a", name=name)
    with pytest.raises(ValidationError):
        parse(**{"from": name})


def test_names_lose_the_space_around_them() -> None:
    assert AgentRegistration(id="a", name="  the backend ").name == "the backend"
    assert len(AgentRegistration(id="a", name="x" * MAX_NAME).name) == MAX_NAME


def test_an_unknown_field_in_a_request_is_an_error_and_in_an_answer_is_not() -> None:
    with pytest.raises(ValidationError, match="extra"):
        parse(boddy="typo")

    class Answer(Record):
        known: int

    assert Answer.model_validate_json('{"known":1,"new":2}').known == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"body": ""},
        {"body": None},
        {"body": 5},
        {"to": ""},
        {"to": "x" * 257},
        {"mode": "now"},
        {"ttl_s": 0},
        {"ttl_s": -1},
        {"ttl_s": 1e9},
        {"thread_id": -1},
        {"thread_id": 2**63},
        {"thread_id": 1.5},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 201},
        {"meta": []},
        {"meta": {"x": "y" * MAX_META_BYTES}},
    ],
    ids=str,
)
def test_a_message_with_a_wrong_field_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse(**changes)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused_everywhere(value: str) -> None:
    message = '{"from":"a","to":"b","body":"c",'
    for wrong in (f'"ttl_s":{value}}}', f'"meta":{{"x":{value}}}}}'):
        with pytest.raises(ValidationError):
            NewMessage.model_validate_json(message + wrong)
    receipt = '{"receipt_id":"r","delivery_id":"d","status":"accepted",'
    with pytest.raises(ValidationError):
        NewReceipt.model_validate_json(f'{receipt}"at":{value}}}')


def test_a_sender_is_called_from_on_the_wire_and_sender_in_python() -> None:
    message = NewMessage(sender="a", to="b", body="c")
    assert json.loads(message.model_dump_json(by_alias=True))["from"] == "a"
    assert "from" in NewMessage.model_json_schema()["properties"]
    assert "from" in Message.model_json_schema(mode="serialization")["properties"]
