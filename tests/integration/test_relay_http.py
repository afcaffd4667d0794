"""The HTTP API: its answers, and a stable code for every refusal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from relay_client.types import MAX_BODY_BYTES, ErrorResponse
from relay_server import app as app_module
from relay_server.api import MAX_MESSAGE_REQUEST_BYTES

from .relays import LOCAL, PATIENCE_S, agent, http, message, receipt, relay_in, served_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
HELLO = {"from": "ann", "to": "a", "body": "hello"}


async def test_a_message_goes_the_whole_way(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        registered = await api.post("/agents", json={"id": "a", "name": "n", "runtime_id": "rt"})
        assert registered.status_code == 200
        sent = await api.post("/messages", json=HELLO)
        assert sent.status_code == 201
        message_id = sent.json()["message_id"]
        (delivery,) = sent.json()["deliveries"]
        work = (await api.get("/runtimes/rt/deliveries?after=0")).json()
        assert work["deliveries"][0]["delivery_id"] == delivery["delivery_id"]
        assert work["deliveries"][0]["message"]["from"] == "ann"
        assert work["relay_id"] == relay.store.relay_id
        report = {
            "receipt_id": "r1",
            "delivery_id": delivery["delivery_id"],
            "status": "delivered",
            "evidence": {"kind": "k", "reference": "u", "turn_id": None},
            "at": 5,
        }
        told = (await api.post("/receipts", json={"receipts": [report]})).json()
        assert told["results"][0]["outcome"] == "recorded"
        found = (await api.get(f"/messages/{message_id}/receipts")).json()
        assert found["deliveries"][0]["evidence"] == report["evidence"]
        assert found["receipts"][0]["at"] == 5
        assert (await api.get(f"/messages/{message_id}")).json()["body"] == "hello"
        assert len((await api.get(f"/messages/{message_id}/thread")).json()) == 1
        inbox = (await api.get("/messages?for=a")).json()
        assert inbox["messages"][0]["delivery_id"] == delivery["delivery_id"]
        assert (await api.get("/messages?for=a&unread=true")).json()["messages"] == []
        assert (await api.get("/messages/cursor")).json() == {"cursor": 1}
        stats = (await api.get("/stats")).json()
        assert stats["deliveries"] == {"delivered": 1}
        assert stats["messages"] == 1


async def test_agents_are_managed_over_http(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await api.post("/agents", json={"id": "a", "name": "n", "capabilities": ["review"]})
        assert len((await api.get("/agents?status=online")).json()) == 1
        assert (await api.get("/agents/find?capability=review")).json()[0]["id"] == "a"
        assert (await api.post("/agents/a/heartbeat")).json()["status"] == "online"
        assert (await api.post("/agents/a/heartbeat", json={"status": "busy"})).json()[
            "status"
        ] == "busy"
        assert (await api.patch("/agents/a/label", json={"label": "l"})).json()["label"] == "l"
        beat = await api.post("/runtimes/rt/heartbeat", json={"agents": {"a": "idle"}})
        assert beat.json() == {"unknown": ["a"]}
        gone = await api.delete("/agents/a")
        assert (gone.status_code, gone.content) == (204, b"")


async def test_a_repeated_key_is_told_from_a_new_message_by_its_status(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await relay.store.register(agent("a"))
        answers = [await api.post("/messages", json=HELLO | {"idempotency_key": "k"}) for _ in "12"]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert answers[0].json() == answers[1].json()


async def test_every_answer_says_the_version_and_health_is_at_both_places(tmp_path: Path) -> None:
    async with relay_in(tmp_path, token="t") as relay, http(relay) as api:
        for path in ("/health", "/stats", "/nothing"):
            assert (await api.get(path)).headers["x-relay-version"]
        outside = await api.get(f"{LOCAL}/health")
        assert outside.json()["status"] == "ok"


async def test_the_description_names_every_route_that_answers(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        document = (await api.get("/openapi.json")).json()
        assert document == (await api.get(f"{LOCAL}/openapi.json")).json()
        for path, operations in document["paths"].items():
            for method in operations:
                if path == "/api/events":
                    continue  # does not end
                url = LOCAL + path.replace("{id}", "1")
                answer = await api.request(method, url, json={})
                assert answer.status_code != 405, (method, path)
                assert str(answer.status_code) in operations[method]["responses"], (method, path)


REFUSALS = [
    # what is no JSON
    ("POST", "/messages", b"{", JSON, 400, "invalid_json"),
    ("POST", "/messages", b"", JSON, 400, "invalid_json"),
    ("POST", "/messages", b'{"from":"a","to":"a","body":"\xff"}', JSON, 400, "invalid_json"),
    ("POST", "/messages", b'{"from":"a","to":"a","body":"\\ud800"}', JSON, 400, "invalid_json"),
    ("POST", "/messages", b'{"meta":' + b"[" * 100_000, JSON, 400, "invalid_json"),
    ("POST", "/messages", b"\xef\xbb\xbf{}", JSON, 400, "invalid_json"),
    ("POST", "/agents", b"[", JSON, 400, "invalid_json"),
    # what is the wrong JSON
    ("POST", "/messages", b"[]", JSON, 422, "invalid_request"),
    ("POST", "/messages", b"null", JSON, 422, "invalid_request"),
    ("POST", "/messages", {"from": "a", "to": "a"}, JSON, 422, "invalid_request"),
    ("POST", "/messages", HELLO | {"boddy": "typo"}, JSON, 422, "invalid_request"),
    ("POST", "/messages", HELLO | {"mode": "later"}, JSON, 422, "invalid_request"),
    ("POST", "/messages", HELLO | {"thread_id": 2**63}, JSON, 422, "invalid_request"),
    ("POST", "/agents", {"id": "a/b", "name": "n"}, JSON, 422, "invalid_request"),
    ("POST", "/receipts", {"receipts": []}, JSON, 422, "invalid_request"),
    ("PATCH", "/agents/a/label", {"label": "a\nb"}, JSON, 422, "invalid_request"),
    ("POST", "/agents/a/heartbeat", {"status": "dead"}, JSON, 422, "invalid_request"),
    # what is not JSON at all
    ("POST", "/messages", b"from=a", {}, 415, "unsupported_media_type"),
    ("POST", "/messages", b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    ("POST", "/agents", b"{}", {"content-type": "text/json"}, 415, "unsupported_media_type"),
    ("POST", "/agents/a/heartbeat", b"x", {}, 415, "unsupported_media_type"),
    # what is too much
    ("POST", "/agents", b" " * 1_100_000, JSON, 413, "request_too_large"),
    (
        "POST",
        "/messages",
        HELLO | {"body": "x" * (MAX_BODY_BYTES + 1)},
        JSON,
        413,
        "body_too_large",
    ),
    ("POST", "/messages", b" " * (MAX_MESSAGE_REQUEST_BYTES + 1), JSON, 413, "request_too_large"),
    # what is not there
    ("POST", "/messages", HELLO | {"to": "nobody"}, JSON, 404, "no_recipients"),
    ("POST", "/messages", HELLO | {"thread_id": 99}, JSON, 404, "unknown_thread"),
    ("GET", "/agents/x", None, {}, 404, "unknown_agent"),
    ("DELETE", "/agents/x", None, {}, 404, "unknown_agent"),
    ("POST", "/agents/x/heartbeat", None, {}, 404, "unknown_agent"),
    ("PATCH", "/agents/x/label", {"label": None}, JSON, 404, "unknown_agent"),
    ("GET", "/messages?for=x", None, {}, 404, "unknown_agent"),
    ("GET", "/messages/99", None, {}, 404, "unknown_message"),
    ("GET", "/messages/99/thread", None, {}, 404, "unknown_message"),
    ("GET", "/messages/99/receipts?wait_s=60", None, {}, 404, "unknown_message"),
    ("GET", "/nothing", None, {}, 404, "not_found"),
    ("GET", "/agents/", None, {}, 404, "not_found"),
    ("GET", f"{LOCAL}/", None, {}, 404, "not_found"),
    ("GET", f"{LOCAL}/apix", None, {}, 404, "not_found"),
    ("GET", "/agents/..%2f..%2fetc%2fpasswd", None, {}, 404, "not_found"),
    # what is done the wrong way
    ("PUT", "/agents", {}, JSON, 405, "method_not_allowed"),
    ("DELETE", "/messages", None, {}, 405, "method_not_allowed"),
    ("HEAD", "/stats", None, {}, 405, ""),
    ("POST", "/messages", HELLO | {"to": "twin"}, JSON, 409, "ambiguous_target"),
    ("POST", "/messages", HELLO | {"to": "tag:"}, JSON, 422, "invalid_target"),
    ("POST", "/messages", HELLO | {"idempotency_key": "k"}, JSON, 409, "idempotency_conflict"),
    ("GET", "/runtimes/rt/deliveries?after=99", None, {}, 409, "unknown_cursor"),
    ("GET", "/messages?for=a&after=99", None, {}, 409, "unknown_cursor"),
    ("GET", "/events?after=9999", None, {}, 409, "unknown_cursor"),
    # what is asked wrongly
    ("GET", "/agents?colour=red", None, {}, 422, "invalid_request"),
    ("GET", "/agents?tag=a&tag=b", None, {}, 400, "repeated_parameter"),
    ("GET", "/agents?status=dead", None, {}, 422, "invalid_request"),
    ("GET", "/agents/find", None, {}, 422, "invalid_request"),
    ("GET", "/messages", None, {}, 422, "invalid_request"),
    ("GET", "/messages?for=a&limit=0", None, {}, 422, "invalid_request"),
    ("GET", "/messages?for=a&limit=501", None, {}, 422, "invalid_request"),
    ("GET", "/messages?for=a&after=-1", None, {}, 422, "invalid_request"),
    ("GET", "/messages?for=a&after=99999999999999999999", None, {}, 422, "invalid_request"),
    ("GET", "/messages/x", None, {}, 400, "invalid_message_id"),
    ("GET", "/messages/-1", None, {}, 400, "invalid_message_id"),
    ("GET", "/messages/99999999999999999999", None, {}, 400, "invalid_message_id"),
    ("GET", "/messages/1/receipts?until=read", None, {}, 422, "invalid_request"),
    ("GET", "/messages/1/receipts?wait_s=nan", None, {}, 422, "invalid_request"),
    ("GET", "/runtimes/rt/deliveries?wait_s=61", None, {}, 422, "invalid_request"),
    ("GET", "/events?after=x", None, {}, 422, "invalid_request"),
    ("GET", "/events", None, {"last-event-id": "x"}, 400, "invalid_cursor"),
    # who may not
    ("GET", "/stats", None, {"host": "evil.example"}, 403, "host_not_allowed"),
    ("GET", "/stats", None, {"origin": "https://evil.example"}, 403, "origin_not_allowed"),
    ("POST", "/messages", HELLO, JSON | {"origin": "null"}, 403, "origin_not_allowed"),
    ("OPTIONS", "/messages", None, {"origin": "https://evil.example"}, 403, "origin_not_allowed"),
]


@pytest.fixture
async def peopled(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A relay that has a message, an idempotency key, and two agents of one name."""
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        for twin in ("t1", "t2"):
            await relay.store.register(agent(twin, name="twin"))
        await relay.store.send(message("a", "other", sender="ann", idempotency_key="k"))
        yield api


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    REFUSALS,
    ids=[f"{method}-{path[:40]}-{code}-{n}" for n, (method, path, *_, code) in enumerate(REFUSALS)],
)
async def test_every_refusal_is_json_with_a_stable_code(
    peopled: httpx.AsyncClient,
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with anyio.fail_after(PATIENCE_S):
        answer = await peopled.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    if method != "HEAD":
        error = ErrorResponse.model_validate_json(answer.content).error
        assert error.code == code
        assert 0 < len(error.message) < 500
        assert "\n" not in error.message


async def test_a_method_that_is_not_allowed_is_told_which_are(peopled: httpx.AsyncClient) -> None:
    answer = await peopled.put("/agents/a")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "DELETE"}


