"""The scripted model server over loopback: what clients get, and what it can prove afterwards."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from relay_runtime.testing.model_server import ModelServer, Outcome, run_model_server
from relay_runtime.testing.model_server.http import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PATHS = {"anthropic": "/v1/messages", "responses": "/v1/responses", "chat": "/v1/chat/completions"}
ENDS = {"anthropic": "message_stop", "responses": "response.completed", "chat": "[DONE]"}
APIS = sorted(PATHS)
ALONE = [sys.executable, "-m", "relay_runtime.testing.model_server", "--script"]


@pytest.fixture
async def model(anyio_backend: str) -> AsyncIterator[ModelServer]:
    async with run_model_server() as server:
        yield server


@pytest.fixture
async def client(model: ModelServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=model.url, timeout=10) as client:
        yield client


def body(*texts: str, stream: bool = True, **more: object) -> dict[str, object]:
    """A request that all three APIs understand."""
    said = [{"role": "user", "content": text} for text in texts]
    tools = [{"name": "Bash", "function": {"name": "Bash"}}]
    return {"model": "m", "stream": stream, "messages": said, "input": said, "tools": tools, **more}


@pytest.mark.parametrize("api", APIS)
async def test_steps_are_played_in_order_and_then_the_default(
    model: ModelServer, client: httpx.AsyncClient, api: str
) -> None:
    model.script("first", {"shell": "echo hi"})
    said = [(await client.post(PATHS[api], json=body("x"))).text for _ in range(3)]
    assert "first" in said[0]
    assert "echo hi" in said[1]
    assert '"ok"' in said[2]
    assert all(ENDS[api] in text for text in said)


@pytest.mark.parametrize("api", APIS)
async def test_an_answer_without_streaming_is_one_json_object(
    model: ModelServer, client: httpx.AsyncClient, api: str
) -> None:
    model.script({"text": "whole", "shell": "ls", "usage": {"input": 5, "output": 7}})
    answer = (await client.post(PATHS[api], json=body("x", stream=False))).json()
    text = json.dumps(answer)
    assert "whole" in text
    assert '\\"command\\": \\"ls\\"' in text or '"command": "ls"' in text
    assert 5 in answer["usage"].values()
    assert 7 in answer["usage"].values()


@pytest.mark.parametrize("api", APIS)
async def test_a_script_inside_the_conversation_goes_first_and_is_not_disturbed_by_messages(
    model: ModelServer, client: httpx.AsyncClient, api: str
) -> None:
    model.script("from the queue")
    script = 'SCRIPT:[{"text":"one"},{"text":"two"}]:END'
    user = {"role": "user", "content": script}
    done = {"role": "assistant", "content": "one"}
    injected = {"role": "user", "content": "injected"}
    for said, expected in (
        ([user], "one"),
        ([user, done, injected], "two"),
        ([user, done, injected, done], "from the queue"),
    ):
        answer = await client.post(PATHS[api], json=body(messages=said, input=said))
        assert expected in answer.text


@pytest.mark.parametrize("api", APIS)
async def test_a_refusal_has_the_shape_of_its_api_and_is_repeated_as_often_as_told(
    model: ModelServer, client: httpx.AsyncClient, api: str
) -> None:
    model.script({"status": 429, "headers": {"retry-after": "7"}, "times": 2}, "fine")
    for _ in range(2):
        refused = await client.post(PATHS[api], json=body("x"))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "7"
        assert "rate_limit" in json.dumps(refused.json()["error"])
    assert "fine" in (await client.post(PATHS[api], json=body("x"))).text


async def test_an_inline_refusal_is_repeated_too(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    script = 'SCRIPT:[{"status":529,"error":"busy","message":"m","times":2},{"text":"fine"}]:END'
    answers = [await client.post(PATHS["anthropic"], json=body(script)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [529, 529, 200]
    assert answers[0].json()["error"] == {"type": "busy", "message": "m"}


async def test_a_wrong_inline_script_is_told_to_the_client(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATHS["chat"], json=body('SCRIPT:[{"txt":1}]:END'))
    assert answer.status_code == 400
    assert "txt" in answer.json()["error"]["message"]


@pytest.mark.parametrize("api", APIS)
async def test_a_cut_stream_ends_without_its_end(
    model: ModelServer, client: httpx.AsyncClient, api: str
) -> None:
    model.script({"text": "half", "cut": True})
    got = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with client.stream("POST", PATHS[api], json=body("x")) as answer:
            async for piece in answer.aiter_raw():
                got += piece
    assert b"half" in got
    assert ENDS[api].encode() not in got
    assert await model.requests.wait_outcome(model.requests[0], 5) is Outcome.CUT


@pytest.mark.parametrize("hang", ["headers", "start"])
async def test_a_hang_says_nothing_more_and_a_client_that_leaves_is_noticed(
    model: ModelServer, client: httpx.AsyncClient, hang: str
) -> None:
    model.script({"text": "begun", "hang": hang})
    with pytest.raises(httpx.ReadTimeout):
        await client.post(PATHS["anthropic"], json=body("x"), timeout=0.3)
    assert await model.requests.wait_outcome(model.requests[0], 5) is Outcome.ABORTED
    assert (await client.post(PATHS["anthropic"], json=body("x"))).status_code == 200


async def test_pieces_come_one_by_one_and_after_the_delay(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    model.script({"chunks": ["a", "b", "c"], "delay": 0.2, "chunk_delay": 0.1})
    begun = time.monotonic()
    times: list[float] = []
    async with client.stream("POST", PATHS["anthropic"], json=body("x")) as answer:
        async for line in answer.aiter_lines():
            if "text_delta" in line and line.startswith("data"):
                times.append(time.monotonic() - begun)
    assert len(times) == 3
    assert times[0] >= 0.3
    assert times[2] - times[0] >= 0.15


async def test_side_requests_get_a_canned_answer_and_leave_the_script_alone(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    model.script("for the conversation")
    side = await client.post(PATHS["chat"], json=body("title please", tools=[]))
    assert "Scripted session" in side.text
    assert [request.main for request in model.requests] == [False]
    assert model.unplayed == 1


async def test_proofs_count_the_newest_request_of_each_conversation(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    async def ask(session: str, *texts: str) -> None:
        headers = {"x-claude-code-session-id": session, "authorization": "Bearer secret"}
        await client.post(PATHS["anthropic"], json=body(*texts), headers=headers)

    await ask("s1", "M1")
    await ask("s1", "M1", "M3 and M2")
    await ask("s2", "M4")
    log = model.requests
    assert [log.occurrences(marker) for marker in ("M1", "M2", "M4", "M9")] == [1, 1, 1, 0]
    assert log.occurrences("M1", "s2") == 0
    assert log.order(["M1", "M2", "M3", "M9"]) == ["M1", "M3", "M2"]
    assert (seen := log.first_seen("M2")) is not None
    assert (seen.index, seen.conversation) == (1, "s1")
    assert log.first_seen("M9") is None
    assert log.conversations() == ["s1", "s2"]
    assert len(log.main("s1")) == 2
    await ask("s1", "M1", "M1")
    assert log.occurrences("M1") == 2
    assert "secret" not in json.dumps([request.as_json(bodies=True) for request in log])


async def test_waiting_for_a_request_ends_when_it_arrives_or_says_what_came(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.post(PATHS["chat"], json=body("MARK")))
            found = await model.requests.wait("MARK", 5)
    assert found.index == 0
    assert await model.requests.wait(lambda request: request.api == "chat") is found
    with pytest.raises(TimeoutError, match=r"'NEVER'.*chat"):
        await model.requests.wait("NEVER", 0.05)


async def test_another_process_can_script_and_read_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/_health")).json() == {"ok": True, "requests": 0}
    assert (await client.post("/_script", json=["a", {"text": "b"}])).json() == {"unplayed": 2}
    wrong = await client.post("/_script", json=[{"txt": 1}])
    assert (wrong.status_code, "txt" in wrong.text) == (400, True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.post(PATHS["chat"], json=body("MARK")))
        shown = (await client.get("/_requests", params={"since": 0, "wait_s": 5})).json()
    assert [request["texts"] for request in shown] == [["MARK"]]
    assert "body" not in shown[0]
    assert (await client.get("/_requests?bodies=1")).json()[0]["body"]["model"] == "m"
    assert (await client.get("/_requests?since=1")).json() == []
    assert (await client.get("/_requests?since=x")).status_code == 400
    assert (await client.get("/_else")).status_code == 404


async def test_what_a_cli_asks_beside_answers_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.head("/")).status_code == 200
    counted = await client.post("/v1/messages/count_tokens", json=body("x"))
    assert counted.json() == {"input_tokens": 100}
    assert (await client.get("/v1/models")).json()["data"] == []
    assert (await client.get("/v1/responses")).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{{{",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_request_gets_an_answer_and_the_server_lives(
    model: ModelServer, client: httpx.AsyncClient, sent: bytes
) -> None:
    with anyio.fail_after(5):
        async with await connect(model) as stream:
            await stream.send(sent)
            got = await stream.receive()
    assert got.startswith(b"HTTP/1.1 400")
    assert (await client.get("/_health")).status_code == 200


async def test_clients_that_leave_at_any_moment_do_no_harm(
    model: ModelServer, client: httpx.AsyncClient
) -> None:
    content = json.dumps(body("x" * 5000)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    whole = head.encode() + content
    model.script(*["y" * 200_000] * 8)
    for length in (0, 1, 40, len(head), len(head) + 10, len(whole) - 1, len(whole)):
        async with await connect(model) as stream:
            await stream.send(whole[:length])
    assert (await client.get("/_health")).status_code == 200


async def test_requests_in_pieces_and_one_after_the_other_are_read_on_one_connection(
    model: ModelServer,
) -> None:
    content = json.dumps(body("MARK", stream=False)).encode()
    head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    request = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    with anyio.fail_after(10):
        async with await connect(model) as stream:
            for byte in request:
                await stream.send(bytes([byte]))
            await stream.send(request + request)
            got = b""
            while got.count(b'"type": "message"') < 3:
                got += await stream.receive()
    assert model.requests.occurrences("MARK") == 1
    assert len(model.requests) == 3


async def test_a_body_beyond_the_limit_is_refused(model: ModelServer) -> None:
    with anyio.fail_after(30):
        async with await connect(model) as stream:
            length = MAX_BODY + 100_000
            await stream.send(
                f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()
            )
            for _ in range(MAX_BODY // 65_536 + 1):
                await stream.send(b" " * 65_536)
            assert b"larger than" in await stream.receive()


async def connect(model: ModelServer) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp("127.0.0.1", httpx.URL(model.url).port or 0)


async def test_alone_it_prints_its_url_and_stops_at_sigterm_with_answers_open() -> None:
    with anyio.fail_after(20):
        async with await anyio.open_process([*ALONE, '[{"hang":"start"}]']) as server:
            assert server.stdout is not None
            url = (await server.stdout.receive()).decode().strip()
            async with (
                httpx.AsyncClient(base_url=url, timeout=10) as client,
                client.stream("POST", PATHS["chat"], json=body("x")) as answer,
            ):
                assert answer.status_code == 200
                server.send_signal(signal.SIGTERM)
                assert await server.wait() == 0


async def test_alone_it_refuses_a_wrong_script_in_one_line() -> None:
    refused = await anyio.run_process([*ALONE, '[{"txt":1}]'], check=False)
    assert refused.returncode == 2
    assert refused.stderr.count(b"\n") == 1
    assert b"txt" in refused.stderr
