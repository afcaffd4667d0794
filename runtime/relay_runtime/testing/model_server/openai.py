"""How both OpenAI APIs refuse."""

from __future__ import annotations

_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def refusal(status: int, error: str | None, message: str) -> dict[str, object]:
    """`error` replaces both type and code: clients look at either."""
    kind, code = _TYPES.get(status, ("server_error", "server_error"))
    return {"error": {"message": message, "type": error or kind, "code": error or code}}
