"""From what a file says to a `Profile`, or to one line on the first thing that is wrong in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from .errors import WrongValue, suggestion
from .model import PATTERNS, Profile

if TYPE_CHECKING:
    from pydantic import JsonValue
    from pydantic_core import ErrorDetails

    from .document import Document, KeyPath

_JSON_NAMES = {
    "dict": "an object",
    "list": "a list",
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "a truth value",
    "NoneType": "null",
}


def validate(document: Document, name: str | None) -> Profile:
    """The profile that is the whole of `document`, or its member `name`. Raises `WrongValue`."""
    at: KeyPath = () if name is None else (name,)
    raw: JsonValue = document.data if name is None else document.data[name]
    if name is None:
        raw = {key: value for key, value in document.data.items() if key != "$schema"}
    if not isinstance(raw, dict):
        wrong = f"a profile is an object ({{…}}), this is {_json_name(raw)}"
        raise WrongValue(wrong, file=str(document.path), line=document.line(at), key=name)
    try:
        # JSON mode is strict about types (no "5" for 5) and still takes enum values as text.
        return Profile.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise _explain(error, document, at) from None


def _explain(error: ValidationError, document: Document, at: KeyPath) -> WrongValue:
    details = error.errors(include_url=False)
    # A misspelt field explains the others that it causes.
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    path = (*at, *first["loc"])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    key = ".".join(str(part) for part in path if part != "[key]")
    return WrongValue(
        problem(first) + more, file=str(document.path), line=document.line(path), key=key
    )


def problem(detail: ErrorDetails) -> str:
    """One of pydantic's findings as we say it."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return "no such field" + suggestion(str(detail["loc"][-1]), _fields(detail["loc"][:-1]))
        case "enum":
            allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
            given = detail["input"]
            near = suggestion(given, allowed) if isinstance(given, str) else ""
            return f"must be {context['expected']}" + (near if "mean" in near else "")
        case "string_pattern_mismatch":
            return PATTERNS[str(context["pattern"])]
        case "value_error":
            return str(context["error"])
        case kind if kind.endswith("_type"):
            wanted = detail["msg"].removeprefix("Input should be ")
            return f"must be {wanted}, this is {_json_name(detail['input'])}"
        case _:
            # Values stay out of messages: what stands in `env` may be a secret.
            return detail["msg"].replace("Input should", "must").replace("String should", "must")


def _fields(at: tuple[int | str, ...]) -> set[str]:
    """Names of the fields that the part of a profile at `at` has."""
    model: type[BaseModel] = Profile
    for part in at:
        annotation = model.model_fields[str(part)].annotation
        # Only parts of a profile refuse unknown fields, so that is what stands on the way to one.
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return set(model.model_fields)


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value).__name__, "something else")


__all__ = ["problem", "validate"]
