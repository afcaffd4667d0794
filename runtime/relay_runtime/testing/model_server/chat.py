"""OpenAI chat completions, as OpenCode speaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .conversation import Asked, Body, Turn, content_texts, merged, objects, text_of
from .dialect import Answer, Dialect, Frame, Reply, sse
from .openai import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = frozenset({"text"})
_TITLE = "title generator"


class Chat(Dialect):
    name = "chat"

    def read(self, body: Body, headers: Mapping[str, str]) -> Asked:
        functions = [tool.get("function") for tool in objects(body.get("tools"))]
        tools = frozenset(text_of(item.get("name")) for item in functions if isinstance(item, dict))
        return Asked(
            model=text_of(body.get("model")),
            stream=body.get("stream") is True,
            main=bool(tools) and not _asks_title(body),
            conversation=headers.get("x-session-id") or self.name,
            tools=tools,
            turns=_turns(body),
        )

    def stream(self, answer: Answer) -> Reply:
        opening = [_chunk(answer, {"role": "assistant", "content": ""})]
        opening += [_chunk(answer, {"content": text}, delta=True) for text in answer.step.pieces]
        closing: list[Frame] = []
        for index, call in enumerate(_calls(answer)):
            function = {"name": call["name"], "arguments": ""}
            head = {"index": index, "id": call["id"], "type": "function", "function": function}
            body = {"index": index, "function": {"arguments": call["arguments"]}}
            closing += [_chunk(answer, {"tool_calls": [part]}) for part in (head, body)]
        closing.append(_chunk(answer, {}, finish=_finish(answer)))
        closing.append(
            Frame(sse({**_head(answer, "chunk"), "choices": [], "usage": _usage(answer)}))
        )
        closing.append(Frame(sse("[DONE]")))
        return Reply(tuple(opening), tuple(closing))

    def whole(self, answer: Answer) -> dict[str, object]:
        message: dict[str, object] = {"role": "assistant", "content": answer.text}
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in _calls(answer)
            ]
        choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
        return {**_head(answer, ""), "choices": [choice], "usage": _usage(answer)}

    def refusal(self, status: int, error: str | None, message: str) -> dict[str, object]:
        return refusal(status, error, message)


def _asks_title(body: Body) -> bool:
    systems = [m for m in objects(body.get("messages")) if m.get("role") == "system"]
    return any(_TITLE in text for m in systems for text in content_texts(m.get("content"), _TEXT))


def _turns(body: Body) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    begun = False  # system messages before the first user message are the system prompt
    for message in objects(body.get("messages")):
        role = message.get("role")
        begun = begun or role == "user"
        if role == "assistant":
            turns.append(Turn("answer"))
        elif role == "tool":
            turns.append(Turn("result"))
        elif begun:
            turns += [Turn("text", text) for text in content_texts(message.get("content"), _TEXT)]
    return merged(turns)


def _head(answer: Answer, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{answer.number}",
        "object": f"chat.completion.{kind}".rstrip("."),
        "created": 0,
        "model": answer.model,
    }


def _chunk(
    answer: Answer, content: Mapping[str, object], *, delta: bool = False, finish: str | None = None
) -> Frame:
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    return Frame(sse({**_head(answer, "chunk"), "choices": [choice]}), delta)


def _calls(answer: Answer) -> list[dict[str, str]]:
    return [
        {
            "id": f"call_{answer.number}_{index}",
            "name": call.name,
            "arguments": call.args if isinstance(call.args, str) else json.dumps(call.args),
        }
        for index, call in enumerate(answer.calls)
    ]


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _usage(answer: Answer) -> dict[str, int]:
    usage = answer.step.usage
    total = usage.input + usage.output
    return {"prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": total}
