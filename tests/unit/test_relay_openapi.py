"""The description is made of the same rows as the routes, and is what the specification wants."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from relay_client import types
from relay_server.errors import invalid
from relay_server.openapi import Operation, bind, describe, reply

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class NewThing(types.Request):
    name: types.Name
    color: types.AgentStatus = types.AgentStatus.BUSY


class ThingQuery(types.Request):
    limit: int = 10
    color: types.AgentStatus


class Thing(types.Record):
    id: int
    parts: list[types.Cursor]


async def get_things(request: Request) -> Response:
    return reply([Thing(id=1, parts=[])])


async def add_thing(request: Request) -> Response:
    return reply(Thing(id=1, parts=[]), 201)


async def remove_thing(request: Request) -> Response:
    return reply(None)


TABLE = [
    Operation("GET", "/things", get_things, "List", query=ThingQuery, response=Thing, many=True),
    Operation(
        "POST",
        "/things",
        add_thing,
        "Add",
        body=NewThing,
        response=Thing,
        status=201,
        errors=(409,),
    ),
    Operation("DELETE", "/things/{id:int}", remove_thing, "Remove", status=204),
]
DOCUMENT = json.loads(json.dumps(describe(TABLE, title="Things", version="1", prefix="/v1")))


def references(value: object) -> set[str]:
    return set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(value)))


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert found
    for reference in found:
        node = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_paths_lose_their_converters_and_keep_their_parameters() -> None:
    assert set(DOCUMENT["paths"]) == {"/v1/things", "/v1/things/{id}"}
    (parameter,) = DOCUMENT["paths"]["/v1/things/{id}"]["delete"]["parameters"]
    assert parameter == {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "integer"},
    }


def test_a_query_model_becomes_parameters() -> None:
    parameters = DOCUMENT["paths"]["/v1/things"]["get"]["parameters"]
    told = {parameter["name"]: parameter["required"] for parameter in parameters}
    assert told == {"limit": False, "color": True}
    assert "ThingQuery" not in DOCUMENT["components"]["schemas"]


def test_bodies_answers_and_refusals_are_described() -> None:
    post = DOCUMENT["paths"]["/v1/things"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NewThing"}
    assert set(post["responses"]) == {"201", "400", "409", "500"}
    refusal = post["responses"]["409"]["content"]["application/json"]["schema"]
    assert refusal == {"$ref": "#/components/schemas/ErrorResponse"}
    many = DOCUMENT["paths"]["/v1/things"]["get"]["responses"]["200"]
    assert many["content"]["application/json"]["schema"]["type"] == "array"
    assert "content" not in DOCUMENT["paths"]["/v1/things/{id}"]["delete"]["responses"]["204"]


def test_one_route_serves_all_methods_of_a_path() -> None:
    assert [route.path for route in bind(TABLE, "/v1")] == ["/v1/things", "/v1/things/{id:int}"]


def test_lists_are_answered_like_single_models() -> None:
    bodies = [reply(Thing(id=1, parts=[])).body, reply([Thing(id=1, parts=[])]).body]
    assert bodies == [b'{"id":1,"parts":[]}', b'[{"id":1,"parts":[]}]']
    assert reply([]).body == b"[]"
    assert reply(None).status_code == 204


class Wrong(BaseModel):
    first: int
    nested: list[int]


@pytest.mark.parametrize(
    ("text", "status", "code", "message"),
    [
        ('{"first":', 400, "invalid_json", "EOF"),
        ("[" * 10_000, 400, "invalid_json", "recursion"),
        ('{"first":"\\ud800"}', 400, "invalid_json", "hex escape"),
        ('{"first":1}', 422, "invalid_request", "nested: field required"),
        ('{"first":1,"nested":["secret"]}', 422, "invalid_request", "nested.0: input should be"),
        ("[]", 422, "invalid_request", "body: input should be an object"),
    ],
)
def test_a_wrong_request_is_told_where_and_why_but_not_what(
    text: str, status: int, code: str, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        Wrong.model_validate_json(text)
    refusal = invalid(error.value)  # type: ignore[arg-type]
    assert (refusal.status, refusal.code) == (status, code)
    assert message in refusal.message
    assert "secret" not in refusal.message


def test_a_thousand_problems_make_a_short_message() -> None:
    with pytest.raises(ValueError) as error:
        Wrong.model_validate({"first": 1, "nested": ["x"] * 1000})
    assert "and 995 more" in invalid(error.value).message  # type: ignore[arg-type]