async def test_the_token_is_asked_for(tmp_path: Path) -> None:
    async with relay_in(tmp_path, token="secret") as relay, http(relay) as api:
        answer = await api.post("/messages", json=HELLO)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"
        allowed = await api.get("/stats", headers={"authorization": "Bearer secret"})
        assert allowed.status_code == 200


async def test_a_page_of_an_allowed_origin_can_ask_and_read(tmp_path: Path) -> None:
    origin = {"origin": "https://app.example"}
    async with (
        relay_in(tmp_path, token="t", cors_origins=frozenset({"https://app.example"})) as relay,
        http(relay) as api,
    ):
        preflight = await api.options("/messages", headers=origin)
        assert preflight.status_code == 204
        assert "content-type" in preflight.headers["access-control-allow-headers"]
        refused = await api.get("/stats", headers=origin)  # and the page can read why
        assert refused.status_code == 401
        answer = await api.get("/stats", headers=origin | {"authorization": "Bearer t"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


async def test_an_unforeseen_error_is_a_500_with_an_id_that_stands_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        relay.store._reader.close()
        with caplog.at_level(logging.ERROR):
            answer = await api.get("/agents")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "internal")
        reference = error["message"].rpartition(" ")[2]
        assert reference in caplog.text
        assert "ProgrammingError" in caplog.text
        assert "Programming" not in answer.text
        relay.store._reader = relay.store._writer.reader()


async def test_a_full_disk_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await relay.store.register(agent("a"))
        writer = relay.store._writer
        await writer.run(lambda conn: conn.execute("PRAGMA max_page_count = 30").fetchall())
        answer = await api.post("/messages", json=HELLO | {"body": "x" * 500_000})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "storage_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        await writer.run(lambda conn: conn.execute("PRAGMA max_page_count = 99999").fetchall())
        assert (await api.post("/messages", json=HELLO)).status_code == 201


async def test_more_requests_than_the_relay_holds_are_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "MAX_REQUESTS", 2)
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await relay.store.register(agent("a", runtime_id="rt"))
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(api.get, "/runtimes/rt/deliveries?wait_s=30")
            await anyio.wait_all_tasks_blocked()
            answer = await api.get("/stats")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "busy"
            await relay.store.send(message("a"))  # lets both polls go
        assert (await api.get("/stats")).status_code == 200


