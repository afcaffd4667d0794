"""What a headless session of Claude can do."""

from __future__ import annotations

from typing import Final

from relay_runtime.contract import Capabilities, Mode

from .writes import BY_LIFECYCLE

CAPABILITIES: Final = Capabilities(
    modes=frozenset({Mode.HEADLESS}),
    boundary="claude.session_state",
    evidence=BY_LIFECYCLE,
    steer=True,
    permissions=True,
    max_input_bytes=4_000_000,  # the largest that was tried; it arrived unchanged
)
