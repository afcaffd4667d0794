"""A table of operations, bound to Starlette and described as OpenAPI from the same rows.

    TABLE = [
        Operation("GET", "/things/{id}", get_thing, "Get one thing", response=Thing),
        Operation("POST", "/things", add_thing, "Add a thing", body=NewThing, response=Thing, status=201),
    ]
    app = Boundary(Router(bind(TABLE)))
    document = describe(TABLE, title="Things", version="1")

An endpoint is `async (Request) -> Response`; `read`, `query` and `reply` do its parsing and encoding.
Nothing here knows the relay: any HTTP API of ours can use it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay_client.types import ErrorResponse

from .asgi import header, read_body
from .errors import ApiError, BadRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue
    from starlette.types import Receive, Scope, Send

M = TypeVar("M", bound=BaseModel)
Json = dict[str, "JsonValue"]
Mode = Literal["validation", "serialization"]

# Far more than any request but a message needs; those set their own limit.
MAX_REQUEST_BYTES = 1024 * 1024

_PARAMETER = re.compile(r"{(\w+)(?::(\w+))?}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    `path` is in Starlette's syntax. `body` is what the request carries, `query` a model of its query
    string, `response` what is answered (`many`: a list of them), None for an empty answer.
    `errors` are the statuses it can refuse with, beside 400 and 500.
    """

    method: str
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    many: bool = False
    status: int = 200
    errors: tuple[int, ...] = ()
    media_type: str = "application/json"


# --- parsing and encoding ---------------------------------------------------------------------------


async def read(request: Request, model: type[M], limit: int = MAX_REQUEST_BYTES) -> M:
    """The request body as `model`; no body counts as `{}`.

    Raises `ApiError`: 415 for anything but JSON, 413, 400 (invalid_json), 422 (invalid_request).
    """
    body = await read_body(request.scope, request.receive, limit)
    kind = header(request.scope, b"content-type")
    if body or kind is not None:
        require_json(kind)
    return model.model_validate_json(body or b"{}")


def require_json(content_type: bytes | None) -> None:
    """Raises `ApiError` (415). Anything else could be sent by a web page without being asked."""
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise ApiError(
            "unsupported_media_type", "send JSON with Content-Type: application/json", status=415
        )


def query(request: Request, model: type[M]) -> M:
    """The query string as `model`. Raises `ApiError`: an unknown or repeated name is an error."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise BadRequest("repeated_parameter", f"the parameter {name} is given twice")
        values[name] = value
    return model.model_validate_strings(values)


def reply(answer: BaseModel | Sequence[BaseModel] | None, status: int = 200) -> Response:
    """A JSON answer; None is an empty one."""
    if answer is None:
        return Response(status_code=204)
    if isinstance(answer, BaseModel):
        text = answer.model_dump_json(by_alias=True)
    else:
        text = f"[{','.join(one.model_dump_json(by_alias=True) for one in answer)}]"
    return Response(text, status_code=status, media_type="application/json")


# --- binding ----------------------------------------------------------------------------------------


def bind(table: Iterable[Operation], prefix: str = "") -> list[Route]:
    """Starlette routes for `table`, in its order; one per path, so that a 405 lists every method."""
    paths: dict[str, dict[str, Operation]] = defaultdict(dict)
    for operation in table:
        paths[prefix + operation.path][operation.method] = operation
    return [Route(path, _Dispatch(methods)) for path, methods in paths.items()]


class _Dispatch:
    """The ASGI endpoint of one path."""

    def __init__(self, methods: dict[str, Operation]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._methods.get(scope["method"])
        if operation is None:
            raise HTTPException(405, headers={"allow": ", ".join(self._methods)})
        response = await operation.endpoint(Request(scope, receive))
        await response(scope, receive, send)


# --- description --------------------------------------------------------------------------------------


def describe(table: Sequence[Operation], *, title: str, version: str, prefix: str = "") -> Json:
    """The OpenAPI 3.1 document of `table`, as JSON values."""
    schemas = _Schemas(table)
    paths: dict[str, JsonValue] = {}
    for operation in table:
        path = _PARAMETER.sub(r"{\1}", prefix + operation.path)
        item = cast("Json", paths.setdefault(path, {}))
        item[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """JSON Schemas of every model in a table; query models become parameters instead."""

    def __init__(self, table: Iterable[Operation]) -> None:
        wanted = list(dict.fromkeys(_models(table)))
        references, document = models_json_schema(
            wanted, ref_template="#/components/schemas/{model}"
        )
        self._references = cast("Mapping[tuple[type[BaseModel], Mode], Json]", references)
        self.components: Json = document.get("$defs", {})
        self._parameters: dict[type[BaseModel], list[JsonValue]] = {}
        for model in {operation.query for operation in table if operation.query}:
            name = str(self._references[model, "validation"]["$ref"]).rpartition("/")[2]
            self._parameters[model] = list(_parameters(cast("Json", self.components.pop(name))))

    def reference(self, model: type[BaseModel], mode: Mode) -> Json:
        return self._references[model, mode]

    def parameters(self, model: type[BaseModel] | None) -> list[JsonValue]:
        return [] if model is None else self._parameters[model]


def _models(table: Iterable[Operation]) -> Iterator[tuple[type[BaseModel], Mode]]:
    yield ErrorResponse, "serialization"
    for operation in table:
        for model in (operation.body, operation.query):
            if model is not None:
                yield model, "validation"
        if operation.response is not None:
            yield operation.response, "serialization"


def _parameters(schema: Json) -> Iterator[Json]:
    required = cast("list[str]", schema.get("required", []))
    for name, described in cast("Json", schema.get("properties", {})).items():
        yield {"name": name, "in": "query", "required": name in required, "schema": described}


def _operation(operation: Operation, schemas: _Schemas) -> Json:
    parameters: list[JsonValue] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if kind == "int" else "string"},
        }
        for name, kind in _PARAMETER.findall(operation.path)
    ]
    described: Json = {
        "summary": operation.summary,
        "operationId": operation.endpoint.__name__,
        "parameters": parameters + schemas.parameters(operation.query),
        "responses": _responses(operation, schemas),
    }
    if operation.body is not None:
        content = {"application/json": {"schema": schemas.reference(operation.body, "validation")}}
        described["requestBody"] = {"required": True, "content": cast("Json", content)}
    return described


def _responses(operation: Operation, schemas: _Schemas) -> Json:
    answer: Json = {"description": operation.summary}
    if operation.response is not None:
        schema = schemas.reference(operation.response, "serialization")
        if operation.many:
            schema = {"type": "array", "items": schema}
        answer["content"] = {operation.media_type: {"schema": schema}}
    responses: Json = {str(operation.status): answer}
    error = {"application/json": {"schema": schemas.reference(ErrorResponse, "serialization")}}
    for status in sorted({400, 500, *operation.errors}):
        responses[str(status)] = {"description": "refused", "content": cast("Json", error)}
    return responses


__all__ = [
    "MAX_REQUEST_BYTES",
    "Operation",
    "bind",
    "describe",
    "query",
    "read",
    "reply",
    "require_json",
]
