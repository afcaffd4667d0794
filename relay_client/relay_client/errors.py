"""What a call of the relay can raise, by what the caller can do about it.

    RelayError
    ├── Retryable          the same call may succeed later
    │   ├── Unreachable    no connection, or it broke: the call may have been carried out, or not
    │   ├── Busy           the relay is overloaded or stopping: after `retry_after` seconds
    │   └── Faulty         it failed inside; its log has more under the reference in the message
    ├── Rejected           the call is refused and would be again: `status`, `code`, `candidates`
    └── Misunderstood      what answers is no relay, or one of an incompatible version

Repeating a call is harmless when it only reads, reports receipts, or sends with an idempotency key.
"""

from __future__ import annotations


class RelayError(Exception):
    """Base of everything the client raises."""


class Retryable(RelayError):
    """Base of errors that may go away by themselves."""


class Unreachable(Retryable):
    """Raised when the relay cannot be reached or the connection broke before the whole answer."""

    def __init__(self, url: str, reason: object) -> None:
        super().__init__(f"the relay at {url} does not answer ({reason}): is it running?")
        self.url = url


class Busy(Retryable):
    """Raised when the relay asks to come back later. `retry_after` is in seconds."""

    def __init__(self, code: str, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Faulty(Retryable):
    """Raised when the relay failed inside."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Rejected(RelayError):
    """Raised when the relay refuses. `code` is stable; `candidates` are what was perhaps meant."""

    def __init__(
        self, status: int, code: str, message: str, candidates: list[str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.candidates = candidates or []


class Misunderstood(RelayError):
    """Raised when an answer is not what a relay says."""

    def __init__(self, url: str, reason: object) -> None:
        super().__init__(f"what answers at {url} is not a relay this client knows: {reason}")
        self.url = url


__all__ = [
    "Busy",
    "Faulty",
    "Misunderstood",
    "Rejected",
    "RelayError",
    "Retryable",
    "Unreachable",
]
