"""Errors of the model endpoint, by what the supervisor can do about them."""

from __future__ import annotations

import re
from typing import Final

from relay_runtime.events import ErrorClass

#: Claude's own names for errors (`error` of an assistant line or of `api_retry`).
_NAMED: Final = {
    "authentication_failed": ErrorClass.AUTH,
    "oauth_org_not_allowed": ErrorClass.AUTH,
    "account_on_hold": ErrorClass.AUTH,
    "verification_required": ErrorClass.AUTH,
    "cloud_credential_error": ErrorClass.AUTH,
    "billing_error": ErrorClass.AUTH,
    "rate_limit": ErrorClass.RATE_LIMIT,
    "overloaded": ErrorClass.OVERLOADED,
    "server_error": ErrorClass.OVERLOADED,
}
_STATUS: Final = {
    401: ErrorClass.AUTH,
    402: ErrorClass.AUTH,
    403: ErrorClass.AUTH,
    429: ErrorClass.RATE_LIMIT,
}
_LOGIN: Final = re.compile(r"/login|not logged in|invalid api key|credit balance", re.IGNORECASE)


def error_class(
    name: str | None, status: int | None, text: str = "", *, retried: bool = False
) -> ErrorClass:
    """`retried`: Claude tries again by itself, so that without a name the connection broke."""
    if status is not None and status in _STATUS:
        return _STATUS[status]
    if status is not None and status >= 500:
        return ErrorClass.OVERLOADED
    if name in _NAMED:
        return _NAMED[name]
    if _LOGIN.search(text):
        return ErrorClass.AUTH
    return ErrorClass.OVERLOADED if retried and status is None else ErrorClass.OTHER


__all__ = ["error_class"]
