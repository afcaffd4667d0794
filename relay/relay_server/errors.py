"""Refusals with a stable code, and how they look on the wire. No I/O: any HTTP API can use them.

    ApiError
    ├── BadRequest       400  the request itself is wrong: fix it
    │   └── Unprocessable 422  well-formed JSON that is not what the route takes
    ├── NotFound         404  there is no such thing
    ├── Conflict         409  it contradicts what is there
    ├── TooLarge         413
    └── Busy             503  try again later

The axis is what the caller can do; `code` says the rest and never changes its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_client.types import PATTERNS, ErrorBody, ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

# One wrong list of a thousand items must not make an answer of a megabyte.
MAX_PROBLEMS = 5


class ApiError(Exception):
    """A request refused. `message` is one line that says what to do; `code` is for programs."""

    status = 400

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        candidates: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.candidates = list(candidates)
        self.headers = dict(headers or {})
        if status is not None:
            self.status = status

    def body(self) -> bytes:
        """The JSON that goes out."""
        return error_json(self.code, self.message, self.candidates)


class BadRequest(ApiError):
    """Raised when a request cannot be understood."""


class Unprocessable(BadRequest):
    """Raised when a request is understood and its content is not acceptable."""

    status = 422


class NotFound(ApiError):
    """Raised when what a request names does not exist."""

    status = 404


class Conflict(ApiError):
    """Raised when a request contradicts the present state."""

    status = 409


class TooLarge(ApiError):
    """Raised when a request or a part of it exceeds its limit."""

    status = 413


class Busy(ApiError):
    """Raised when the same request may succeed later. `retry_after` is in seconds."""

    status = 503

    def __init__(self, code: str, message: str, retry_after: int = 1) -> None:
        super().__init__(code, message, headers={"retry-after": str(retry_after)})


def error_json(code: str, message: str, candidates: Sequence[str] = ()) -> bytes:
    """An `ErrorResponse` as bytes."""
    body = ErrorBody(code=code, message=message, candidates=list(candidates))
    return ErrorResponse(error=body).model_dump_json().encode()


def invalid(error: ValidationError) -> ApiError:
    """What pydantic found, as a refusal: 400 for what is no JSON, 422 for the wrong JSON.

    Names fields and problems, never repeats values: they may be secret, huge or hostile.
    """
    problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return BadRequest("invalid_json", problems[0]["msg"])
    told = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {_sentence(problem)}"
        for problem in problems[:MAX_PROBLEMS]
    ]
    if len(problems) > MAX_PROBLEMS:
        told.append(f"and {len(problems) - MAX_PROBLEMS} more")
    return Unprocessable("invalid_request", "; ".join(told))


def _sentence(problem: ErrorDetails) -> str:
    pattern = problem.get("ctx", {}).get("pattern")
    message = PATTERNS.get(str(pattern)) or problem["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


__all__ = [
    "ApiError",
    "BadRequest",
    "Busy",
    "Conflict",
    "NotFound",
    "TooLarge",
    "Unprocessable",
    "error_json",
    "invalid",
]
