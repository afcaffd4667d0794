"""What codex says about an error, as something the runtime can act on. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from relay_runtime.events import ErrorClass, ErrorInfo, clip

from .read import Obj, number, sub, text

#: An error is one line in a table, not a page of HTML of somebody's proxy.
MAX_MESSAGE: Final = 500

_BY_NAME: Final = {
    "unauthorized": ErrorClass.AUTH,
    "usageLimitExceeded": ErrorClass.RATE_LIMIT,
    "rateLimitExceeded": ErrorClass.RATE_LIMIT,
    "serverOverloaded": ErrorClass.OVERLOADED,
    "internalServerError": ErrorClass.OVERLOADED,
    "policyCapacityUnavailable": ErrorClass.OVERLOADED,
    "flexUnavailable": ErrorClass.OVERLOADED,
}
# Errors about the connection carry a status when the endpoint gave one, and then it decides.
_WITH_STATUS: Final = (
    "httpConnectionFailed",
    "responseStreamConnectionFailed",
    "responseStreamDisconnected",
    "responseTooManyFailedAttempts",
)
# Codex names no class for these when its own retries are used up; the words are all there is.
_NETWORK: Final = re.compile(r"(?i)^stream disconnected|^connection failed|error sending request")
_NO_KEY: Final = re.compile(r"^Missing environment variable")

_RELATIVE: Final = re.compile(r"(?i)try again in (\d+(?:\.\d+)?)\s*(ms|s|sec|min|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_CLOCK: Final = re.compile(
    r"(?i)try again at (?:([A-Z][a-z]{2}) (\d{1,2})(?:st|nd|rd|th), (\d{4}) )?(\d{1,2}):(\d\d) ([AP])M"
)


def error_info(
    error: Obj,
    at: float,
    *,
    retrying: bool = False,
    resets_at: float | None = None,
    zone: tzinfo | None = None,
) -> ErrorInfo:
    """An error of codex at the time `at` (seconds since the epoch).

    `resets_at` is when the exhausted limit of the account resets, if codex told. `zone` is the one
    in which the agent's process writes times; None is this machine's.
    """
    message, status = _message(error), _status(error)
    kind = _classify(error, message, status)
    retry_at = None
    if kind is ErrorClass.RATE_LIMIT:
        retry_at = resets_at if resets_at is not None and resets_at > at else None
        retry_at = retry_at or _told_time(message, at, zone)
    return ErrorInfo(kind, clip(message, MAX_MESSAGE), status, retry_at, retrying)


def _message(error: Obj) -> str:
    """Its first line; while codex retries, the details are what happened."""
    said = text(error, "message") or "codex reports an error without saying which"
    details = text(error, "additionalDetails")
    lines = (f"{said} ({details})" if details else said).strip().splitlines()
    return lines[0] if lines else said


def _status(error: Obj) -> int | None:
    info = sub(error, "codexErrorInfo")
    for name in _WITH_STATUS:
        found = number(sub(info, name), "httpStatusCode")
        if found is not None:
            return int(found)
    return None


def _classify(error: Obj, message: str, status: int | None) -> ErrorClass:
    if status is not None:
        if status in (401, 403):
            return ErrorClass.AUTH
        if status == 429:
            return ErrorClass.RATE_LIMIT
        return ErrorClass.OVERLOADED if status >= 500 else ErrorClass.OTHER
    if _NO_KEY.search(message):
        return ErrorClass.AUTH
    named = _BY_NAME.get(text(error, "codexErrorInfo"))
    if named is not None:
        return named
    lost = any(name in sub(error, "codexErrorInfo") for name in _WITH_STATUS)
    if lost or _NETWORK.search(text(error, "message")):
        return ErrorClass.OVERLOADED
    return ErrorClass.OTHER


def _told_time(message: str, at: float, zone: tzinfo | None) -> float | None:
    """The time in "try again in 3s", "… at 12:45 PM" or "… at Nov 22nd, 2026 12:45 PM"."""
    if found := _RELATIVE.search(message):
        return at + float(found[1]) * _UNITS[found[2].lower()]
    found = _CLOCK.search(message)
    if found is None:
        return None
    now = datetime.fromtimestamp(at, UTC).astimezone(zone)
    hour = int(found[4]) % 12 + (12 if found[6].upper() == "P" else 0)
    try:
        if found[1]:
            day = datetime.strptime(f"{found[1]} {found[2]} {found[3]}", "%b %d %Y")
            then = day.replace(hour=hour, minute=int(found[5]), tzinfo=now.tzinfo)
        else:
            then = now.replace(hour=hour, minute=int(found[5]), second=0, microsecond=0)
            # It names the minute only: a time just past is this minute, else it is tomorrow's.
            if then < now - timedelta(minutes=1):
                then += timedelta(days=1)
    except ValueError:
        return None
    # The minute it names has begun when its limit resets; the end of it is never too early.
    return then.timestamp() + 60


__all__ = ["error_info"]
