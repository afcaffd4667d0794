"""Driver for Claude Code. `harness` is what the entry point names."""

from __future__ import annotations

from .driver import ClaudeHarness

harness = ClaudeHarness()

__all__ = ["harness"]
