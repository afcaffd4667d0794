"""OpenAI Responses, as Codex speaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .conversation import Asked, Body, Turn, content_texts, merged, objects, text_of
from .dialect import Answer, Dialect, Frame, Reply, ToolCall, sse
from .openai import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = frozenset({"input_text", "text"})
# The terminal interface asks for a title in a thread of its own, with tools.
_TITLE = "Generate a concise, single-line task title"


class Responses(Dialect):
    name = "responses"

    def read(self, body: Body, headers: Mapping[str, str]) -> Asked:
        turns = _turns(body)
        tools = _tools(body)
        title = any(turn.kind == "text" and _TITLE in turn.text for turn in turns)
        return Asked(
            model=text_of(body.get("model")),
            stream=body.get("stream") is True,
            main=bool(tools) and not title,
            conversation=headers.get("thread-id")
            or headers.get("x-session-id")
            or text_of(body.get("prompt_cache_key"))
            or self.name,
            tools=tools,
            turns=turns,
        )

    def stream(self, answer: Answer) -> Reply:
        opening = [_frame("response.created", response=_response(answer, "in_progress", []))]
        closing: list[Frame] = []
        items = _items(answer)
        for index, item in enumerate(items):
            if item["type"] == "message":
                started = {**item, "content": []}
                opening.append(_added(index, started))
                opening += _deltas(index, str(item["id"]), answer.step.pieces)
            else:
                closing.append(_added(index, item))
        done = [
            _frame("response.output_item.done", output_index=index, item=item)
            for index, item in enumerate(items)
        ]
        closing += [*done, _frame("response.completed", response=self.whole(answer))]
        return Reply(tuple(opening), tuple(closing))

    def whole(self, answer: Answer) -> dict[str, object]:
        return _response(answer, "completed", _items(answer))

    def refusal(self, status: int, error: str | None, message: str) -> dict[str, object]:
        return refusal(status, error, message)


def _tools(body: Body) -> frozenset[str]:
    offered = objects(body.get("tools"))
    for item in objects(body.get("input")):
        if item.get("type") == "additional_tools":
            offered += objects(item.get("tools"))
    return frozenset(text_of(tool.get("name")) or text_of(tool.get("type")) for tool in offered)


def _turns(body: Body) -> tuple[Turn, ...]:
    given = body.get("input")
    if isinstance(given, str):
        return (Turn("text", given),)
    turns: list[Turn] = []
    begun = False  # what a developer says before the first user is the system prompt
    for item in objects(given):
        kind, role = text_of(item.get("type")) or "message", item.get("role")
        if kind == "message" and role != "assistant":
            begun = begun or role == "user"
            texts = content_texts(item.get("content"), _TEXT) if begun else []
            turns += [Turn("text", text) for text in texts]
        elif kind.endswith("_output"):
            turns.append(Turn("result"))
        elif kind == "message" or kind.endswith("_call") or kind == "reasoning":
            turns.append(Turn("answer"))
    return merged(turns)


def _items(answer: Answer) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    if answer.step.pieces:
        content = [{"type": "output_text", "text": answer.text, "annotations": []}]
        items.append(
            {
                "type": "message",
                "id": f"msg_{answer.number}",
                "role": "assistant",
                "status": "completed",
                "content": content,
            }
        )
    return items + [_call(answer.number, index, call) for index, call in enumerate(answer.calls)]


def _call(number: int, index: int, call: ToolCall) -> dict[str, object]:
    ids = {"call_id": f"call_{number}_{index}", "name": call.name, "status": "completed"}
    if isinstance(call.args, str):
        return {
            "type": "custom_tool_call",
            "id": f"ctc_{number}_{index}",
            **ids,
            "input": call.args,
        }
    arguments = json.dumps(call.args)
    return {"type": "function_call", "id": f"fc_{number}_{index}", **ids, "arguments": arguments}


def _response(answer: Answer, status: str, output: list[dict[str, object]]) -> dict[str, object]:
    usage = answer.step.usage
    return {
        "id": f"resp_{answer.number}",
        "object": "response",
        "status": status,
        "model": answer.model,
        "output": output,
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input + usage.output,
        },
    }


def _frame(kind: str, *, delta_: bool = False, **fields: object) -> Frame:
    return Frame(sse({"type": kind, **fields}, kind), delta_)


def _added(index: int, item: Mapping[str, object]) -> Frame:
    return _frame("response.output_item.added", output_index=index, item=item)


def _deltas(index: int, item_id: str, pieces: tuple[str, ...]) -> list[Frame]:
    return [
        _frame(
            "response.output_text.delta",
            delta_=True,
            item_id=item_id,
            output_index=index,
            content_index=0,
            delta=piece,
        )
        for piece in pieces
    ]
