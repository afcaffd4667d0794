"""What can be done about an error that OpenCode reports. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from relay_runtime.events import ErrorClass, ErrorInfo

if TYPE_CHECKING:
    from .protocol import Failure, StatusSeen

_RATE = re.compile(
    r"429|rate.?limit|too many requests|usage limit|quota|exceeded your|free usage", re.IGNORECASE
)
_BUSY = re.compile(
    r"overloaded|unavailable|internal.?error|server.?error|time[d ]?.?out|reset|cannot connect|"
    r"connection|socket|fetch failed|econn|enotfound|eai_again|at capacity|\b5\d\d\b",
    re.IGNORECASE,
)
#: 402: no credit left. Only a human can change any of these.
_AUTH_STATUS = frozenset({401, 402, 403})


def classify(failure: Failure) -> ErrorClass:
    """The class of an error that ended a turn."""
    if failure.name == "ProviderAuthError" or failure.status in _AUTH_STATUS:
        return ErrorClass.AUTH
    if failure.status == 429 or (failure.status is None and _RATE.search(failure.message)):
        return ErrorClass.RATE_LIMIT
    if failure.status is not None:
        return ErrorClass.OVERLOADED if failure.status >= 500 else ErrorClass.OTHER
    passing = failure.retryable or failure.name in ("APIError", "UnknownError")
    if passing and _BUSY.search(failure.message):
        return ErrorClass.OVERLOADED
    return ErrorClass.OTHER


def describe(failure: Failure, at_ms: int | None = None) -> ErrorInfo:
    """For an event. `at_ms`: when it happened, from which the endpoint's wish to wait counts."""
    wait = failure.retry_after
    retry_at = at_ms / 1000 + wait if at_ms is not None and wait is not None else None
    return ErrorInfo(classify(failure), failure.message, failure.status, retry_at)


def describe_retry(status: StatusSeen) -> ErrorInfo:
    """For the wait before OpenCode's next try. It tells the endpoint's words, not its status."""
    rate = status.limited or _RATE.search(status.message)
    kind = ErrorClass.RATE_LIMIT if rate else ErrorClass.OVERLOADED
    retry_at = status.at / 1000 if status.at is not None else None
    message = status.message or "the model endpoint failed"
    return ErrorInfo(kind, message, retry_at=retry_at, retrying=True)


__all__ = ["classify", "describe", "describe_retry"]
