"""A hook of the agent: posts what it gets on stdin to the session's holder.

    python -I -S hook.py SOCKET post   and be done
    python -I -S hook.py SOCKET ask    wait for an answer, print it
    python -I -S hook.py SOCKET wake   wait for an answer, print it on stderr and exit with 2

The agent waits for this before each tool, so it must start in milliseconds: one file, and of the
standard library only what the interpreter has loaded anyway. When no holder answers it ends
with 0 and says nothing: the agent's work is not held up by ours.
"""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

HELLO, REQUEST, REPLY = 1, 2, 3
#: A line of the holder's log, less room for the escapes of JSON in JSON.
MAX_LINE = 1024 * 1024 - 1024
#: Of one text in a line that is too long.
MAX_TEXT = 32 * 1024


def main(address: str, mode: str) -> int:
    line = shortened(everything().decode("utf-8", "replace").strip())
    if not line.startswith("{"):
        return 0
    comma = "" if line[1:].lstrip().startswith("}") else ","
    line = f'{{"mode":"{mode}","pid":{posix.getppid()}{comma}{line[1:]}'.replace("\n", " ")
    from _json import encode_basestring_ascii

    wait = {"post": "false", "ask": "true"}.get(mode, '"latest"')
    request = f'{{"id":1,"op":"hook","wait":{wait},"line":{encode_basestring_ascii(line)}}}'
    try:
        answer = exchange(address, request.encode())
    except (OSError, EOFError):
        return 0
    if mode == "post" or answer is None:
        return 0
    unsaid = answer.encode()
    while unsaid:
        unsaid = unsaid[posix.write(2 if mode == "wake" else 1, unsaid) :]
    return 2 if mode == "wake" else 0


def everything() -> bytes:
    """Of stdin."""
    pieces = []
    while piece := posix.read(0, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def exchange(address: str, request: bytes) -> "str | None":
    """The answer to the request; None when there is none. Raises `OSError` and `EOFError`."""
    import _socket

    folder, _, name = address.rpartition("/")
    posix.chdir(folder)  # an address may be longer than a socket's name can be
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.connect(name)
    unsent = frame(HELLO, b'{"protocol":1,"min":1}') + frame(REQUEST, request)
    while unsent:
        unsent = unsent[sock.send(unsent) :]
    while True:
        head = received(sock, 5)
        payload = received(sock, int.from_bytes(head[1:], "big"))
        if head[0] == REPLY:
            import json

            answer = json.loads(payload).get("ok", {}).get("answer")
            return answer if isinstance(answer, str) else None


def frame(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + len(payload).to_bytes(4, "big") + payload


def received(sock: "socket", size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def shortened(line: str) -> str:
    """`line` with its texts cut, when the holder would not take it as it is."""
    if len(line) <= MAX_LINE:
        return line
    import json

    def cut(value: object, limit: int) -> object:
        if isinstance(value, str):
            return value[:limit]
        if isinstance(value, list):
            return [cut(item, limit) for item in value]
        if isinstance(value, dict):
            return {name: cut(item, limit) for name, item in value.items()}
        return value

    try:
        parsed = json.loads(line)
    except ValueError:
        return ""
    limit = MAX_TEXT
    while len(line) > MAX_LINE and limit:
        line = json.dumps(cut(parsed, limit))
        limit //= 8
    return line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
