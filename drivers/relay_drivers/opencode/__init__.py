"""OpenCode, driven through `opencode serve`: HTTP to write, its event stream to know.

One server per session, on 127.0.0.1 with a port of its own choice and a random password. Everything
that the server says goes through `protocol` (payloads to values) and `fold` (values to events), both
pure; `session` connects, repairs gaps and writes.
"""

from __future__ import annotations

from .harness import OpencodeHarness

harness = OpencodeHarness()

__all__ = ["harness"]
