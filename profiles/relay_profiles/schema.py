"""The JSON Schema of a file with named profiles, for editors and for other tools.

The schema of one profile is `#/$defs/Profile` in it. Descriptions are the docstrings under the
fields in `model.py`, read here rather than when the models are built: a spawn does not need them.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

from pydantic.json_schema import models_json_schema

from . import model

if TYPE_CHECKING:
    from pydantic import JsonValue


def schema() -> dict[str, JsonValue]:
    """The schema, as JSON. It equals `profiles.schema.json` beside this module."""
    _, generated = models_json_schema([(model.Profile, "validation")])
    definitions: dict[str, JsonValue] = generated["$defs"]
    for name, fields in _docstrings().items():
        definition = definitions[name]
        assert isinstance(definition, dict)
        properties = definition["properties"]
        assert isinstance(properties, dict)
        for field, text in fields.items():
            described = properties[field]
            assert isinstance(described, dict)
            described["description"] = text
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "relay-runtime profiles",
        "description": "Named settings for agent sessions, such as .relay/profiles.json.",
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
        "additionalProperties": {"$ref": "#/$defs/Profile"},
        "$defs": definitions,
    }


def _docstrings() -> dict[str, dict[str, str]]:
    """Of each model, the docstring that stands under each of its fields."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(model)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            match field, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                    value=ast.Constant(value=str(text))
                ):
                    found.setdefault(node.name, {})[name] = text
                case _:
                    pass
    return found


__all__ = ["schema"]
