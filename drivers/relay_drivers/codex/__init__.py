"""The driver for OpenAI's Codex CLI. `harness` is its entry point."""

from __future__ import annotations

from .driver import CodexHarness

harness = CodexHarness()

__all__ = ["CodexHarness", "harness"]