# --- over a real socket -----------------------------------------------------------------------------


async def test_a_megabyte_written_as_escapes_is_taken_over_tcp(tmp_path: Path) -> None:
    body = '{"from":"ann","to":"a","body":"' + "\\u0000" * MAX_BODY_BYTES + '"}'
    async with served_in(tmp_path) as (relay, url), httpx.AsyncClient(timeout=PATIENCE_S) as web:
        await relay.store.register(agent("a", runtime_id="rt"))
        answer = await web.post(f"{url}/api/messages", content=body, headers=JSON)
        assert answer.status_code == 201
        work = await web.get(f"{url}/api/runtimes/rt/deliveries")
        assert work.json()["deliveries"][0]["message"]["body"] == "\0" * MAX_BODY_BYTES


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_request_that_is_too_large_gets_its_answer_over_tcp(
    tmp_path: Path, chunked: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    async with served_in(tmp_path) as (_, url), httpx.AsyncClient(timeout=PATIENCE_S) as web:
        content = pieces() if chunked else b" " * (160 * 65_536)
        answer = await web.post(f"{url}/api/messages", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert (await web.get(f"{url}/health")).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"403"),  # no Host
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"403"),
        (b"GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"400",
        ),
    ],
)
async def test_what_no_proper_client_sends_is_refused_as_json_too(
    tmp_path: Path, sent: bytes, status: bytes
) -> None:
    async with served_in(tmp_path) as (_, url):
        port = int(url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(sent)
            with anyio.fail_after(PATIENCE_S):
                answer = await stream.receive()
                while b"}}" not in answer:
                    answer += await stream.receive()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"application/json" in answer
        assert b"x-relay-version" in answer


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_in(tmp_path) as (_, url):
        port = int(url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(
                b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
        async with httpx.AsyncClient() as web:
            assert (await web.get(f"{url}/health")).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_small_answer_is_one_packet(tmp_path: Path) -> None:
    async with served_in(tmp_path) as (_, url):
        port = int(url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for _ in range(20):
                await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                with anyio.fail_after(PATIENCE_S):
                    answer = await stream.receive()
                assert answer.endswith(b"}"), answer


async def test_receipts_of_a_thousand_deliveries_fit_one_report(tmp_path: Path) -> None:
    async with relay_in(tmp_path) as relay, http(relay) as api:
        await relay.store.register(agent("a"))
        sent = await relay.store.send(message("a"))
        name = json.loads(sent.answer())["deliveries"][0]["delivery_id"]
        reports = [
            receipt(name, "deferred", n, reason="ü" * 1000).model_dump(mode="json")
            for n in range(1000)
        ]
        told = await api.post("/receipts", json={"receipts": reports}, timeout=PATIENCE_S)
        assert [one["ok"] for one in told.json()["results"]] == [True] * 1000
        over = await api.post("/receipts", json={"receipts": reports + reports[:1]})
        assert over.json()["error"]["code"] == "invalid_request"
