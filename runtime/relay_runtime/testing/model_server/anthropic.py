"""Anthropic Messages, as Claude Code speaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .conversation import Asked, Body, Turn, content_texts, merged, objects, text_of
from .dialect import Answer, Dialect, Frame, Reply, ToolCall, sse

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = frozenset({"text"})
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class Anthropic(Dialect):
    name = "anthropic"

    def read(self, body: Body, headers: Mapping[str, str]) -> Asked:
        tools = frozenset(text_of(tool.get("name")) for tool in objects(body.get("tools")))
        return Asked(
            model=text_of(body.get("model")),
            stream=body.get("stream") is True,
            main=bool(tools),
            conversation=headers.get("x-claude-code-session-id")
            or headers.get("x-session-id")
            or self.name,
            tools=tools,
            turns=_turns(body),
        )

    def stream(self, answer: Answer) -> Reply:
        opening = [_frame("message_start", message=_message(answer))]
        closing: list[Frame] = []
        text_blocks = 0
        if answer.step.pieces:
            opening.append(_block_start(0, {"type": "text", "text": ""}))
            opening += [_delta(0, "text_delta", "text", text) for text in answer.step.pieces]
            closing.append(_frame("content_block_stop", index=0))
            text_blocks = 1
        for index, block in enumerate(_tool_blocks(answer), text_blocks):
            closing.append(_block_start(index, {**block, "input": {}}))
            closing.append(
                _delta(index, "input_json_delta", "partial_json", json.dumps(block["input"]))
            )
            closing.append(_frame("content_block_stop", index=index))
        stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
        usage = {"output_tokens": answer.step.usage.output}
        closing += [_frame("message_delta", delta=stop, usage=usage), _frame("message_stop")]
        return Reply(tuple(opening), tuple(closing))

    def whole(self, answer: Answer) -> dict[str, object]:
        text = [{"type": "text", "text": answer.text}] if answer.step.pieces else []
        content = [*text, *_tool_blocks(answer)]
        message = _message(answer)
        usage = {"input_tokens": answer.step.usage.input, "output_tokens": answer.step.usage.output}
        return {**message, "content": content, "stop_reason": _stop_reason(answer), "usage": usage}

    def refusal(self, status: int, error: str | None, message: str) -> dict[str, object]:
        kind = error or _ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}


def _turns(body: Body) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for message in objects(body.get("messages")):
        if message.get("role") == "assistant":
            turns.append(Turn("answer"))
            continue
        content = message.get("content")
        if any(block.get("type") == "tool_result" for block in objects(content)):
            turns.append(Turn("result"))
        turns += [Turn("text", text) for text in content_texts(content, _TEXT)]
    return merged(turns)


def _message(answer: Answer) -> dict[str, object]:
    return {
        "id": f"msg_scripted{answer.number:08d}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.step.usage.input,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    }


def _stop_reason(answer: Answer) -> str:
    return "tool_use" if answer.calls else "end_turn"


def _tool_blocks(answer: Answer) -> list[dict[str, object]]:
    return [
        {
            "type": "tool_use",
            "id": f"toolu_scripted{answer.number:08d}{index:02d}",
            "name": call.name,
            "input": _arguments(call),
        }
        for index, call in enumerate(answer.calls)
    ]


def _arguments(call: ToolCall) -> Mapping[str, object]:
    return {"input": call.args} if isinstance(call.args, str) else call.args


def _frame(kind: str, *, delta_: bool = False, **fields: object) -> Frame:
    return Frame(sse({"type": kind, **fields}, kind), delta_)


def _block_start(index: int, block: Mapping[str, object]) -> Frame:
    return _frame("content_block_start", index=index, content_block=block)


def _delta(index: int, kind: str, key: str, value: str) -> Frame:
    delta = {"type": kind, key: value}
    return _frame("content_block_delta", delta_=key == "text", index=index, delta=delta)
